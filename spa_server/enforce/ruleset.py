"""The text of the closed ruleset: one template, filled in with the knock ports and the services.

Pure: text out. Loading it into the kernel is `perimeter`'s.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType

from spa_server.service import OnExpiry, PortRange, Service

TABLE = "spa"
SERVICE_CHAIN = "service-"
GATE_COUNTERS = ("knock_admitted", "knock_dropped")
KNOCK_UDP_LENGTH = 520
"""A knock's 512 bytes and the UDP header's 8."""

TAG_SET_SIZE = 4_194_304
"""Most tags armed at once: 40,000 devices with 6 windows of 16 slots. A large size reserves nothing: sixteen empty sets
of 8 million elements took no measurable memory (Linux 6.18, nftables 1.0.6); each armed tag takes some 90 bytes."""
LEASE_SET_SIZE = 1_048_576

HOLD_TABLES = ("spa-hold", "spa-hold-2")
"""What stands in for the perimeter's table while that one is replaced; of two names one is always free."""

# Commands one by one, none of which names the table's own flags: nft up to 1.0.6 cannot write `persist`, and refuses to
# add to a table that has it. No rule accepts 'established' or reply-direction packets before the lease is asked: a
# stranger could make such flows.
TEMPLATE = """\
{counters}
# One-time tags, the first 8 bytes of a knock. The kernel deletes each in the act of admitting its datagram.
add set inet {table} tags {{ typeof @th,64,64; size {tag_set_size}; flags dynamic,timeout; }}

# Who is inside: source . destination . protocol . port, with the device's label as comment.
add set inet {table} leases4 {{ type ipv4_addr . ipv4_addr . inet_proto . inet_service; size {lease_set_size}; flags timeout; }}
add set inet {table} leases6 {{ type ipv6_addr . ipv6_addr . inet_proto . inet_service; size {lease_set_size}; flags timeout; }}

# After reassembly (-400), before connection tracking (-200): a flood of datagrams leaves no trace in it. Knocks that
# this host forwards to other servers are not its business.
add chain inet {table} knock {{ type filter hook prerouting priority raw; policy accept; }}
{gate}
# After connection tracking (-200), before destination NAT (-100): it sees the port that the client used, also where
# another table publishes a container's port or forwards to another host.
add chain inet {table} services {{ type filter hook prerouting priority mangle; policy accept; }}
{chains}
add rule inet {table} services iif "lo" accept
{dispatch}# To TCP a knock port is as silent as to UDP: no reset sets it apart from the services.
add rule inet {table} services tcp dport {knock_ports} fib daddr type local ct state new,invalid,untracked counter name knock_dropped drop
{forwards}"""  # noqa: E501 - rules are not broken over lines

GATE = """\
add rule inet {table} knock udp dport {knock_ports} udp length {knock_length} @th,64,64 @tags delete @tags {{ @th,64,64 }} counter name knock_admitted accept
"""  # noqa: E501 - rules are not broken over lines

GATE_SHUT = """\
add rule inet {table} knock udp dport {knock_ports} fib daddr type {{ local, broadcast, multicast }} counter name knock_dropped drop
"""  # noqa: E501 - rules are not broken over lines

SERVICE_TEMPLATE = """
add chain inet {table} {chain}
add rule inet {table} {chain} {leased4} ct label set 127 counter name {chain}-admitted accept
add rule inet {table} {chain} {leased6} ct label set 127 counter name {chain}-admitted accept
{keep}add rule inet {table} {chain} counter name {chain}-dropped drop
"""

LEASED4 = "ip saddr . ip daddr . meta l4proto . th dport @leases4"
LEASED6 = "ip6 saddr . ip6 daddr . meta l4proto . th dport @leases6"

KEEP = """\
add rule inet {table} {chain} tcp flags & (syn | ack) == syn counter name {chain}-dropped drop
add rule inet {table} {chain} ct label 127 ct state established ct direction original counter name {chain}-admitted accept
"""  # noqa: E501 - rules are not broken over lines
"""Sessions may outlive their lease: but only flows that a lease admitted bear the label, and no new connection may take
over the tracked entry of an old one with the same ports, which to connection tracking is still established."""

FORWARD_TEMPLATE = """
# Leased packets go to the inner host. Earlier than other tables' destination NAT, which is at -100.
add chain inet {table} forward-to {{ type nat hook prerouting priority -110; policy accept; }}
{rules}"""

MASQUERADE_TEMPLATE = """
add chain inet {table} forward-to-source {{ type nat hook postrouting priority srcnat; policy accept; }}
{rules}"""

Counts = Mapping[str, tuple[int, int]]
"""Packets and bytes by a counter's name."""
NOTHING_COUNTED: Counts = MappingProxyType({})


def ruleset(knock_ports: Sequence[int], services: Sequence[Service], counted: Counts = NOTHING_COUNTED) -> str:
    """What closes the knock ports and every service, as commands for a table that is there.

    Loading it changes no lease, no armed tag and no counter that is there; counters that are not begin at `counted`.
    """
    return _text(TABLE, GATE + GATE_SHUT, knock_ports, services, counted)


def hold_ruleset(table: str, knock_ports: Sequence[int], services: Sequence[Service]) -> str:
    """The same for a table that stands in for a while: no knock passes it."""
    return _text(table, GATE_SHUT, knock_ports, services, NOTHING_COUNTED)


def rules_in(text: str) -> Mapping[str, int]:
    """How many rules a ruleset text puts into each chain."""
    return Counter(line.split()[4] for line in text.splitlines() if line.startswith("add rule "))


