"""The datagram sockets on the knock ports: what came, from where, and to which address of this host.

The address a knock was sent to matters: a lease opens towards that address, and the answer must leave from it. Linux
tells it by IP_PKTINFO (ip(7)) and IPV6_PKTINFO (RFC 3542, section 4). It must not know what a datagram says.
"""

from __future__ import annotations

import errno
import logging
import os
import socket
import struct
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Any

from spa_protocol.seal import DATAGRAM_SIZE
from spa_server.decide.decision import Path
from spa_server.service import Address

log = logging.getLogger("spa.sockets")

IP_PKTINFO = 8
"""From linux/in.h; Python 3.11's socket module does not name it, nor the next two."""
IP_FREEBIND = 15
IPV6_FREEBIND = 78
RECEIVE_BUFFER_BYTES = 1 << 20
MOST_AT_ONCE = 64
"""Datagrams read before other work gets its turn."""

_NO_FAMILY = (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL)


class PortTaken(Exception):
    """A knock port cannot be bound; the message says why and what to do."""


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


def bind_knock_sockets(
    addresses: Sequence[Address], ports: Sequence[int], kept: Collection[socket.socket] = ()
) -> list[socket.socket]:
    """One non-blocking UDP socket for each address and port. Raises PortTaken.

    `kept`: sockets bound before; one that fits is taken instead of a new one, and those that do not fit are left open
    and are no hindrance. A family that this host does not have is left out, with a line in the log, as long as one
    remains. An address that no interface has (yet) is listened on all the same, with a line in the log.
    """
    places = [(address, port) for port in ports for address in addresses]
    fitting = {place: next((sock for sock in kept if _fits(sock, *place)), None) for place in places}
    leaving = [sock for sock in kept if sock not in fitting.values()]
    bound: list[socket.socket] = []
    for address, port in places:
        try:
            bound.append(fitting[address, port] or _bind(address, port, leaving))
        except OSError as error:
            if error.errno in _NO_FAMILY and address.is_unspecified and len(addresses) > 1:
                log.warning("not listening on %s udp/%d: %s", address, port, error.strerror)
                continue
            for made in bound:
                if made not in kept:
                    made.close()
            raise PortTaken(_why(address, port, error)) from error
        if port == ports[0] and not is_here(address):
            log.warning("no interface has the address %s of server.listen; knocks are heard once one has it", address)
    if not bound:
        raise PortTaken("this host has none of the address families in server.listen")
    return bound


def is_here(address: Address) -> bool:
    """Whether an interface of this host has the address."""
    try:
        with socket.socket(_family(address), socket.SOCK_DGRAM) as probe:
            probe.bind((str(address), 0))
    except OSError as error:
        # A link-local address needs a link to be bound to (EINVAL), which the configuration does not name.
        return error.errno != errno.EADDRNOTAVAIL
    return True


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


def _family(address: Address) -> socket.AddressFamily:
    return socket.AF_INET if address.version == 4 else socket.AF_INET6


def _fits(sock: socket.socket, address: Address, port: int) -> bool:
    """Whether a socket is bound just as `_bind` would bind one."""
    if (sock.family, sock.type) != (_family(address), socket.SOCK_DGRAM) or sock.getsockname()[:2] != (
        str(address),
        port,
    ):
        return False
    if sock.family == socket.AF_INET6 and not sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY):
        return False
    _prepare(sock)
    return True


def _bind(address: Address, port: int, leaving: Collection[socket.socket]) -> socket.socket:
    sock = socket.socket(_family(address), socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    try:
        if sock.family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        _prepare(sock)
        with _sharing((sock, *(each for each in leaving if each.getsockname()[1] == port))):
            sock.bind((str(address), port))
    except BaseException:
        sock.close()
        raise
    return sock


def _prepare(sock: socket.socket) -> None:
    sock.setblocking(False)
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
        sock.setsockopt(socket.IPPROTO_IPV6, IPV6_FREEBIND, 1)
    else:
        sock.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)
        sock.setsockopt(socket.IPPROTO_IP, IP_FREEBIND, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)


@contextmanager
def _sharing(sockets: Sequence[socket.socket]) -> Iterator[None]:
    """Let these share a port for the moment of a bind: from all addresses to one of them, or back (socket(7)).

    No longer than that, because then another program that asks for it could share the port, too.
    """
    if len(sockets) < 2:
        yield
        return
    for sock in sockets:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        yield
    finally:
        for sock in sockets:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)


def _why(address: Address, port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"udp/{port} is in use by another program; find it with: ss -lunp 'sport = :{port}'"
    if error.errno in (errno.EACCES, errno.EPERM):
        return (
            f"user {os.geteuid()} may not listen on udp/{port}: a port below 1024 is bound at the server's start only. "
            "Run spa-server install again; without systemd, start the server anew; or choose a port of 1024 or more"
        )
    return f"cannot listen on {address} udp/{port}: {error.strerror}; check server.listen and the knock ports"


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
