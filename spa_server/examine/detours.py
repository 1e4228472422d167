"""Ways around the perimeter that other tables make: a port nobody protects that leads to one that is.

Our chain judges the port that the client used. So a rule that leads 9443 to the protected 8443 opens 8443 to all.
Everything here is pure, over rules and surroundings that were read before.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from spa_server.examine.findings import Finding, Severity
from spa_server.examine.leads import EVERY_PORT, Detour, Place, containers, detours, is_closed, places
from spa_server.examine.mending import FIREWALLD, colon
from spa_server.examine.rules import About, Packet, RuleBook
from spa_server.examine.surroundings import Surroundings
from spa_server.examine.walk import dropped
from spa_server.service import PortRange, Service

FORWARD_TO = -110
"""Where our own destination NAT stands among the others."""


def ways_around(book: RuleBook, around: Surroundings, services: Sequence[Service]) -> Iterator[Finding]:
    """Findings of every kind that this module knows."""
    of_containers = containers(book, services)
    protected = (*places(services), *(place for _, place in of_containers))
    by_rule: dict[tuple[str, str], list[Detour]] = {}
    for detour in detours(book):
        if any(is_closed(service, detour.protocol, detour.ports) for service in services):
            continue
        versions = [version for version in (4, 6) if detour.base.sees(version)]
        if not is_shut(book, around, versions, (detour.protocol, detour.ports.first), ("ingress", "prerouting")):
            by_rule.setdefault((detour.rule.text, detour.protocol), []).append(detour)
    for of_rule in by_rule.values():
        yield from _detour(around, of_rule, protected)
    yield from _rivals(book, services)
    yield from _direct(book, around, of_containers)
    yield from _untracked(book, services)


def _detour(around: Surroundings, of_rule: Sequence[Detour], protected: Iterable[Place]) -> Iterator[Finding]:
    """What is to be said of one rule, which may lead several ports."""
    unseen = [detour for detour in of_rule if not detour.lead.known]
    if unseen:
        yield Finding(
            "detour-unseen",
            Severity.NOTE,
            f"where {_at(unseen)} is led by {unseen[0].chain} cannot be seen; check that it is no protected port",
            unseen[0].rule.text,
        )
        return
    reaching = [(detour, place) for detour in of_rule for place in protected if detour.goes_to(place, around.addresses)]
    if not reaching:
        return
    detour, place = reaching[0]
    docker = detour.chain.name.startswith("DOCKER")
    found = list(dict.fromkeys(each for each, _ in reaching))
    yield Finding(
        "detour",
        Severity.WARNING if detour.narrowed else Severity.DANGER,
        f"{_at(found)} leads to service {place.service} ({place.address or 'this host'} {place.protocol}/{place.ports})"
        f" without a lease{', for some clients' if detour.narrowed else ''}"
        + ("; Docker publishes it: publish it on 127.0.0.1 only, or protect that port too" if docker else ""),
        detour.rule.text,
        _remedy(found),
    )


def _remedy(found: Sequence[Detour]) -> str:
    """What takes the rule out for good: where its manager would write it again, by that manager's own means."""
    chain, rule = found[0].chain, found[0].rule
    if chain.name.startswith("DOCKER"):
        return " && ".join(map(shut, found))
    zone = chain.name.removeprefix("nat_PRE_").removesuffix("_allow")
    if chain.table == FIREWALLD and zone != chain.name:
        ports = " ".join(map(_forward_port, found))
        return f"firewall-cmd --permanent --zone={zone} {ports} && firewall-cmd --reload"
    return rule.delete


def _forward_port(detour: Detour) -> str:
    """As `firewall-cmd --add-forward-port` was told it."""
    lead = detour.lead
    to_port = f":toport={lead.ports}" if lead.ports else ""
    to_address = f":toaddr={lead.address}" if lead.address else ""
    return f"--remove-forward-port=port={detour.ports}:proto={detour.protocol}{to_port}{to_address}"


def _at(of_rule: Sequence[Detour]) -> str:
    ports = ["any port" if detour.ports == EVERY_PORT else str(detour.ports) for detour in of_rule]
    return f"{of_rule[0].protocol}/{','.join(ports)}"


