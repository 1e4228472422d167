"""Ending live sessions: connection tracking entries are deleted, local sockets destroyed.

Removing a lease stops a session's packets where services are cut at expiry; this ends the session itself, also where
sessions may outlive their lease. It must not know of leases, only of tuples.

Sources: the kernel's include/uapi/linux/netfilter/nfnetlink_conntrack.h, inet_diag.h and sock_diag.h.
"""

from __future__ import annotations

import contextlib
import errno
import socket
import struct
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address

from spa_server.enforce.netlink import (
    KernelError,
    NetlinkSocket,
    attribute,
    attributes,
    nested,
)
from spa_server.traffic import Traffic

Address = IPv4Address | IPv6Address

PROTOCOLS = {"tcp": socket.IPPROTO_TCP, "udp": socket.IPPROTO_UDP}
PROTOCOL_NAMES = {int(number): name for name, number in PROTOCOLS.items()}

NETLINK_SOCK_DIAG, NETLINK_NETFILTER = 4, 12

NFNL_SUBSYS_CTNETLINK = 1
IPCTNL_MSG_CT_GET, IPCTNL_MSG_CT_DELETE = (NFNL_SUBSYS_CTNETLINK << 8 | kind for kind in (1, 2))
CTA_TUPLE_ORIG, CTA_TUPLE_REPLY, CTA_ID, CTA_ZONE, CTA_LABELS, CTA_FILTER = 1, 2, 12, 18, 22, 25
CTA_COUNTERS_ORIG, CTA_COUNTERS_REPLY = 9, 10
CTA_COUNTERS_PACKETS, CTA_COUNTERS_BYTES = 1, 2
CTA_TUPLE_IP, CTA_TUPLE_PROTO = 1, 2
CTA_IP_SOURCE, CTA_IP_DESTINATION = {4: 1, 6: 3}, {4: 2, 6: 4}
CTA_PROTO_NUM, CTA_PROTO_SRC_PORT, CTA_PROTO_DST_PORT = 1, 2, 3
CTA_FILTER_ORIG_FLAGS, CTA_FILTER_REPLY_FLAGS = 1, 2
CTA_FILTER_F_CTA_IP_SRC = 1

ADMITTED_LABEL = 127
"""Connection label that the ruleset gives to flows which a lease admitted."""

SOCK_DIAG_BY_FAMILY, SOCK_DESTROY = 20, 21
CONNECTED_STATES = sum(1 << state for state in (1, 2, 3, 4, 5, 8, 9, 11, 12))
"""Every TCP state but TIME_WAIT, CLOSE and LISTEN (include/net/tcp_states.h); a connected UDP socket is ESTABLISHED."""

_request = struct.Struct("=BBBBI")
"""inet_diag_req_v2 up to its socket id: family, protocol, extensions, padding, states."""
_socket_id = struct.Struct("!HH16s16s")
"""inet_diag_sockid up to the interface: source port, destination port, source, destination."""
SOCKET_ID_LENGTH = 48
NO_COOKIE = b"\xff" * 8

MOST_LISTED_ONE_BY_ONE = 4
"""Sources whose flows are listed each by itself: the kernel then passes over all others'."""


@dataclass(frozen=True, slots=True)
class Target:
    """What `source` has open to (destination, protocol, port), as the client uses it: before destination NAT."""

    source: Address
    destination: Address
    protocol: str
    port: int


@dataclass(frozen=True, slots=True)
class _Tuple:
    source: Address
    destination: Address
    protocol: str
    source_port: int
    port: int

    def target(self) -> Target:
        return Target(self.source, self.destination, self.protocol, self.port)


@dataclass(frozen=True, slots=True)
class Flow:
    """A connection tracking entry: as the client sent it, as the answer comes back, and what names it."""

    original: _Tuple
    reply: _Tuple
    admitted: bool
    handle: bytes
    traffic: Traffic
    """What the kernel counted of it: nothing where it does not count."""

    def endpoint(self) -> Target:
        """Where the flow really ends, after NAT: the one who answers."""
        back = self.reply
        return Target(back.destination, back.source, back.protocol, back.source_port)


