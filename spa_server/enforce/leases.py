"""Leases: which (source, destination, protocol, port) the kernel lets through now, for whom and how long.

Opening several services is one transaction. It trusts its caller (`firewall`) to have checked what may be asked, and
must not know of knocks or devices beyond the label it writes beside a lease.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address

from spa_server.enforce.claims import Claim, Claims
from spa_server.enforce.flows import Target, end_admitted_flows, end_flows
from spa_server.enforce.netlink import AnswerLost
from spa_server.enforce.nftset import Add, Delete, Element, NftSocket, Operation, key_of
from spa_server.lease_label import is_of
from spa_server.service import Address, Service

SETS = {4: "leases4", 6: "leases6"}
"""Set of each IP version; a key is source . destination . protocol . port."""

ADDRESS_LENGTHS = {4: 4, 6: 16}
UNDO_ATTEMPTS = 3
PROTOCOLS = {"tcp": 6, "udp": 17}
PROTOCOL_NAMES = {number: name for name, number in PROTOCOLS.items()}


class AskedTooLongAgo(Exception):
    """Whoever asked has told the device by now that nothing was opened, so nothing is."""


class NotReachable(ValueError):
    """A service has no address in the family that the lease is for; the message names both."""


@dataclass(frozen=True, slots=True)
class Grant:
    """One service to open to `source` for `seconds`; `destination` is the address that the knock came to."""

    service: Service
    source: Address
    destination: Address
    seconds: int
    label: str


@dataclass(frozen=True, slots=True)
class Lease:
    """One tuple that is open now. `service` is empty for an element that was put in by hand."""

    label: str
    service: str
    source: Address
    destination: Address
    protocol: str
    port: int
    left_ms: int


@dataclass(frozen=True, slots=True)
class Ended:
    """What a revocation ended: leases, and tracked connections and sockets."""

    leases: tuple[Lease, ...]
    flows: int


@dataclass(frozen=True, slots=True)
class _Tuple:
    set_name: str
    key: bytes


def destinations(service: Service, source: Address, destination: Address) -> tuple[Address, ...]:
    """Where a lease on the service leads from `source`: its hosts of that family, else where the knock came to.

    Raises NotReachable where the service has no host, or no host to forward to, in that family.
    """
    found = tuple(host for host in (service.hosts or (destination,)) if host.version == source.version)
    if not found or not service.reaches(source.version):
        raise NotReachable(f"service {service.name} has no IPv{source.version} address")
    return found


def open_leases(
    nft: NftSocket, grants: Sequence[Grant], not_after_ms: float = float("inf"), claims: Claims | None = None
) -> tuple[int, ...]:
    """Open all grants in one transaction; returns the whole seconds left of each.

    A lease that is there already ends at the later of its own end and the one asked for: asking again extends it and
    never adds up. It bears the name of whoever has it longest; `claims` remembers the others. Raises NotReachable
    before anything is changed; KernelError, or AskedTooLongAgo when it is later than `not_after_ms` of CLOCK_MONOTONIC
    by then, with everything as it was before.
    """
    begun_ms = _monotonic_ms()
    before: dict[_Tuple, Element | None] = {}
    wanted: dict[_Tuple, Element] = {}
    tuples_of = [tuple(_tuples(grant)) for grant in grants]
    for grant, tuples in zip(grants, tuples_of, strict=True):
        for each in tuples:
            known = before[each] = nft.get(each.set_name, each.key)
            # What is left of a lease from before `max_lease_s` was lowered is cut to it.
            left_ms = min(known.left_ms, grant.service.max_lease_s * 1000) if known else 0
            timeout_ms = max(grant.seconds * 1000, left_ms)
            label = known.comment if known and left_ms > grant.seconds * 1000 and known.comment else grant.label
            wanted[each] = Element(each.key, timeout_ms, label, grant.service.name)
    try:
        nft.commit(_replacing(wanted))
    except AnswerLost:
        _undo(nft, before, begun_ms)
        raise
    if _monotonic_ms() > not_after_ms:  # this process stood still meanwhile
        _undo(nft, before, begun_ms)
        raise AskedTooLongAgo("a request from too long ago")
    if claims is not None:
        _note(claims, grants, tuples_of, before, begun_ms)
    return tuple(min((wanted[each].timeout_ms for each in tuples), default=0) // 1000 for tuples in tuples_of)


def _note(
    claims: Claims,
    grants: Sequence[Grant],
    tuples_of: Sequence[tuple[_Tuple, ...]],
    before: Mapping[_Tuple, Element | None],
    now_ms: float,
) -> None:
    for grant, tuples in zip(grants, tuples_of, strict=True):
        for each in tuples:
            known = before[each]
            if known is not None and known.comment:
                # What this process does not remember, the kernel may.
                claims.note(each, known.comment, now_ms + known.left_ms, now_ms)
            claims.note(each, grant.label, now_ms + grant.seconds * 1000, now_ms)


def _undo(nft: NftSocket, before: Mapping[_Tuple, Element | None], begun_ms: float) -> None:
    """Have the leases as they would be now without us. Raises KernelError when even that is not confirmed."""
    passed_ms = math.ceil(_monotonic_ms() - begun_ms)
    former = {
        each: Element(each.key, known.left_ms - passed_ms, known.comment, known.service)
        for each, known in before.items()
        if known and known.left_ms > passed_ms
    }
    operations = [*_removing(each for each in before if each not in former), *_replacing(former)]
    for _ in range(UNDO_ATTEMPTS - 1):
        with contextlib.suppress(AnswerLost):
            return nft.commit(operations)
    return nft.commit(operations)


def _monotonic_ms() -> float:
    return time.monotonic() * 1000


def list_leases(nft: NftSocket) -> tuple[Lease, ...]:
    """Every lease that is open now, in the order of label, source and port."""
    leases = [_lease(version, each) for version, name in SETS.items() for each in nft.dump(name)]
    return tuple(sorted(leases, key=_order))


def revoke(
    nft: NftSocket, *, label: str | None = None, sources: Collection[Address] = (), claims: Claims | None = None
) -> Ended:
    """Take back every lease of a label (a device's: its delegates' too) and of the sources, then end their live flows.

    At the sources it also ends sessions that outlived their lease (`on_expiry = "keep"`): the kernel remembers that a
    lease admitted them, but not whose it was.
    """
    ended = tuple(
        lease
        for lease in list_leases(nft)
        if (label is not None and is_of(lease.label, label)) or lease.source in sources
    )
    close_leases(nft, ended)
    if claims is not None:
        for lease in ended:
            claims.forget(_tuple(lease))
    flows = end_flows({Target(lease.source, lease.destination, lease.protocol, lease.port) for lease in ended})
    flows += sum(end_admitted_flows(source) for source in sources)
    return Ended(ended, flows)


def give_back(nft: NftSocket, grants: Sequence[Grant], claims: Claims) -> tuple[int, ...]:
    """End what such grants opened, as if their time had come; how many tuples of each grant their label had.

    What others have asked for stays open until their own end, under the name of the one who has it longest.
    Raises NotReachable.
    """
    now_ms = _monotonic_ms()
    to_end: list[_Tuple] = []
    to_shorten: dict[_Tuple, Element] = {}
    counts: list[int] = []
    for grant in grants:
        had = 0
        for each in _tuples(grant):
            known = nft.get(each.set_name, each.key)
            if known is None:
                claims.forget(each)
                continue
            if known.comment != grant.label and not claims.is_claimed_by(each, grant.label, now_ms):
                continue
            had += 1
            claims.withdraw(each, grant.label)
            others = claims.latest(each, now_ms)
            if known.comment != grant.label and (others is None or others.label != known.comment):
                # Somebody of whom only the kernel knows.
                others = Claim(known.comment, now_ms + known.left_ms)
            if others is None:
                to_end.append(each)
            else:
                left_ms = min(known.left_ms, max(1, math.floor(others.end_ms - now_ms)))
                to_shorten[each] = Element(each.key, left_ms, others.label, known.service)
        counts.append(had)
    if to_end or to_shorten:
        nft.commit([*_removing(to_end), *_replacing(to_shorten)])
    return tuple(counts)


def take_away(nft: NftSocket, grants: Sequence[Grant], claims: Claims) -> tuple[tuple[int, ...], int]:
    """End what such grants opened, and every flow there; how many tuples of each grant their label had, and how many
    flows and sockets were ended.

    As in `give_back`, a lease stays for a neighbour behind the same address who has asked for it. Which flows are the
    neighbour's nobody can tell, so all are ended: the neighbour connects again, and nothing goes on that was begun by
    who is shut out. That holds where there is no lease any more, too: sessions may have outlived it. Raises
    NotReachable.
    """
    counts: list[int] = []
    for group in _apart(grants):
        counts += give_back(nft, group, claims)
    return tuple(counts), end_flows({target for grant in grants for target in targets_of(grant)})


def _apart(grants: Iterable[Grant]) -> Iterator[list[Grant]]:
    """The grants in groups that share no tuple: of two labels the second must find what was left of the first's."""
    group: list[Grant] = []
    taken: set[Target] = set()
    for grant in grants:
        targets = set(targets_of(grant))
        if targets & taken:
            yield group
            group, taken = [], set()
        group.append(grant)
        taken |= targets
    yield group


