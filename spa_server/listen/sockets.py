"""The datagram sockets on the knock port: what came, from where, and to which address of this host.

The address a knock was sent to matters: a lease opens towards that address, and the answer must leave from it. Linux
tells it by IP_PKTINFO (ip(7)) and IPV6_PKTINFO (RFC 3542, section 4). It must not know what a datagram says.
"""

from __future__ import annotations

import errno
import logging
import socket
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Any

from spa_protocol.seal import DATAGRAM_SIZE
from spa_server.decide.decision import Path
from spa_server.service import Address

log = logging.getLogger("spa.sockets")

IP_PKTINFO = 8
"""From linux/in.h; Python 3.11's socket module does not name it."""
RECEIVE_BUFFER_BYTES = 1 << 20
MOST_AT_ONCE = 64
"""Datagrams read before other work gets its turn."""

_NO_FAMILY = (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL)


class PortTaken(Exception):
    """The knock port cannot be bound; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Received:
    """A datagram, its path, and what the answer needs: the peer as the socket names it."""

    datagram: bytes
    path: Path
    peer: tuple[Any, ...]

    @property
    def source_port(self) -> int:
        """The sender's UDP port."""
        return int(self.peer[1])


def bind_knock_sockets(addresses: Sequence[Address], port: int) -> list[socket.socket]:
    """One non-blocking UDP socket for each address. Raises PortTaken.

    A family that this host does not have is left out, with a line in the log, as long as one remains.
    """
    bound: list[socket.socket] = []
    for address in addresses:
        try:
            bound.append(_bind(address, port))
        except OSError as error:
            if error.errno in _NO_FAMILY and address.is_unspecified and len(addresses) > 1:
                log.warning("not listening on %s: %s", address, error.strerror)
                continue
            for made in bound:
                made.close()
            raise PortTaken(_why(address, port, error)) from error
    if not bound:
        raise PortTaken("this host has none of the address families in server.listen")
    return bound


def receive(sock: socket.socket) -> Iterator[Received]:
    """What waits on the socket, at most MOST_AT_ONCE datagrams; those that cannot be a knock are left out."""
    for _ in range(MOST_AT_ONCE):
        try:
            datagram, control, _flags, peer = sock.recvmsg(DATAGRAM_SIZE + 1, 128)
        except BlockingIOError:
            return
        except OSError as error:
            log.warning("receiving failed: %s", error.strerror)
            return
        destination = _destination(control)
        if len(datagram) == DATAGRAM_SIZE and destination is not None and not destination.is_multicast:
            yield Received(datagram, Path(_address(peer[0]), destination), peer)


def answer(sock: socket.socket, received: Received, datagram: bytes) -> None:
    """Send the answer back from the address that was knocked at. A lost answer is the client's to miss."""
    destination = received.path.destination
    if isinstance(destination, IPv4Address):
        control = (socket.IPPROTO_IP, IP_PKTINFO, struct.pack("=i4s4x", 0, destination.packed))
    else:
        scope = received.peer[3] if destination.is_link_local else 0
        control = (socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, destination.packed + struct.pack("=I", scope))
    try:
        sock.sendmsg([datagram], [control], 0, received.peer)
    except OSError as error:
        log.warning("the answer to %s was not sent: %s", received.path.source, error.strerror)


def _bind(address: Address, port: int) -> socket.socket:
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    sock = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    try:
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
        else:
            sock.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
        sock.bind((str(address), port))
    except BaseException:
        sock.close()
        raise
    return sock


def _why(address: Address, port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"udp/{port} is in use by another program; find it with: ss -lunp 'sport = :{port}'"
    return f"cannot listen on {address} udp/{port}: {error.strerror}; check server.listen and server.knock_port"


def _address(text: str) -> Address:
    if ":" not in text:
        return IPv4Address(text)
    return IPv6Address(text.partition("%")[0])


def _destination(control: list[tuple[int, int, bytes]]) -> Address | None:
    for level, kind, data in control:
        if (level, kind) == (socket.IPPROTO_IP, IP_PKTINFO):
            return IPv4Address(data[8:12])
        if (level, kind) == (socket.IPPROTO_IPV6, socket.IPV6_PKTINFO):
            return IPv6Address(data[:16])
    return None
