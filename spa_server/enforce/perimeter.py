"""Putting the closed ruleset into the kernel, taking it down, and reading its state.

Everything goes through `nft -f -` in one transaction, so that no packet ever meets half a perimeter. It needs no
daemon and must not know of one: leases and armed tags are elements, which it leaves alone. A table that is put up
here belongs to nobody: whoever may change the firewall may change it. `owned` puts up one that nobody else can change.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from spa_server.enforce import carried
from spa_server.enforce.nft_program import NftMissing, NotPermitted, PerimeterError, RulesetRefused, load, ruleset_text
from spa_server.enforce.ruleset import HOLD_TABLES, SERVICE_CHAIN, TABLE, chain_names, counter_names, ruleset
from spa_server.enforce.table import OwnedElsewhere, TableSocket
from spa_server.service import Service

__all__ = [
    "Counter",
    "Counters",
    "NftMissing",
    "NotPermitted",
    "PerimeterError",
    "RulesetRefused",
    "ServiceCounters",
    "apply",
    "apply_anew",
    "counters",
    "forwarding_warnings",
    "remove",
    "show",
    "standing",
]

FORWARDING = {4: ("net/ipv4/ip_forward", "IPv4"), 6: ("net/ipv6/conf/all/forwarding", "IPv6")}


@dataclass(frozen=True, slots=True)
class Counter:
    """What one named counter has counted since the perimeter was first put up."""

    packets: int = 0
    bytes: int = 0


@dataclass(frozen=True, slots=True)
class ServiceCounters:
    """Packets to one service's ports."""

    name: str
    admitted: Counter
    dropped: Counter


@dataclass(frozen=True, slots=True)
class Counters:
    """Datagrams at the knock ports, and packets to each service's ports, sorted by service."""

    knock_admitted: Counter
    knock_dropped: Counter
    services: tuple[ServiceCounters, ...]


def apply(knock_ports: Sequence[int], services: Sequence[Service]) -> tuple[str, ...]:
    """Put up the perimeter, or bring the one that stands to this configuration; returns warnings, a sentence each.

    Live leases, armed tags and counters stay, except leases that the configuration no longer has: of a service that
    is gone, or on a port or host that is another service's or nobody's now. A table of another shape (an older
    version's, or one that was owned) is replaced in one transaction; then armed tags do not stay. Raises PerimeterError
    or OwnedElsewhere; nothing is changed then.
    """
    with TableSocket(TABLE) as nft:
        state = nft.state()
        if state is not None and state.owner_port:
            raise OwnedElsewhere(TABLE)
        in_place = "" if state is None or state.is_orphan else "".join(_lines_to_clear(nft, services))
    if state is None or in_place:
        start = in_place or f"add table inet {TABLE}\n"
        stale = carried.take_out_lines(TABLE, services) if in_place else ""
        try:
            load(start + ruleset(knock_ports, services) + stale)
            _remove_holds()
        except RulesetRefused:
            if state is None:
                raise
            apply_anew(knock_ports, services)
    else:
        apply_anew(knock_ports, services)
    return tuple(forwarding_warnings(services))


def apply_anew(knock_ports: Sequence[int], services: Sequence[Service]) -> None:
    """Put up the perimeter in the place of whatever table of this name stands, in one transaction.

    Live leases and counters are carried over, armed tags are not. Raises PerimeterError or OwnedElsewhere.
    """
    with TableSocket(TABLE) as nft:
        state = nft.state()
        if state is not None and state.owner_port:
            raise OwnedElsewhere(TABLE)
        old = carried.take((TABLE, *HOLD_TABLES), services)
        away = f"delete table inet {TABLE}\n" if state is not None else ""
        rules = ruleset(knock_ports, services, old.counted)
        load(f"{away}add table inet {TABLE}\n{rules}{old.element_lines(TABLE)}")
        old.settle(nft)
    _remove_holds()


def remove() -> bool:
    """Take the perimeter down, leases and tags included; returns whether one stood. Raises OwnedElsewhere."""
    with TableSocket(TABLE) as nft:
        stood = nft.delete()
    return _remove_holds() or stood


def standing(services: Sequence[Service] = ()) -> bool:
    """Whether the perimeter is up: its table with both base chains, and a chain for each of the services."""
    with TableSocket(TABLE) as nft:
        return chain_names(services) <= set(nft.rules())


def show() -> str:
    """The perimeter as it stands in the kernel, without leases and tags; empty when there is none."""
    lines = ruleset_text().splitlines(keepends=True)
    head = f"table inet {TABLE} {{"  # of an owned table nft writes the owner's name behind it
    start = next((at for at, line in enumerate(lines) if line.startswith(head)), None)
    if start is None:
        return ""
    return "".join(lines[start : lines.index("}\n", start) + 1])


def counters() -> Counters:
    """What the perimeter has counted; zeros when none stands."""
    with TableSocket(TABLE) as nft:
        found = {name: Counter(*counts) for name, counts in nft.counters().items()}
    names = sorted(
        name.removeprefix(SERVICE_CHAIN).removesuffix("-admitted")
        for name in found
        if name.startswith(SERVICE_CHAIN) and name.endswith("-admitted")
    )
    none = Counter()
    return Counters(
        knock_admitted=found.get("knock_admitted", none),
        knock_dropped=found.get("knock_dropped", none),
        services=tuple(
            ServiceCounters(
                name,
                found.get(f"{SERVICE_CHAIN}{name}-admitted", none),
                found.get(f"{SERVICE_CHAIN}{name}-dropped", none),
            )
            for name in names
        ),
    )


def _lines_to_clear(nft: TableSocket, services: Sequence[Service]) -> Iterator[str]:
    """Lines that empty the chains, and delete those chains and counters that the configuration does not have."""
    yield f"flush table inet {TABLE}\n"
    found = {"chain": nft.chains() - chain_names(services), "counter": nft.counters().keys() - counter_names(services)}
    for kind, names in found.items():
        for name in sorted(names):
            yield f"delete {kind} inet {TABLE} {name}\n"


def _remove_holds() -> bool:
    """Take away what an interrupted replacement left, now that the perimeter itself is as it should be."""
    removed = False
    for name in HOLD_TABLES:
        with TableSocket(name) as nft:
            removed = nft.delete() or removed
    return removed


def forwarding_warnings(services: Iterable[Service]) -> Iterator[str]:
    """A sentence for each family whose packets this host is to forward and does not."""
    targets = [(service.name, target.address.version) for service in services for target in service.forward_to]
    for version, (sysctl, family) in FORWARDING.items():
        names = sorted({name for name, target_version in targets if target_version == version})
        switch = Path("/proc/sys", sysctl)
        if names and switch.exists() and switch.read_text().strip() == "0":
            yield (
                f"{family} forwarding is off, so forward_to of {', '.join(names)} does not work: "
                f"sysctl -w {sysctl.replace('/', '.')}=1"
            )