def targets_of(grant: Grant) -> tuple[Target, ...]:
    """What its client uses. Raises NotReachable."""
    return tuple(
        Target(grant.source, destination, protocol, port)
        for destination in destinations(grant.service, grant.source, grant.destination)
        for protocol, port in grant.service.ports()
    )


def left_ms(nft: NftSocket, grant: Grant, claims: Claims) -> int:
    """How long its label has yet what such a grant opened, by the longest of its tuples. Raises NotReachable."""
    now_ms = _monotonic_ms()
    longest = 0
    for each in _tuples(grant):
        known = nft.get(each.set_name, each.key)
        if known is not None:
            own_ms = known.left_ms if known.comment == grant.label else claims.left_ms(each, grant.label, now_ms)
            longest = max(longest, min(known.left_ms, own_ms))
    return longest


def put_back(nft: NftSocket, leases: Iterable[Lease]) -> None:
    """Open leases as they are said to be, each until what is left of it is over, in one transaction."""
    wanted = {_tuple(lease): lease for lease in leases}
    elements = {at: Element(at.key, lease.left_ms, lease.label, lease.service) for at, lease in wanted.items()}
    nft.commit(_replacing(elements))


def close_leases(nft: NftSocket, leases: Iterable[Lease]) -> None:
    """Take leases back in one transaction; those that ended meanwhile are no error. Flows go on being checked."""
    nft.commit(_removing(_tuple(lease) for lease in leases))


