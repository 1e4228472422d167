"""Where other tables' rules lead packets by another destination: NAT, redirects, transparent proxies. Pure.

All destination NAT takes place after our chain has seen a packet, whatever its priority says (Linux 6.18: every
prerouting nat chain is called from one hook, at -100), so our chain judges the port that the client used.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from spa_server.examine.rules import About, Chain, Lead, Match, Rule, RuleBook
from spa_server.service import Address, PortRange, Service

OURS = -150
"""Where our services chain stands in prerouting."""
EVERY_PORT = PortRange(0, 65535)


@dataclass(frozen=True, slots=True)
class Place:
    """Something protected: where a packet must not get without a lease. No address is this host, at any of its own."""

    protocol: str
    ports: PortRange
    service: str
    address: Address | None = None


@dataclass(frozen=True, slots=True)
class Detour:
    """One rule that leads ports of a protocol elsewhere."""

    base: Chain
    chain: Chain
    rule: Rule
    lead: Lead
    protocol: str
    ports: PortRange
    narrowed: bool
    """Whether only for some sources or by other things that are not known."""

    def goes_to(self, place: Place, own: frozenset[Address]) -> bool:
        """Whether any of its ports ends at the place."""
        if self.protocol != place.protocol:
            return False
        here = self.lead.address is None or self.lead.address in own
        at = self.lead.address is None if place.address is None else self.lead.address == place.address
        if not (at or (here and (place.address is None or place.address in own))):
            return False
        ports = self.lead.ports or self.ports
        return ports.first <= place.ports.last and place.ports.first <= ports.last


def places(services: Iterable[Service]) -> tuple[Place, ...]:
    """What the configuration protects, as addresses and ports at which it is answered."""
    return tuple(place for service in services for place in _places(service))


def _places(service: Service) -> Iterator[Place]:
    for protocol, ranges in (("tcp", service.tcp), ("udp", service.udp)):
        if not ranges:
            continue
        for target in service.forward_to:
            yield Place(protocol, PortRange(target.port, target.port), service.name, target.address)
        for ports in () if service.forward_to else ranges:
            yield Place(protocol, ports, service.name)
            for host in service.hosts:
                yield Place(protocol, ports, service.name, host)


def detours(book: RuleBook) -> Iterator[Detour]:
    """Every rule of other tables that changes the destination of packets from outside after ours saw them."""
    for chain in book.chains:
        after_ours = chain.kind == "nat" or chain.priority >= OURS
        if not (chain.hook in ("prerouting", "input") and after_ours):
            continue
        for matches, where, rule in book.paths(chain):
            if rule.lead is not None and not _only_inside(matches):
                for protocol in _protocols(matches):
                    for ports in _ports(matches):
                        yield Detour(chain, where, rule, rule.lead, protocol, ports, _narrowed(matches))


def _only_inside(matches: Iterable[Match]) -> bool:
    return any(match.about is About.INTERFACE and not match.negated and match.values == ("lo",) for match in matches)


def _protocols(matches: Iterable[Match]) -> list[str]:
    found = {"tcp", "udp"}
    for match in matches:
        if match.about is About.PROTOCOL:
            found = {each for each in found if (each in match.values) != match.negated}
    return sorted(found)


def _ports(matches: Iterable[Match]) -> list[PortRange]:
    """The destination ports that the last match on them names; all of them without one, or with a negated one."""
    found = [EVERY_PORT]
    for match in matches:
        if match.about is About.PORT and not match.negated:
            found = [each for each in match.values if isinstance(each, PortRange)]
    return found


def _narrowed(matches: Iterable[Match]) -> bool:
    return any(match.about in (About.OTHER, About.SOURCE) for match in matches)


def is_closed(service: Service, protocol: str, ports: PortRange) -> bool:
    """Whether the service's own chain judges every one of these ports, as the client used them."""
    ranges = service.tcp if protocol == "tcp" else service.udp
    return any(each.first <= ports.first and ports.last <= each.last for each in ranges)


def containers(book: RuleBook, services: Iterable[Service]) -> tuple[tuple[Detour, Place], ...]:
    """Where other tables lead the services' own ports: to containers, mostly. These places are protected, too."""
    of_services = tuple(services)
    found: list[tuple[Detour, Place]] = []
    for detour in detours(book):
        lead = detour.lead
        for service in of_services:
            if lead.known and lead.address is not None and is_closed(service, detour.protocol, detour.ports):
                place = Place(detour.protocol, lead.ports or detour.ports, service.name, lead.address)
                found.append((detour, place))
    return tuple(found)
