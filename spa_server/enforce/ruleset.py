"""The text of the closed ruleset: one template, filled in with the knock port and the services.

Pure: text out. Loading it into the kernel is `perimeter`'s.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from spa_server.service import OnExpiry, PortRange, Service

TABLE = "spa"
SERVICE_CHAIN = "service-"
KNOCK_UDP_LENGTH = 520
"""A knock's 512 bytes and the UDP header's 8."""

TAG_SET_SIZE = 4_194_304
"""Most tags armed at once: 40,000 devices with 6 windows of 16 slots. A large size reserves nothing: sixteen empty sets
of 8 million elements took no measurable memory (Linux 6.18, nftables 1.0.6); each armed tag takes some 90 bytes."""
LEASE_SET_SIZE = 1_048_576

# No rule accepts 'established' or reply-direction packets before the lease is asked: a stranger could make such flows.
TEMPLATE = """\
table inet {table} {{
	counter knock_admitted {{ }}
	counter knock_dropped {{ }}
{counters}
	# One-time tags, the first 8 bytes of a knock. The kernel deletes each in the act of admitting its datagram.
	set tags {{
		typeof @th,64,64
		size {tag_set_size}
		flags dynamic,timeout
	}}

	# Who is inside: source . destination . protocol . port, with the device's label as comment.
	set leases4 {{
		type ipv4_addr . ipv4_addr . inet_proto . inet_service
		size {lease_set_size}
		flags timeout
	}}
	set leases6 {{
		type ipv6_addr . ipv6_addr . inet_proto . inet_service
		size {lease_set_size}
		flags timeout
	}}

	# After reassembly (-400), before connection tracking (-200): a flood of datagrams leaves no trace in it. Knocks that
	# this host forwards to other servers are not its business.
	chain knock {{
		type filter hook prerouting priority raw; policy accept;
		udp dport {knock_port} udp length {knock_length} @th,64,64 @tags delete @tags {{ @th,64,64 }} counter name knock_admitted accept
		udp dport {knock_port} fib daddr type {{ local, broadcast, multicast }} counter name knock_dropped drop
	}}

	# After connection tracking (-200), before destination NAT (-100): it sees the port that the client used, also where
	# another table publishes a container's port or forwards to another host.
	chain services {{
		type filter hook prerouting priority mangle; policy accept;
		iif "lo" accept
{dispatch}		# To TCP the knock port is as silent as to UDP: no reset sets it apart from the services.
		tcp dport {knock_port} fib daddr type local ct state new,invalid,untracked counter name knock_dropped drop
	}}
{chains}}}
"""  # noqa: E501 - rules are not broken over lines

SERVICE_TEMPLATE = """
	chain {chain} {{
		{leased4} ct label set 127 counter name {chain}-admitted accept
		{leased6} ct label set 127 counter name {chain}-admitted accept
{keep}		counter name {chain}-dropped drop
	}}
"""

LEASED4 = "ip saddr . ip daddr . meta l4proto . th dport @leases4"
LEASED6 = "ip6 saddr . ip6 daddr . meta l4proto . th dport @leases6"

KEEP = """\
		tcp flags & (syn | ack) == syn counter name {chain}-dropped drop
		ct label 127 ct state established ct direction original counter name {chain}-admitted accept
"""
"""Sessions may outlive their lease: but only flows that a lease admitted bear the label, and no new connection may take
over the tracked entry of an old one with the same ports, which to connection tracking is still established."""

FORWARD_TEMPLATE = """
	# Leased packets go to the inner host. Earlier than other tables' destination NAT, which is at -100.
	chain forward-to {{
		type nat hook prerouting priority -110; policy accept;
{rules}	}}
"""

MASQUERADE_TEMPLATE = """
	chain forward-to-source {{
		type nat hook postrouting priority srcnat; policy accept;
{rules}	}}
"""


def ruleset(knock_port: int, services: Sequence[Service]) -> str:
    """The table that closes the knock port and every service; loading it changes no lease and no armed tag."""
    forwards = "".join(line for service in services for line in _forward_rules(service))
    masquerades = "".join(line for service in services for line in _masquerade_rules(service))
    chains = "".join(_service_chain(service) for service in services)
    if forwards:
        chains += FORWARD_TEMPLATE.format(rules=forwards)
    if masquerades:
        chains += MASQUERADE_TEMPLATE.format(rules=masquerades)
    return TEMPLATE.format(
        table=TABLE,
        knock_port=knock_port,
        knock_length=KNOCK_UDP_LENGTH,
        tag_set_size=TAG_SET_SIZE,
        lease_set_size=LEASE_SET_SIZE,
        counters="".join(f"\tcounter {name} {{ }}\n" for name in _service_counters(services)),
        dispatch="".join(_dispatch(services)),
        chains=chains,
    )


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
    return frozenset(("knock_admitted", "knock_dropped", *_service_counters(services)))


def _service_counters(services: Iterable[Service]) -> Iterator[str]:
    for service in services:
        yield f"{SERVICE_CHAIN}{service.name}-admitted"
        yield f"{SERVICE_CHAIN}{service.name}-dropped"


def _service_chain(service: Service) -> str:
    chain = SERVICE_CHAIN + service.name
    keep = KEEP.format(chain=chain) if service.on_expiry is OnExpiry.KEEP else ""
    return SERVICE_TEMPLATE.format(chain=chain, leased4=LEASED4, leased6=LEASED6, keep=keep)


def _dispatch(services: Sequence[Service]) -> Iterator[str]:
    """Which packets belong to which service.

    The ports of a service without hosts are closed at every address, so that none is forgotten; of one with hosts, at
    those and at this host's own.
    """
    for service in services:
        for port_match in _port_matches(service):
            for place in _places(service):
                yield f"\t\t{port_match}{place} goto {SERVICE_CHAIN}{service.name}\n"
    # What is reached through a service only must not be reached around it, by routing to it directly.
    for service in services:
        for target in service.forward_to:
            for protocol in _protocols(service):
                family = _family(target.address.version)
                yield (
                    f"\t\t{family} daddr {target.address} {protocol} dport {target.port}"
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


def _forward_rules(service: Service) -> Iterator[str]:
    for target in service.forward_to:
        version = target.address.version
        leased = LEASED4 if version == 4 else LEASED6
        for ports in _port_matches(service):
            yield f"\t\t{ports} {leased} dnat {_family(version)} to {target}\n"


def _masquerade_rules(service: Service) -> Iterator[str]:
    if not service.masquerade:
        return
    for target in service.forward_to:
        for protocol in _protocols(service):
            yield (
                f"\t\tct label 127 ct status dnat {_family(target.address.version)} daddr {target.address}"
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
