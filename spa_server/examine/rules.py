"""Firewall rules of any make as values: which packets each is about, and what it does with them.

What nft and iptables write is read into these by `nft_rules` and `iptables_rules`. Pure; it must not know what a
service is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum, auto
from fnmatch import fnmatchcase
from ipaddress import IPv4Network, IPv6Network

from spa_server.service import Address, PortRange

Network = IPv4Network | IPv6Network


class About(Enum):
    """What of a packet a match looks at."""

    PROTOCOL = auto()
    PORT = auto()
    SOURCE = auto()
    DESTINATION = auto()
    DESTINATION_TYPE = auto()
    VERSION = auto()
    INTERFACE = auto()
    OUT_INTERFACE = auto()
    STATE = auto()
    STATUS = auto()
    OTHER = auto()
    """Anything that a packet's kind does not settle: a rate, a mark, a set's content."""


@dataclass(frozen=True, slots=True)
class Packet:
    """The first packet of a connection that a lease admits, as one hook sees it."""

    version: int
    protocol: str
    port: int | None
    """Destination port; None for an answer's, which is the client's own."""
    interface: str = ""
    """Where it comes in; empty where that is not known, or for what this host sends."""
    destination: Address | None = None
    """None for an address of this host."""
    out_interface: str = ""
    """Where it leaves, of a forwarded packet; empty where that is not known."""
    translated: bool = False
    """Whether its destination was changed by destination NAT."""
    states: frozenset[str] = frozenset(("new",))
    source: Address | None = None
    """None for somebody's, of whom nothing is known."""


Value = str | int | PortRange | Network


@dataclass(frozen=True, slots=True)
class Match:
    """A condition of a rule: one of the values (none, if `negated`)."""

    about: About
    values: tuple[Value, ...] = ()
    negated: bool = False

    def holds(self, packet: Packet) -> bool | None:
        """Whether it does for the packet; None where that cannot be known from its kind."""
        found = _TESTS[self.about](self.values, packet) if self.about in _TESTS else None
        return found if found is None else found != self.negated


def _port(values: tuple[Value, ...], packet: Packet) -> bool | None:
    port = packet.port
    if port is None:
        return None
    return any(isinstance(each, PortRange) and each.first <= port <= each.last for each in values)


def _within(values: tuple[Value, ...], address: Address | None) -> bool | None:
    if address is None:
        return None
    return any(isinstance(each, IPv4Network | IPv6Network) and address in each for each in values)


def _destination_type(values: tuple[Value, ...], packet: Packet) -> bool | None:
    return ("local" if packet.destination is None else "unicast") in values


def _interface(values: tuple[Value, ...], packet: Packet) -> bool | None:
    return any(fnmatchcase(packet.interface, str(each)) for each in values) if packet.interface else None


def _out_interface(values: tuple[Value, ...], packet: Packet) -> bool | None:
    return any(fnmatchcase(packet.out_interface, str(each)) for each in values) if packet.out_interface else None


_TESTS: dict[About, Callable[[tuple[Value, ...], Packet], bool | None]] = {
    About.PROTOCOL: lambda values, packet: packet.protocol in values,
    About.PORT: _port,
    About.SOURCE: lambda values, packet: _within(values, packet.source),
    About.DESTINATION: lambda values, packet: _within(values, packet.destination),
    About.DESTINATION_TYPE: _destination_type,
    About.VERSION: lambda values, packet: packet.version in values,
    About.INTERFACE: _interface,
    About.OUT_INTERFACE: _out_interface,
    About.STATE: lambda values, packet: bool(packet.states & set(map(str, values))),
    About.STATUS: lambda values, packet: packet.translated if "dnat" in values else None,
}


class Verdict(Enum):
    """What becomes of a packet that a rule matches."""

    GO_ON = auto()
    ACCEPT = auto()
    DROP = auto()
    RETURN = auto()
    JUMP = auto()
    GOTO = auto()


@dataclass(frozen=True, slots=True)
class Lead:
    """Another destination that a rule gives to packets: NAT, a transparent proxy, or a header rewritten.

    No `address` is this host; no `ports` are those that the packet had. `known` is False for a map's content that
    cannot be seen.
    """

    address: Address | None = None
    ports: PortRange | None = None
    known: bool = True


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule. `text` is how it stands in its firewall, `delete` the command that takes it out."""

    matches: tuple[Match, ...]
    verdict: Verdict = Verdict.GO_ON
    target: str = ""
    """The chain of JUMP and GOTO."""
    lead: Lead | None = None
    untracked: bool = False
    """Whether it takes packets out of connection tracking."""
    flowtable: str = ""
    text: str = ""
    delete: str = ""

    def holds(self, packet: Packet) -> bool | None:
        """Whether the packet meets every match; None where one that decides cannot be known."""
        found = [match.holds(packet) for match in self.matches]
        if False in found:
            return False
        return None if None in found else True


@dataclass(frozen=True, slots=True)
class Chain:
    """A chain with its rules. Base chains have a `hook`."""

    family: str
    table: str
    name: str
    rules: tuple[Rule, ...] = ()
    hook: str = ""
    priority: int = 0
    kind: str = "filter"
    policy: str = "accept"
    devices: tuple[str, ...] = ()
    program: str = ""
    """The iptables command that manages it; empty for nft's own."""

    def sees(self, version: int) -> bool:
        """Whether packets of IP version 4 or 6 come to its table."""
        return {"ip": version == 4, "ip6": version == 6}.get(self.family, self.family in ("inet", "netdev"))

    def __str__(self) -> str:
        if self.program:
            return f"{self.program} chain {self.name} of table {self.table}"
        return f"chain {self.name} of table {self.family} {self.table}"


@dataclass(frozen=True, slots=True)
class RuleBook:
    """Every chain of other tables than ours."""

    chains: tuple[Chain, ...] = ()
    unseen: tuple[str, ...] = ()
    """Tables whose rules no program here shows whole; their chains are left out."""

    def based_at(self, hook: str, version: int) -> list[Chain]:
        """Base chains of a hook that see an IP version, in the order in which the kernel asks them."""
        found = [chain for chain in self.chains if chain.hook == hook and chain.sees(version)]
        return sorted(found, key=lambda chain: chain.priority)

    def chain(self, beside: Chain, name: str) -> Chain | None:
        """The chain of that name in the same table."""
        wanted = (beside.family, beside.table, beside.program, name)
        found = (each for each in self.chains if (each.family, each.table, each.program, each.name) == wanted)
        return next(found, None)

    def paths(self, base: Chain) -> Iterator[tuple[tuple[Match, ...], Chain, Rule]]:
        """Every rule that a base chain leads to, with its chain and all matches on the way, its own included."""
        yield from self._paths(base, (), (base.name,))

    def _paths(
        self, chain: Chain, so_far: tuple[Match, ...], visited: tuple[str, ...]
    ) -> Iterator[tuple[tuple[Match, ...], Chain, Rule]]:
        for rule in chain.rules:
            matches = so_far + rule.matches
            yield matches, chain, rule
            if rule.verdict in (Verdict.JUMP, Verdict.GOTO) and rule.target not in visited:
                following = self.chain(chain, rule.target)
                if following is not None:
                    yield from self._paths(following, matches, (*visited, rule.target))