def _text(table: str, gate: str, knock_ports: Sequence[int], services: Sequence[Service], counted: Counts) -> str:
    forwards = "".join(line for service in services for line in _forward_rules(table, service))
    masquerades = "".join(line for service in services for line in _masquerade_rules(table, service))
    nat = FORWARD_TEMPLATE.format(table=table, rules=forwards) if forwards else ""
    nat += MASQUERADE_TEMPLATE.format(table=table, rules=masquerades) if masquerades else ""
    names = (*GATE_COUNTERS, *(name for service in services for name in service_counters(service)))
    ports = _one_of(knock_ports)
    return TEMPLATE.format(
        table=table,
        knock_ports=ports,
        gate=gate.format(table=table, knock_ports=ports, knock_length=KNOCK_UDP_LENGTH),
        tag_set_size=TAG_SET_SIZE,
        lease_set_size=LEASE_SET_SIZE,
        counters="".join(_counter(table, name, *counted.get(name, (0, 0))) for name in names),
        chains="".join(_service_chain(table, service) for service in services),
        dispatch="".join(_dispatch(table, services)),
        forwards=nat,
    )


def _one_of(ports: Sequence[int]) -> str:
    """Ports as a match has them; a single one is compared, which is cheaper than to look it up in a set."""
    listed = ", ".join(map(str, sorted(ports)))
    return listed if len(ports) == 1 else f"{{ {listed} }}"


def _counter(table: str, name: str, packets: int, octets: int) -> str:
    return f"add counter inet {table} {name} {{ packets {packets} bytes {octets} }}\n"


def chain_names(services: Sequence[Service]) -> frozenset[str]:
    """Every chain that the ruleset has."""
    names = {"knock", "services"} | {SERVICE_CHAIN + service.name for service in services}
    if any(service.forward_to for service in services):
        names.add("forward-to")
    if any(service.masquerade and service.forward_to for service in services):
        names.add("forward-to-source")
    return frozenset(names)


def counter_names(services: Sequence[Service]) -> frozenset[str]:
    """Every counter that the ruleset has."""
    return frozenset((*GATE_COUNTERS, *(name for service in services for name in service_counters(service))))


def service_counters(service: Service) -> tuple[str, str]:
    """The counters of packets to a service's ports: admitted and dropped."""
    return f"{SERVICE_CHAIN}{service.name}-admitted", f"{SERVICE_CHAIN}{service.name}-dropped"


def _service_chain(table: str, service: Service) -> str:
    chain = SERVICE_CHAIN + service.name
    keep = KEEP.format(table=table, chain=chain) if service.on_expiry is OnExpiry.KEEP else ""
    return SERVICE_TEMPLATE.format(table=table, chain=chain, leased4=LEASED4, leased6=LEASED6, keep=keep)


def _dispatch(table: str, services: Sequence[Service]) -> Iterator[str]:
    """Which packets belong to which service.

    The ports of a service without hosts are closed at every address, so that none is forgotten; of one with hosts, at
    those and at this host's own.
    """
    for service in services:
        for port_match in _port_matches(service):
            for place in _places(service):
                yield f"add rule inet {table} services {port_match}{place} goto {SERVICE_CHAIN}{service.name}\n"
    # What is reached through a service only must not be reached around it, by routing to it directly.
    for service in services:
        for target in service.forward_to:
            for protocol in _protocols(service):
                family = _family(target.address.version)
                yield (
                    f"add rule inet {table} services {family} daddr {target.address} {protocol} dport {target.port}"
                    f" goto {SERVICE_CHAIN}{service.name}\n"
                )


def _places(service: Service) -> Iterator[str]:
    """Where a service's ports are closed, as matches to follow those of the ports."""
    yield " fib daddr type { local, broadcast, multicast }" if service.hosts else ""
    for version in (4, 6):
        hosts = sorted({host for host in service.hosts if host.version == version}, key=int)
        if hosts:
            yield f" {_family(version)} daddr {{ {', '.join(map(str, hosts))} }}"


def _port_matches(service: Service) -> Iterator[str]:
    for protocol, ranges in (("tcp", service.tcp), ("udp", service.udp)):
        if ranges:
            yield f"{protocol} dport {{ {', '.join(map(str, merged(ranges)))} }}"


def _protocols(service: Service) -> Iterator[str]:
    if service.tcp:
        yield "tcp"
    if service.udp:
        yield "udp"


def _forward_rules(table: str, service: Service) -> Iterator[str]:
    for target in service.forward_to:
        version = target.address.version
        leased = LEASED4 if version == 4 else LEASED6
        for ports in _port_matches(service):
            yield f"add rule inet {table} forward-to {ports} {leased} dnat {_family(version)} to {target}\n"


def _masquerade_rules(table: str, service: Service) -> Iterator[str]:
    if not service.masquerade:
        return
    for target in service.forward_to:
        for protocol in _protocols(service):
            yield (
                f"add rule inet {table} forward-to-source ct label 127 ct status dnat"
                f" {_family(target.address.version)} daddr {target.address}"
                f" {protocol} dport {target.port} masquerade\n"
            )


def _family(version: int) -> str:
    return "ip" if version == 4 else "ip6"


def merged(ranges: Iterable[PortRange]) -> tuple[PortRange, ...]:
    """The same ports in ascending ranges that neither overlap nor touch: nft refuses overlapping intervals."""
    result: list[PortRange] = []
    for each in sorted(ranges, key=lambda ports: ports.first):
        if result and each.first <= result[-1].last + 1:
            result[-1] = PortRange(result[-1].first, max(result[-1].last, each.last))
        else:
            result.append(each)
    return tuple(result)