def end_flows(targets: Collection[Target]) -> int:
    """End what is open on any of the targets; returns how many flows and sockets were ended.

    Flows of others are not touched, nor listening and unconnected sockets.
    """
    sources = {target.source for target in targets}
    return _end([flow for flow in flows_of(sources) if flow.original.target() in targets], targets)


def end_admitted_flows(source: Address) -> int:
    """End every flow of `source` that a lease once admitted; returns how many flows and sockets were ended."""
    return _end([flow for flow in _flows_from(source) if flow.admitted], ())


def connected_tcp() -> frozenset[tuple[Address, int]]:
    """The peer's address and this host's port of every live TCP connection that ends here."""
    found = set()
    with NetlinkSocket(NETLINK_SOCK_DIAG) as diag:
        for family in (socket.AF_INET, socket.AF_INET6):
            request = _request.pack(family, socket.IPPROTO_TCP, 0, 0, CONNECTED_STATES)
            for identity in _sockets(diag, request):
                target, _ = _ends(family, "tcp", identity)
                found.add((target.source, target.port))
    return frozenset(found)


def _end(flows: Sequence[Flow], targets: Collection[Target]) -> int:
    # By flow, because NAT may have led it to another local port; by target, because not every flow is tracked.
    exact = {(flow.endpoint(), flow.reply.port) for flow in flows}
    # Sockets first: their resets need the connection tracking entry to find the way back through NAT.
    ended = _destroy(exact, targets)
    with NetlinkSocket(NETLINK_NETFILTER) as conntrack:
        for flow in flows:
            payload = _nfgenmsg(flow.original.source) + flow.handle
            with _gone_is_fine():
                conntrack.ask(IPCTNL_MSG_CT_DELETE, payload, "deleting a tracked connection")
                ended += 1
    return ended


def flows_of(sources: Collection[Address]) -> Iterator[Flow]:
    """Every flow of the sources. A listing walks all of the kernel's table, so many sources are met in one."""
    for version in (4, 6):
        wanted = {source for source in sources if source.version == version}
        if len(wanted) <= MOST_LISTED_ONE_BY_ONE:
            for source in wanted:
                yield from _flows_from(source)
        else:
            yield from _listed(_nfgenmsg(next(iter(wanted))), wanted)


def _flows_from(source: Address) -> Iterator[Flow]:
    request = _nfgenmsg(source)
    if source.version == 4:
        # Linux 5.8 and later compare the source in the kernel; older ones list everything, hence the comparison
        # below. Not so for IPv6, where the kernel's comparison is inverted and hides what was asked for (seen on 6.18).
        wanted = nested(CTA_TUPLE_IP, attribute(CTA_IP_SOURCE[4], source.packed))
        only_source = attribute(CTA_FILTER_ORIG_FLAGS, struct.pack("=I", CTA_FILTER_F_CTA_IP_SRC))
        nothing = attribute(CTA_FILTER_REPLY_FLAGS, struct.pack("=I", 0))
        request += nested(CTA_TUPLE_ORIG, wanted) + nested(CTA_FILTER, only_source, nothing)
    return _listed(request, {source})


def _listed(request: bytes, sources: Collection[Address]) -> Iterator[Flow]:
    with NetlinkSocket(NETLINK_NETFILTER) as conntrack:
        replies = conntrack.dump(IPCTNL_MSG_CT_GET, request, "listing tracked connections")
    for reply in replies:
        flow = flow_in(reply.payload[4:], sources)
        if flow is not None:
            yield flow


def _nfgenmsg(address: Address) -> bytes:
    return struct.pack("!BBH", socket.AF_INET if address.version == 4 else socket.AF_INET6, 0, 0)


def flow_in(data: bytes, sources: Collection[Address]) -> Flow | None:
    """The flow that a message's attributes tell of; None where it is not of the sources, or neither TCP nor UDP."""
    found = attributes(data)
    original = _tuple(found.get(CTA_TUPLE_ORIG))
    if original is None or original.source not in sources:
        return None
    reply = _tuple(found.get(CTA_TUPLE_REPLY))
    if reply is None:
        return None
    handle = b"".join(attribute(kind, found[kind]) for kind in (CTA_ID, CTA_ZONE) if kind in found)
    handle += nested(CTA_TUPLE_ORIG, found[CTA_TUPLE_ORIG])
    return Flow(original, reply, _is_admitted(found.get(CTA_LABELS, b"")), handle, _counted(found))


