"""Watching the network from a host: what came back, and what got through.

It must not know servers or clients, only hosts, addresses and ports.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import time
from collections.abc import Collection, Sequence

from tests.lab import Address, Host

CONTROL_PORT = 9
"""A TCP port without listener and outside the perimeter: a SYN to it must be answered with a reset."""

PATIENCE_S = 10.0
"""How long what should come through is waited for; it comes at once unless the machine stands still."""
QUIET_S = 0.15
"""How long nothing must have come until nothing is believed to come: far longer than any way through here takes."""

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

    def packets(self, control: Address, quiet_s: float = QUIET_S) -> list[str]:
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


def reached(host: Host, to: Address, ports: Sequence[int], awaited: Collection[int] = ()) -> set[int]:
    """The TCP ports, tried all at once, that accept a connection; the ones awaited are given all the time they need."""
    with contextlib.ExitStack() as stack:
        attempts: dict[int, socket.socket] = {}
        for port in ports:
            attempts[port] = stack.enter_context(host.new_socket(family_of(to), socket.SOCK_STREAM))
            attempts[port].setblocking(False)
            attempts[port].connect_ex((str(to), port))
        end_s = time.monotonic() + PATIENCE_S
        while not all(is_connected(attempts[port]) for port in awaited) and time.monotonic() < end_s:
            time.sleep(0.005)
        time.sleep(QUIET_S)
        return {port for port, sock in attempts.items() if is_connected(sock)}


def is_connected(sock: socket.socket) -> bool:
    try:
        sock.getpeername()
    except OSError:
        return False
    return True


def udp_passes(source: Host, target: Host, port: int, version: int, patience_s: float = PATIENCE_S) -> bool:
    """Whether a datagram from one host reaches a socket of the other, and its echo comes back."""
    to = target.address(version)
    with target.bind_udp(port) as receiver, source.new_socket(family_of(to), socket.SOCK_DGRAM) as sender:
        return echoes(sender, receiver, (str(to), port), patience_s)


def echoes(sender: socket.socket, receiver: socket.socket, to: tuple[str, int], patience_s: float = PATIENCE_S) -> bool:
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
