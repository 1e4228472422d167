"""The `[service.NAME]` tables of server.toml, and what one service may not have together with another.

Knows the keys of a service; nothing of the rest of the file.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from spa_protocol.names import is_role, is_service_name
from spa_server.addresses import host, target
from spa_server.service import (
    MAX_LEASED,
    MAX_PORTS,
    ForwardTarget,
    OnExpiry,
    PortRange,
    Sensitivity,
    Service,
    SourcePolicy,
)
from spa_server.toml_table import Bad, Problem, Table, choice, flag, say, text, under, whole

MAX_SERVICES = 64
LONGEST_LEASE_S = 86400
BLANK = Service(name="", tcp=(), udp=(), roles=frozenset())
"""Holds the defaults of every key."""

_PORT_RANGE = re.compile(r"([0-9]{1,5})-([0-9]{1,5})")
_PORTS = 'ports from 1 to 65535, as numbers or ranges such as "9000-9010"'


def read_services(tables: dict[str, object], problems: list[Problem]) -> tuple[Service, ...]:
    """The services; every problem is added to `problems`, and a default stands in for what was refused."""
    if not tables:
        problems.append(Problem("service", "", "there is no service; it takes at least one table [service.NAME]"))
    if len(tables) > MAX_SERVICES:
        problems.append(Problem("service", f"{len(tables)} services", f"at most {MAX_SERVICES}"))
        return ()
    services = []
    owners: dict[tuple[str, int], str] = {}
    for name, values in tables.items():
        path = under("service", name)
        if not is_service_name(name):
            what = "a name of 1 to 24 lower-case letters, digits and '-', the first a letter"
            problems.append(Problem("service", say(name), what))
        if not isinstance(values, dict):
            problems.append(Problem(path, say(values), f"a table [{path}]"))
            continue
        service = _service(name, Table(path, values, problems))
        services.append(service)
        for port in service.ports():
            other = owners.setdefault(port, name)
            if other != name:
                said = f"port {port[1]}"
                problems.append(Problem(f"{path}.{port[0]}", said, f"ports of its own; {other} has this one"))
                break
    return tuple(services)


def _service(name: str, table: Table) -> Service:
    tcp = _ports(table, "tcp")
    udp = _ports(table, "udp")
    table.required("roles", "a list of the roles that may open it")
    service = Service(
        name=name,
        tcp=tcp,
        udp=udp,
        roles=frozenset(
            table.many("roles", text(is_role, "a role: lower-case letters, digits, '-', first a letter"), "roles")
        ),
        lease_s=table.one("lease_s", whole(1, LONGEST_LEASE_S, "seconds"), BLANK.lease_s),
        max_lease_s=table.one("max_lease_s", whole(1, LONGEST_LEASE_S, "seconds"), BLANK.max_lease_s),
        source=table.one("source", choice(SourcePolicy), BLANK.source),
        on_expiry=table.one("on_expiry", choice(OnExpiry), BLANK.on_expiry),
        hosts=table.many("hosts", host, "addresses"),
        forward_to=_targets(table),
        masquerade=table.one("masquerade", flag, BLANK.masquerade),
        groups=frozenset(
            table.many("groups", text(is_service_name, "a group: lower-case letters, digits, '-'"), "groups")
        ),
        sensitivity=table.one("sensitivity", choice(Sensitivity), BLANK.sensitivity),
        needs_approval=table.one("needs_approval", flag, BLANK.needs_approval),
    )
    table.finish()
    _check_service(service, table)
    return service


def _ports(table: Table, protocol: str) -> tuple[PortRange, ...]:
    ranges = table.many(protocol, _port_range, _PORTS)
    last = 0
    for ports in sorted(ranges, key=lambda ports: ports.first):
        if ports.first <= last:
            table.note(protocol, "each port once", said=f"port {ports.first} a second time")
        last = max(last, ports.last)
    return ranges


def _port_range(value: object) -> PortRange:
    first = last = 0
    if isinstance(value, int) and not isinstance(value, bool):
        first = last = value
    elif isinstance(value, str) and (found := _PORT_RANGE.fullmatch(value)):
        first, last = int(found[1]), int(found[2])
    if not 1 <= first <= last <= 65535:
        raise Bad(_PORTS)
    return PortRange(first, last)


def _targets(table: Table) -> tuple[ForwardTarget, ...]:
    key = "forward_to"
    if table.is_list(key):
        targets = table.many(key, target, "targets")
    else:
        single = table.one(key, target, None)
        targets = () if single is None else (single,)
    versions = [found.address.version for found in targets]
    if len(set(versions)) < len(versions):
        table.note(key, "at most one target a family (IPv4, IPv6)")
    return targets


def _check_service(service: Service, table: Table) -> None:
    """What the keys of one service may not be together."""
    if not table.given("tcp") and not table.given("udp"):
        table.note("tcp", f"there is no port; it takes tcp or udp, a list of {_PORTS}")
    count = {protocol: _count(ranges) for protocol, ranges in (("tcp", service.tcp), ("udp", service.udp))}
    if sum(count.values()) > MAX_PORTS:
        key = max(count, key=lambda protocol: count[protocol])
        table.note(key, f"at most {MAX_PORTS} in one service", said=f"{sum(count.values())} ports")
    if sum(count.values()) * max(1, len(service.hosts)) > MAX_LEASED:
        table.note("hosts", f"at most {MAX_LEASED} pairs of a host and a port", said=f"{len(service.hosts)} hosts")
    if service.lease_s > service.max_lease_s:
        if table.given("lease_s"):
            table.note("lease_s", f"at most max_lease_s, {service.max_lease_s}")
        else:
            table.note("max_lease_s", f"at least lease_s, {service.lease_s}")
    if service.forward_to:
        for protocol, ports in count.items():
            if ports > 1:
                said = f"{ports} ports"
                table.note(protocol, "a single port of a protocol beside forward_to, which names one", said=said)
    elif service.masquerade and not table.given("forward_to"):
        table.note("masquerade", "true only beside forward_to")


def _count(ranges: Iterable[PortRange]) -> int:
    return sum(ports.last - ports.first + 1 for ports in ranges)