def is_shut(
    book: RuleBook, around: Surroundings, versions: Sequence[int], port: tuple[str, int], hooks: Sequence[str]
) -> bool:
    """Whether other tables drop what strangers send to a (protocol, port) of this host, over each of the versions."""
    packets = (Packet(version, *port, interface) for version in versions for interface in around.entrances())
    return all(dropped(book, packet, hooks) is not None for packet in packets)


def shut(detour: Detour) -> str:
    """The command that closes a port which its own manager would open again."""
    program = detour.base.program or ("ip6tables" if detour.base.family == "ip6" else "iptables")
    return f"{program} -t raw -I PREROUTING ! -i lo -p {detour.protocol} --dport {colon(detour.ports)} -j DROP"


def _rivals(book: RuleBook, services: Sequence[Service]) -> Iterator[Finding]:
    """Destination NAT of a port that we forward ourselves, before ours: then forward_to does not take place."""
    for detour in detours(book):
        if detour.base.kind != "nat" or detour.base.priority > FORWARD_TO:
            continue
        for service in services:
            if service.forward_to and is_closed(service, detour.protocol, detour.ports):
                yield Finding(
                    "detour-first",
                    Severity.WARNING,
                    f"{detour.chain} leads {detour.protocol}/{detour.ports} away before forward_to of {service.name}",
                    detour.rule.text,
                    detour.rule.delete,
                )


def _direct(book: RuleBook, around: Surroundings, of_containers: Iterable[tuple[Detour, Place]]) -> Iterator[Finding]:
    """Containers behind a protected port: whoever can route packets to their own address needs no port of ours."""
    seen: set[Place] = set()
    for detour, place in of_containers:
        address = place.address
        if address is None or place in seen or address.version not in around.forwards:
            continue
        seen.add(place)
        way = around.ways.get(address, "")
        for interface in around.entrances():
            packet = Packet(address.version, place.protocol, place.ports.first, interface, address, way)
            if interface == way or dropped(book, packet, ("ingress", "prerouting", "forward")) is not None:
                continue
            yield Finding(
                "direct-route",
                Severity.WARNING,
                f"a neighbour on {interface or 'the network'} that routes to {address} through this host reaches"
                f" {place.protocol}/{place.ports} of service {place.service} without a lease",
                f"forwarding is on, and nothing drops it; {detour.rule.text}",
                _shut_address(place, way, iptables=bool(detour.base.program)),
            )
            break


def _shut_address(place: Place, way: str, *, iptables: bool) -> str:
    version = place.address.version if place.address else 4
    if iptables:
        program = "ip6tables" if version == 6 else "iptables"
        inside = f" ! -i {way}" if way else ""
        port = colon(place.ports)
        return f"{program} -t raw -I PREROUTING{inside} -d {place.address} -p {place.protocol} --dport {port} -j DROP"
    family, inside = "ip6" if version == 6 else "ip", f'iifname != "{way}" ' if way else ""
    rule = f"{inside}{family} daddr {place.address} {place.protocol} dport {place.ports} drop"
    return (
        "nft 'add table inet spa-guard; add chain inet spa-guard direct { type filter hook prerouting priority raw; };"
        f" add rule inet spa-guard direct {rule}'"
    )


def _untracked(book: RuleBook, services: Sequence[Service]) -> Iterator[Finding]:
    """Connection tracking left out for a service's ports: NAT and `on_expiry = "keep"` then do not work."""
    for base in book.chains:
        if base.hook != "prerouting":
            continue
        for matches, _, rule in book.paths(base):
            if not rule.untracked:
                continue
            ports = [each for match in matches if match.about is About.PORT for each in match.values]
            hit = [service for service in services if _touches(service, ports)]
            if hit:
                needs = [service.name for service in hit if service.forward_to or service.on_expiry.value == "keep"]
                yield Finding(
                    "untracked",
                    Severity.WARNING if needs else Severity.NOTE,
                    f"connection tracking is off for {', '.join(service.name for service in hit)}: "
                    + (f"forward_to and on_expiry = keep of {', '.join(needs)} fail" if needs else "leases still hold"),
                    rule.text,
                    rule.delete,
                )


def _touches(service: Service, ports: Sequence[object]) -> bool:
    """Whether any of the ports is the service's; a rule without ports is about all."""
    known = [each for each in ports if isinstance(each, PortRange)]
    return not known or any(
        mine.first <= each.last and each.first <= mine.last for mine in (*service.tcp, *service.udp) for each in known
    )