def _replacing(wanted: dict[_Tuple, Element]) -> Iterable[Operation]:
    # Linux before 6.12 leaves a present element's timeout as it is, and deleting an absent one is an error: so every
    # element is added (now it is there), deleted and added anew, which no packet can come between.
    additions: list[Operation] = [Add(each.set_name, element) for each, element in wanted.items()]
    return [*additions, *(Delete(each.set_name, each.key) for each in wanted), *additions]


def _removing(tuples: Iterable[_Tuple]) -> Iterable[Operation]:
    distinct = tuple(dict.fromkeys(tuples))
    # Added first, because deleting what is not there fails the whole (NFT_MSG_DESTROYSETELEM needs Linux 6.3).
    additions: list[Operation] = [Add(each.set_name, Element(each.key, timeout_ms=1000)) for each in distinct]
    return [*additions, *(Delete(each.set_name, each.key) for each in distinct)]


def _tuples(grant: Grant) -> Iterable[_Tuple]:
    for destination in destinations(grant.service, grant.source, grant.destination):
        for protocol, port in grant.service.ports():
            yield _tuple_of(grant.source, destination, protocol, port)


def _tuple(lease: Lease) -> _Tuple:
    return _tuple_of(lease.source, lease.destination, lease.protocol, lease.port)


def _tuple_of(source: Address, destination: Address, protocol: str, port: int) -> _Tuple:
    number = PROTOCOLS[protocol] if protocol in PROTOCOLS else int(protocol)  # put in by hand
    key = key_of(source.packed, destination.packed, bytes([number]), port.to_bytes(2, "big"))
    return _Tuple(SETS[source.version], key)


def _lease(version: int, element: Element) -> Lease:
    length = ADDRESS_LENGTHS[version]
    key = element.key
    protocol = key[2 * length]
    return Lease(
        label=element.comment,
        service=element.service,
        source=ip_address(key[:length]),
        destination=ip_address(key[length : 2 * length]),
        protocol=PROTOCOL_NAMES.get(protocol, str(protocol)),
        port=int.from_bytes(key[2 * length + 4 : 2 * length + 6], "big"),
        left_ms=element.left_ms,
    )


def _order(lease: Lease) -> tuple[str, int, bytes, bytes, str, int]:
    return (
        lease.label,
        lease.source.version,
        lease.source.packed,
        lease.destination.packed,
        lease.protocol,
        lease.port,
    )
