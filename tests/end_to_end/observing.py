"""Watching the network from a host: what came back, what got through, and when it ceased to.

It must not know servers or clients, only hosts, addresses and ports.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import struct
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from tests.lab import Address, Host

CONTROL_PORT = 9
"""A TCP port without listener and outside the perimeter: a SYN to it must be answered with a reset."""

_ETH_P_ALL = 0x0003
_PACKET_HOST, _PACKET_OTHERHOST, _PACKET_OUTGOING = 0, 3, 4
_ARP, _IPV4, _IPV6 = 0x0806, 0x0800, 0x86DD
_NEIGHBOUR_DISCOVERY = (*range(130, 138), 143)
"""ICMPv6 types of RFC 4861 and of multicast listeners: IPv6's ARP, not an answer to anybody's probe."""


def family_of(address: Address) -> socket.AddressFamily:
    """The socket family of an address."""
    return socket.AF_INET if address.version == 4 else socket.AF_INET6


class Capture:
    """Every packet that comes to one host; address resolution is left out, which serves any host on a link."""

    def __init__(self, host: Host, interface: str = "eth0") -> None:
        self._host = host
        self._socket = host.new_socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_P_ALL))
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
        self._socket.bind((interface, 0))

    def __enter__(self) -> Capture:
        return self

    def __exit__(self, *exc: object) -> None:
        self._socket.close()

    def packets(self, control: Address, quiet_s: float = 0.15) -> list[str]:
        """What has come since the last call, each in words; waits until it has been quiet for a while.

        A SYN to `control`'s CONTROL_PORT is sent first: its reset must be among what is seen, so that an empty list
        says that nothing came, not that nothing was heard.
        """
        with contextlib.suppress(ConnectionRefusedError):
            self._host.connect_tcp(control, CONTROL_PORT).close()
        self._socket.settimeout(quiet_s)
        seen: list[str] = []
        with contextlib.suppress(TimeoutError):
            while True:
                frame, (_, _, kind, *_) = self._socket.recvfrom(65535)
                if kind not in (_PACKET_OTHERHOST, _PACKET_OUTGOING) and (words := _in_words(frame)):
                    seen.append(words)
        resets = [words for words in seen if _is_control(words, control)]
        assert resets, f"the capture hears nothing, not even a reset from {control}: {seen}"
        return [words for words in seen if words not in resets]


def _is_control(words: str, control: Address) -> bool:
    return words.startswith(f"{control} tcp {CONTROL_PORT} ")


def _in_words(frame: bytes) -> str:
    """An incoming frame as "SOURCE PROTOCOL DETAIL", or "" for address resolution."""
    ethertype = int.from_bytes(frame[12:14], "big")
    packet = frame[14:]
    if ethertype == _ARP:
        return ""
    if ethertype == _IPV4:
        source, protocol, rest = packet[12:16], packet[9], packet[(packet[0] & 15) * 4 :]
        return f"{socket.inet_ntop(socket.AF_INET, source)} {_transport(protocol, rest)}"
    if ethertype == _IPV6:
        protocol, rest = packet[6], packet[40:]
        if protocol == 0:  # hop by hop, as multicast listener reports have
            protocol, rest = rest[0], rest[8:]
        if protocol == socket.IPPROTO_ICMPV6 and rest[0] in _NEIGHBOUR_DISCOVERY:
            return ""
        return f"{socket.inet_ntop(socket.AF_INET6, packet[8:24])} {_transport(protocol, rest)}"
    return f"ethertype {ethertype:#x} {frame.hex()}"


def _transport(protocol: int, rest: bytes) -> str:
    if protocol == socket.IPPROTO_TCP:
        return f"tcp {int.from_bytes(rest[:2], 'big')} flags {rest[13]:#x}"
    if protocol == socket.IPPROTO_UDP:
        return f"udp {int.from_bytes(rest[:2], 'big')} payload {rest[8:].hex()}"
    return f"protocol {protocol} {rest.hex()}"


def probe(host: Host, to: Address, tcp: Sequence[int], udp: Sequence[int]) -> None:
    """Send a SYN to each TCP port, and an empty, a short and a knock-sized datagram to each UDP port."""
    family = family_of(to)
    for port in tcp:
        with host.new_socket(family, socket.SOCK_STREAM) as sock:
            sock.setblocking(False)
            assert sock.connect_ex((str(to), port)) == errno.EINPROGRESS
    with host.new_socket(family, socket.SOCK_DGRAM) as sock:
        for port in udp:
            for payload in (b"", b"?", os.urandom(512)):
                sock.sendto(payload, (str(to), port))


@dataclass(slots=True)
class Edge:
    """When something that was let through ceased to be: after `last_s`, before `first_not_s` (monotonic seconds)."""

    last_s: float = 0.0
    first_not_s: float = float("inf")

    def note(self, at_s: float, passed: bool) -> None:
        """One attempt, sent at that time."""
        if passed:
            self.last_s = max(self.last_s, at_s)
        else:
            self.first_not_s = min(self.first_not_s, at_s)

    def deviation_ms(self, due_s: float) -> float:
        """How far from its time it ceased, at the most that the attempts on both sides leave room for."""
        late, early = (self.last_s - due_s) * 1000, (self.first_not_s - due_s) * 1000
        return late if late > 0 else min(0.0, early)


@dataclass(slots=True)
class Prober:
    """Attempts from one host to another, every few milliseconds: a datagram and a new connection, by each family."""

    source: Host
    target: Host
    port: int
    gap_s: float = 0.005
    edges: dict[str, Edge] = field(default_factory=dict)

    def run_until(self, end_s: float) -> None:
        """Try until that time, and then say in `edges` when each way ceased, by "tcp 4", "udp 6" and so on."""
        with contextlib.ExitStack() as stack:
            listener = stack.enter_context(self.target.listen_tcp(self.port))
            receiver = stack.enter_context(self.target.bind_udp(self.port))
            senders = {
                version: stack.enter_context(self.source.new_socket(family_of(address), socket.SOCK_DGRAM))
                for version, address in self._addresses()
            }
            listener.setblocking(False)
            receiver.setblocking(False)
            sent: list[tuple[str, float]] = []
            arrived: set[int] = set()
            open_attempts: list[tuple[float, str, socket.socket]] = []
            while (now_s := time.monotonic()) < end_s:
                for version, address in self._addresses():
                    at_s = time.monotonic()
                    senders[version].sendto(struct.pack("=I", len(sent)), (str(address), self.port))
                    sent.append((f"udp {version}", at_s))
                    open_attempts.append((time.monotonic(), f"tcp {version}", self._connecting(address)))
                arrived.update(struct.unpack("=I", data)[0] for data in _drained(receiver))
                self._settle(open_attempts, now_s - 0.1)
                _accept_all(listener)
                time.sleep(max(0.0, now_s + self.gap_s - time.monotonic()))
            arrived.update(struct.unpack("=I", data)[0] for data in _drained(receiver))
            self._settle(open_attempts, end_s + 1)
            for number, (way, at_s) in enumerate(sent):
                self._edge(way).note(at_s, number in arrived)

    def _addresses(self) -> Iterator[tuple[int, Address]]:
        for version in (4, 6):
            yield version, self.target.address(version)

    def _connecting(self, address: Address) -> socket.socket:
        sock = self.source.new_socket(family_of(address), socket.SOCK_STREAM)
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock.connect_ex((str(address), self.port))
        return sock

    def _settle(self, attempts: list[tuple[float, str, socket.socket]], before_s: float) -> None:
        """Take note of attempts old enough to be decided: far older than a round trip, younger than a second SYN."""
        while attempts and attempts[0][0] < before_s:
            at_s, way, sock = attempts.pop(0)
            with sock:
                self._edge(way).note(at_s, _is_connected(sock))

    def _edge(self, way: str) -> Edge:
        return self.edges.setdefault(way, Edge())


def _drained(sock: socket.socket) -> Iterator[bytes]:
    with contextlib.suppress(BlockingIOError):
        while True:
            yield sock.recv(2048)


def _accept_all(listener: socket.socket) -> None:
    with contextlib.suppress(BlockingIOError):
        while True:
            listener.accept()[0].close()


def reached(host: Host, to: Address, ports: Sequence[int], patience_s: float = 0.15) -> set[int]:
    """The TCP ports, tried all at once, that accept a connection within that time."""
    with contextlib.ExitStack() as stack:
        attempts: dict[int, socket.socket] = {}
        for port in ports:
            attempts[port] = stack.enter_context(host.new_socket(family_of(to), socket.SOCK_STREAM))
            attempts[port].setblocking(False)
            attempts[port].connect_ex((str(to), port))
        time.sleep(patience_s)
        return {port for port, sock in attempts.items() if _is_connected(sock)}


def _is_connected(sock: socket.socket) -> bool:
    try:
        sock.getpeername()
    except OSError:
        return False
    return True


def udp_passes(source: Host, target: Host, port: int, version: int, to: Address | None = None) -> bool:
    """Whether a datagram from one host reaches a socket of the other, and its echo comes back."""
    to = to or target.address(version)
    with target.bind_udp(port) as receiver, source.new_socket(family_of(to), socket.SOCK_DGRAM) as sender:
        return echoes(sender, receiver, (str(to), port))


def echoes(sender: socket.socket, receiver: socket.socket, to: tuple[str, int], patience_s: float = 0.25) -> bool:
    """Whether what the sender says to that place reaches the receiver, and the receiver's word comes back."""
    sender.settimeout(patience_s)
    receiver.settimeout(patience_s)
    try:
        sender.sendto(b"there?", to)
        _, peer = receiver.recvfrom(64)
        receiver.sendto(b"here", peer)
        return sender.recv(64) == b"here"
    except TimeoutError:
        return False


def seconds_until(true: Callable[[], bool], patience_s: float = 5.0) -> float:
    """How long it takes until the condition holds; AssertionError after the patience."""
    begun_s = time.monotonic()
    while not true():
        assert time.monotonic() - begun_s < patience_s, f"not within {patience_s:g} s"
        time.sleep(0.002)
    return time.monotonic() - begun_s
