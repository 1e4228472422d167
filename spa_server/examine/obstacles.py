"""What stands in the way outside our own table: other tables that drop what a lease lets through.

An `accept` in one base chain does not overrule another table's `drop`, so a host with ufw or firewalld needs a rule
there as well. This follows the packets of a leased connection, and of its answers, through the other tables' rules, and
says the very command; it changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from ipaddress import ip_address

from spa_server.enforce.ruleset import merged
from spa_server.examine.findings import Finding, Severity
from spa_server.examine.leads import EVERY_PORT, Place, containers
from spa_server.examine.mending import Opening, command, manager
from spa_server.examine.reading import read_rules
from spa_server.examine.rules import About, Packet, Rule, RuleBook
from spa_server.examine.surroundings import Surroundings, inner_hosts, read_surroundings
from spa_server.examine.walk import Drop, dropped
from spa_server.service import Address, PortRange, Service

TO_HERE = ("ingress", "prerouting", "input")
THROUGH = ("ingress", "prerouting", "forward")
KNOCK = "knocks"
UNKNOWN_CLIENT: dict[int, Address] = {4: ip_address("192.0.2.1"), 6: ip_address("2001:db8::1")}
"""Documentation addresses (RFC 5737, RFC 3849), for answers to somebody."""


@dataclass(frozen=True, slots=True)
class _Blocked:
    opening: Opening
    interface: str
    drop: Drop


def foreign_obstacles(knock_ports: Sequence[int], services: Sequence[Service]) -> tuple[str, ...]:
    """A sentence with the command to run for each table that may drop knocks or leased packets."""
    book = read_rules()
    around = read_surroundings(addresses_behind(book, services))
    found = (*obstacles(book, around, knock_ports, services), *offloads(book, services))
    return tuple(f"{each.what}: {each.remedy}" for each in found if each.severity >= Severity.WARNING)


def addresses_behind(book: RuleBook, services: Sequence[Service]) -> frozenset[Address]:
    """Every inner host of the services: those of the configuration, and containers that other tables lead to."""
    led = (place.address for _, place in containers(book, services))
    return inner_hosts(services) | {address for address in led if address is not None}


def obstacles(
    book: RuleBook, around: Surroundings, knock_ports: Sequence[int], services: Sequence[Service]
) -> tuple[Finding, ...]:
    """A finding for each base chain of other tables that drops what we let in."""
    blocked: dict[tuple[str, ...], list[_Blocked]] = {}
    for opening in openings(book, around, knock_ports, services):
        for found in _blocked(book, around, opening):
            base = found.drop.base
            # One command of ufw's or firewalld's is for both IP versions.
            writer = manager(book, base)
            place = (writer, base.hook) if writer else (base.program, base.family, base.table, base.name)
            blocked.setdefault(place, []).append(found)
    return tuple(_finding(book, around, each) for each in blocked.values())


def openings(
    book: RuleBook, around: Surroundings, knock_ports: Sequence[int], services: Sequence[Service]
) -> tuple[Opening, ...]:
    """Every way that has to be open for knocks and leased connections."""
    found = [Opening(KNOCK, "udp", PortRange(port, port), version) for port in knock_ports for version in (4, 6)]
    found += [opening for service in services for opening in _openings(service, around)]
    led: dict[tuple[str, str, PortRange, int], Place] = {
        (place.service, place.protocol, detour.ports, place.address.version): place
        for detour, place in containers(book, services)
        if place.address is not None
    }
    for number, opening in enumerate(found):
        place = led.get((opening.service, opening.protocol, opening.ports or EVERY_PORT, opening.version))
        if place is not None and opening.destination is None:
            found[number] = replace(
                opening, ports=place.ports, destination=place.address, translated=True, entry=opening.ports
            )
    return tuple(dict.fromkeys(found))


def _openings(service: Service, around: Surroundings) -> Iterator[Opening]:
    for protocol, ranges in (("tcp", service.tcp), ("udp", service.udp)):
        for target in service.forward_to if ranges else ():
            at = PortRange(target.port, target.port)
            version = target.address.version
            yield Opening(service.name, protocol, at, version, target.address, translated=True, entry=ranges[0])
        for ports in () if service.forward_to else merged(ranges):
            if not service.hosts:
                yield from (Opening(service.name, protocol, ports, version) for version in (4, 6))
            for host in service.hosts:
                yield Opening(service.name, protocol, ports, host.version, None if host in around.addresses else host)


def _blocked(book: RuleBook, around: Surroundings, opening: Opening) -> Iterator[_Blocked]:
    """Where packets of the opening are dropped, and their answers: each by the first chain that does."""
    hooks: Sequence[str] = TO_HERE if opening.destination is None else THROUGH
    if opening.entry is not None:
        # Prerouting still sees the packet as the client sent it.
        hooks = ("forward",)
        coming_in = Opening(opening.service, opening.protocol, opening.entry, opening.version)
        yield from _blocked_on_the_way_in(book, around, coming_in, ("ingress", "prerouting"), "")
    yield from _blocked_on_the_way_in(book, around, opening, hooks, _way(around, opening))
    yield from _blocked_answers(book, around, opening)


def _way(around: Surroundings, opening: Opening) -> str:
    return around.ways.get(opening.destination, "") if opening.destination else ""


def _blocked_on_the_way_in(
    book: RuleBook, around: Surroundings, opening: Opening, hooks: Sequence[str], way: str
) -> Iterator[_Blocked]:
    for interface in around.entrances():
        for port in _telling_ports(book, opening):
            packet = Packet(
                opening.version, opening.protocol, port, interface, opening.destination, way, opening.translated
            )
            drop = dropped(book, packet, hooks)
            if drop is not None:
                yield _Blocked(opening, interface, drop)
                break


def _blocked_answers(book: RuleBook, around: Surroundings, opening: Opening) -> Iterator[_Blocked]:
    for interface in around.entrances():
        answer = Packet(
            opening.version,
            opening.protocol,
            None,
            _way(around, opening),
            UNKNOWN_CLIENT[opening.version],
            interface,
            opening.translated,
            frozenset(("established",)),
            opening.destination,
        )
        drop = dropped(book, answer, ("output",) if opening.destination is None else ("forward",))
        if drop is not None:
            yield _Blocked(replace(opening, ports=None), interface, drop)


def _telling_ports(book: RuleBook, opening: Opening) -> list[int]:
    """Ports of the opening of which each stands for all up to the next: no rule tells those apart."""
    ports = opening.ports or EVERY_PORT
    borders = {ports.first}
    for chain in book.chains:
        for rule in chain.rules:
            for match in rule.matches:
                if match.about is About.PORT:
                    ranges = [each for each in match.values if isinstance(each, PortRange)]
                    borders.update(border for each in ranges for border in (each.first, each.last + 1))
    return sorted(border for border in borders if ports.first <= border <= ports.last)


def _finding(book: RuleBook, around: Surroundings, blocked: Sequence[_Blocked]) -> Finding:
    drops = [each.drop for each in blocked]
    wanted = list(dict.fromkeys(each.opening for each in blocked))
    base = drops[0].base
    writer = manager(book, base) or str(base)
    interfaces = dict.fromkeys(each.interface for each in blocked if each.interface)
    some = "" if set(interfaces) >= set(around.entrances()) or not interfaces else f" from {', '.join(interfaces)}"
    what = f"{writer} drops {_named(wanted)}{some}; opening it there opens nothing that our table keeps closed"
    rules = dict.fromkeys(drop.rule.text if drop.rule else f"policy drop of {drop.base}" for drop in drops)
    evidence = "; ".join(rules)
    exceptions = dict.fromkeys(rule.text for drop in drops for rule in drop.exceptions if _names_port(rule, wanted))
    if exceptions:
        evidence += "; lets some in: " + "; ".join(exceptions)
    severity = Severity.NOTE if exceptions and len(wanted) == 1 else Severity.WARNING
    return Finding("rules-drop", severity, what, evidence, command(book, drops, wanted))


def _names_port(rule: Rule, wanted: Sequence[Opening]) -> bool:
    """Whether an exception is made for the very port, rather than for anything from somewhere."""
    ports = [each for match in rule.matches if match.about is About.PORT for each in match.values]
    return any(
        isinstance(port, PortRange) and opening.ports is not None and port.first <= opening.ports.first <= port.last
        for port in ports
        for opening in wanted
    )


def _named(wanted: Sequence[Opening]) -> str:
    """`knocks (udp/62201), web (tcp/8443, answers)`."""
    said: dict[str, list[str]] = {}
    for each in wanted:
        at = f" at {each.destination}" if each.destination else ""
        said.setdefault(each.service, []).append(f"{each.protocol}/{each.ports}{at}" if each.ports else "answers")
    return ", ".join(f"{name} ({', '.join(dict.fromkeys(ports))})" for name, ports in said.items())


def offloads(book: RuleBook, services: Sequence[Service]) -> Iterator[Finding]:
    """Flowtables: they carry sessions past every rule."""
    forwarded = any(service.forward_to or service.hosts for service in services) or bool(containers(book, services))
    for chain in book.chains:
        for rule in chain.rules:
            if rule.flowtable:
                yield Finding(
                    "rules-flowtable",
                    Severity.WARNING if forwarded else Severity.NOTE,
                    f"flowtable {rule.flowtable} carries forwarded sessions past every rule: they outlive their lease",
                    rule.text,
                    rule.delete,
                )