def _counted(found: Mapping[int, bytes]) -> Traffic:
    numbers = []
    for direction in (CTA_COUNTERS_ORIG, CTA_COUNTERS_REPLY):
        counters = attributes(found.get(direction, b""))
        numbers += [
            int.from_bytes(counters.get(kind, b""), "big") for kind in (CTA_COUNTERS_PACKETS, CTA_COUNTERS_BYTES)
        ]
    return Traffic(*numbers)


def _is_admitted(labels: bytes) -> bool:
    """Labels are a bitmap in words of the machine's own size and byte order."""
    word = struct.calcsize("@L")
    words = struct.unpack(f"@{len(labels) // word}L", labels)
    at, bit = divmod(ADMITTED_LABEL, word * 8)
    return at < len(words) and bool(words[at] >> bit & 1)


def _tuple(data: bytes | None) -> _Tuple | None:
    parts = attributes(data or b"")
    addresses, protocol = attributes(parts.get(CTA_TUPLE_IP, b"")), attributes(parts.get(CTA_TUPLE_PROTO, b""))
    version = 4 if CTA_IP_SOURCE[4] in addresses else 6
    name = PROTOCOL_NAMES.get(protocol.get(CTA_PROTO_NUM, b"\0")[0])
    if name is None or CTA_IP_SOURCE[version] not in addresses:
        return None
    return _Tuple(
        source=ip_address(addresses[CTA_IP_SOURCE[version]]),
        destination=ip_address(addresses[CTA_IP_DESTINATION[version]]),
        protocol=name,
        source_port=int.from_bytes(protocol[CTA_PROTO_SRC_PORT], "big"),
        port=int.from_bytes(protocol[CTA_PROTO_DST_PORT], "big"),
    )


def _destroy(exact: Collection[tuple[Target, int]], targets: Collection[Target]) -> int:
    """Destroy connected sockets that are (target, the client's port) in `exact`, or in `targets` at any port."""
    protocols = {target.protocol for target in (*targets, *(target for target, _ in exact))} & PROTOCOLS.keys()
    destroyed = 0
    with NetlinkSocket(NETLINK_SOCK_DIAG) as diag:
        for protocol in sorted(protocols):
            for family in (socket.AF_INET, socket.AF_INET6):
                request = _request.pack(family, PROTOCOLS[protocol], 0, 0, CONNECTED_STATES)
                for identity in _sockets(diag, request):
                    target, client_port = _ends(family, protocol, identity)
                    if target in targets or (target, client_port) in exact:
                        with _gone_is_fine():
                            diag.ask(SOCK_DESTROY, request + identity, "destroying a socket")
                            destroyed += 1
    return destroyed


def _sockets(diag: NetlinkSocket, request: bytes) -> Iterator[bytes]:
    """The id of each socket that a request is for."""
    everything = bytes(SOCKET_ID_LENGTH - len(NO_COOKIE)) + NO_COOKIE
    with _gone_is_fine():  # ENOENT: the kernel has no sock_diag for that protocol
        for reply in diag.dump(SOCK_DIAG_BY_FAMILY, request + everything, "listing sockets"):
            yield reply.payload[4 : 4 + SOCKET_ID_LENGTH]


def _ends(family: int, protocol: str, identity: bytes) -> tuple[Target, int]:
    """A connected socket as the target that its peer uses, and the peer's port."""
    port, peer_port, local, peer = _socket_id.unpack_from(identity)
    return Target(_plain(family, peer), _plain(family, local), protocol, port), peer_port


def _plain(family: int, packed: bytes) -> Address:
    """An address; a dual-stack socket that talks to an IPv4 client is an AF_INET6 one with IPv4-mapped addresses."""
    if family == socket.AF_INET:
        return IPv4Address(packed[:4])
    address = IPv6Address(packed)
    return address.ipv4_mapped or address


@contextlib.contextmanager
def _gone_is_fine() -> Iterator[None]:
    """What ended by itself meanwhile is no error, nor is a kernel that cannot destroy sockets: packets stay out."""
    try:
        yield
    except KernelError as error:
        if error.errno not in (errno.ENOENT, errno.EOPNOTSUPP):
            raise
