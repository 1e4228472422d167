"""Putting the closed ruleset into the kernel, taking it down, and reading its state.

Everything goes through `nft -f -` in one transaction, so that no packet ever meets half a perimeter. It needs no
daemon and must not know of one: leases and armed tags are elements, which it leaves alone.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from spa_server.enforce.leases import SETS, Lease, list_leases
from spa_server.enforce.netlink import KernelError
from spa_server.enforce.nft_program import (
    Item,
    NftMissing,
    NotPermitted,
    PerimeterError,
    RulesetRefused,
    load,
    of_kind,
    ruleset_items,
    ruleset_text,
)
from spa_server.enforce.nftset import NftSocket
from spa_server.enforce.ruleset import SERVICE_CHAIN, TABLE, chain_names, counter_names, ruleset
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
    "counters",
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
    """Datagrams at the knock port, and packets to each service's ports, sorted by service."""

    knock_admitted: Counter
    knock_dropped: Counter
    services: tuple[ServiceCounters, ...]


def apply(knock_port: int, services: Sequence[Service]) -> tuple[str, ...]:
    """Put up the perimeter, or bring the one that stands to this configuration; returns warnings, a sentence each.

    Live leases, armed tags and counters stay, except leases that the configuration no longer has: of a service that
    is gone, or on a port or host that is another service's or nobody's now. Raises PerimeterError; nothing is
    changed then.
    """
    items = ruleset_items()
    stale = tuple(lease for lease in _leases_standing(items) if not _is_served(lease, services))
    load(
        "".join(
            (
                f"add table inet {TABLE}\n",
                f"flush table inet {TABLE}\n",
                *_chains_to_leave_out(items, services),
                ruleset(knock_port, services),
                *(_element_line(verb, lease) for lease in stale for verb in ("add", "delete")),
            )
        )
    )
    return tuple(_forwarding_warnings(services))


def remove() -> bool:
    """Take the perimeter down, leases and tags included; returns whether one stood."""
    stood = _table_is_there(ruleset_items())
    load(f"add table inet {TABLE}\ndelete table inet {TABLE}\n")
    return stood


def standing(services: Sequence[Service] = ()) -> bool:
    """Whether the perimeter is up: its table with both base chains, and a chain for each of the services."""
    with_rules = {rule["chain"] for rule in of_kind(ruleset_items(), "rule", "inet", TABLE)}
    return chain_names(services) <= with_rules


def show() -> str:
    """The perimeter as it stands in the kernel, without leases and tags; empty when there is none."""
    lines = ruleset_text().splitlines(keepends=True)
    head = f"table inet {TABLE} {{\n"
    if head not in lines:
        return ""
    start = lines.index(head)
    return "".join(lines[start : lines.index("}\n", start) + 1])


def counters() -> Counters:
    """What the perimeter has counted; zeros when none stands."""
    found = {
        counter["name"]: Counter(counter["packets"], counter["bytes"])
        for counter in of_kind(ruleset_items(), "counter", "inet", TABLE)
    }
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


def _table_is_there(items: tuple[Item, ...]) -> bool:
    tables = (item["table"] for item in items if "table" in item)
    return any((table["family"], table["name"]) == ("inet", TABLE) for table in tables)


def _chains_to_leave_out(items: tuple[Item, ...], services: Sequence[Service]) -> Iterator[str]:
    """Lines that delete the chains and counters of services that are configured no longer."""
    for kind, wanted in (("chain", chain_names(services)), ("counter", counter_names(services))):
        for found in of_kind(items, kind, "inet", TABLE):
            if found["name"] not in wanted:
                yield f"delete {kind} inet {TABLE} {found['name']}\n"


def _leases_standing(items: tuple[Item, ...]) -> tuple[Lease, ...]:
    sets = {found["name"] for found in of_kind(items, "set", "inet", TABLE)}
    if not sets.issuperset(SETS.values()):
        return ()
    try:
        with NftSocket(TABLE) as nft:
            return list_leases(nft)
    except KernelError as error:
        if error.errno == errno.ENOENT:  # taken down since it was listed
            return ()
        raise PerimeterError(str(error)) from error


def _is_served(lease: Lease, services: Iterable[Service]) -> bool:
    """Whether a lease still leads to the service that it was given for.

    One without a service was put in by hand: any service at that port and host will do.
    """
    return any(
        (lease.protocol, lease.port) in set(service.ports())
        for service in services
        if lease.service in ("", service.name) and (not service.hosts or lease.destination in service.hosts)
    )


def _element_line(verb: str, lease: Lease) -> str:
    key = f"{lease.source} . {lease.destination} . {lease.protocol} . {lease.port}"
    timeout = " timeout 1s" if verb == "add" else ""
    return f"{verb} element inet {TABLE} {SETS[lease.source.version]} {{ {key}{timeout} }}\n"


def _forwarding_warnings(services: Iterable[Service]) -> Iterator[str]:
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
