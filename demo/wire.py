"""What really passes on a wire: a capture with the kernel's timestamps, and TCP SYNs made by hand.

For the demonstration and the benchmarks. Linux and root only. It must not know of knocks.
"""

from __future__ import annotations

import contextlib
import random
import select
import socket
import struct
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from tests.lab import Address, Host

ETH_P_ALL, ETH_P_IP, ETH_P_IPV6 = 0x0003, 0x0800, 0x86DD
SO_TIMESTAMPNS = 35
"""From asm-generic/socket.h; Python 3.11's socket module does not name it."""
PACKET_OUTGOING = 4
IP_FREEBIND, IPV6_FREEBIND = 15, 78
"""From linux/in.h and linux/in6.h: a socket may then use an address that is only routed to its host."""
NEIGHBOUR_DISCOVERY = range(133, 138)
"""ICMPv6 types (RFC 4861): how IPv6 finds a host on its own segment, as ARP does for IPv4."""
CAPTURE_BUFFER_BYTES = 4 << 20
TCP, UDP, ICMPV6 = 6, 17, 58
SYN, ACK = 0x02, 0x10


@dataclass(frozen=True, slots=True)
class Packet:
    """One IP packet on the wire. `at_ns`: the kernel's timestamp, UTC since 1970. `segment`: TCP, UDP or ICMP."""

    at_ns: int
    outgoing: bool
    source: Address
    destination: Address
    protocol: int
    segment: bytes

    @property
    def ports(self) -> tuple[int, int]:
        """Source and destination port, of TCP and UDP."""
        source, destination = struct.unpack_from("!HH", self.segment)
        return source, destination

    @property
    def payload(self) -> bytes:
        """What a UDP datagram holds."""
        return self.segment[8:]

    @property
    def is_syn(self) -> bool:
        """Whether it asks for a TCP connection."""
        return self.protocol == TCP and self.segment[13] & (SYN | ACK) == SYN

    @property
    def is_syn_ack(self) -> bool:
        """Whether it accepts a TCP connection."""
        return self.protocol == TCP and self.segment[13] & (SYN | ACK) == SYN | ACK

    @property
    def is_housekeeping(self) -> bool:
        """Whether it only finds the neighbour's hardware address, which any host on a segment does."""
        return self.protocol == ICMPV6 and self.segment[0] in NEIGHBOUR_DISCOVERY


class Capture:
    """Every IP packet that passes a host's interface from now on. Close it, or use it as a context manager."""

    def __init__(self, host: Host, interface: str = "eth0") -> None:
        self._socket = host.new_socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
        self._socket.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, CAPTURE_BUFFER_BYTES)
        self._socket.setblocking(False)
        self._socket.bind((interface, ETH_P_ALL))
        self.drain()

    def __enter__(self) -> Capture:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def read(self, wait_s: float = 0.0) -> Iterator[Packet]:
        """What was captured and not read yet; waits at most that long for the first."""
        if wait_s > 0:
            select.select([self._socket], [], [], wait_s)
        while True:
            try:
                frame, control, _, sender = self._socket.recvmsg(2048, 64)
            except BlockingIOError:
                return
            packet = _parse(frame, _timestamp_ns(control), sender[2] == PACKET_OUTGOING)
            if packet is not None:
                yield packet

    def gather(self, for_s: float) -> list[Packet]:
        """All that passes from the last reading until that many seconds from now."""
        end_s = time.monotonic() + for_s
        found = list(self.read())
        while (left_s := end_s - time.monotonic()) > 0:
            found += self.read(left_s)
        return found

    def drain(self) -> None:
        """Forget what was captured."""
        for _ in self.read():
            pass

    def first(self, wanted: Callable[[Packet], bool], patience_s: float) -> Packet | None:
        """The first packet that is wanted, or None when none came in that time; what came before is forgotten."""
        end_s = time.monotonic() + patience_s
        while (left_s := end_s - time.monotonic()) > 0:
            for packet in self.read(left_s):
                if wanted(packet):
                    return packet
        return None


class SynProbe:
    """Single SYNs from a host's address to one port, each from another source port, outside of the host's TCP.

    The host's own TCP answers an acceptance with RST, so that nothing stays half open.
    """

    def __init__(self, host: Host, source: Address, destination: Address, port: int) -> None:
        self._source, self._destination, self._port = source, destination, port
        family = socket.AF_INET if source.version == 4 else socket.AF_INET6
        self._socket = host.new_socket(family, socket.SOCK_RAW, socket.IPPROTO_TCP)
        _bind_freely(self._socket, source)
        self._next_port = random.randrange(20_000, 40_000)

    def __enter__(self) -> SynProbe:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def send(self) -> int:
        """Send one; its source port."""
        self._next_port += 1
        segment = syn_segment(self._source, self._destination, self._next_port, self._port)
        self._socket.sendto(segment, (str(self._destination), 0))
        return self._next_port


def syn_segment(source: Address, destination: Address, source_port: int, destination_port: int) -> bytes:
    """A TCP SYN without options (RFC 9293, section 3.1)."""
    header = struct.pack(
        "!HHIIBBHHH", source_port, destination_port, random.getrandbits(32), 0, 5 << 4, SYN, 64_240, 0, 0
    )
    pseudo = source.packed + destination.packed + struct.pack("!II", len(header), TCP)
    return header[:16] + struct.pack("!H", _checksum(pseudo + header)) + header[18:]


@contextlib.contextmanager
def udp_socket(host: Host, source: Address) -> Iterator[socket.socket]:
    """A UDP socket on a host that sends from that address, also from one that is only routed to the host."""
    sock = host.new_socket(socket.AF_INET if source.version == 4 else socket.AF_INET6, socket.SOCK_DGRAM)
    with sock:
        _bind_freely(sock, source)
        yield sock


def _bind_freely(sock: socket.socket, source: Address) -> None:
    if source.version == 4:
        sock.setsockopt(socket.IPPROTO_IP, IP_FREEBIND, 1)
    else:
        sock.setsockopt(socket.IPPROTO_IPV6, IPV6_FREEBIND, 1)
    sock.bind((str(source), 0))


def _checksum(data: bytes) -> int:
    """The internet checksum (RFC 1071) of an even number of bytes."""
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def _timestamp_ns(control: list[tuple[int, int, bytes]]) -> int:
    for level, kind, data in control:
        if (level, kind) == (socket.SOL_SOCKET, SO_TIMESTAMPNS):
            seconds, nanoseconds = struct.unpack("=qq", data)
            return int(seconds * 1_000_000_000 + nanoseconds)
    return 0


def _parse(frame: bytes, at_ns: int, outgoing: bool) -> Packet | None:
    kind, packet = int.from_bytes(frame[12:14], "big"), frame[14:]
    if kind == ETH_P_IP:
        start, end = (packet[0] & 0x0F) * 4, int.from_bytes(packet[2:4], "big")
        source, destination = IPv4Address(packet[12:16]), IPv4Address(packet[16:20])
        return Packet(at_ns, outgoing, source, destination, packet[9], packet[start:end])
    if kind == ETH_P_IPV6:
        end = 40 + int.from_bytes(packet[4:6], "big")
        source6, destination6 = IPv6Address(packet[8:24]), IPv6Address(packet[24:40])
        return Packet(at_ns, outgoing, source6, destination6, packet[6], packet[40:end])
    return None
