"""Each service: does what it leads to exist, and can it be reached once it is open? Pure, over what was read before."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from spa_server.examine.detours import is_shut
from spa_server.examine.findings import Finding, Severity
from spa_server.examine.leads import Place, containers, places
from spa_server.examine.listeners import Listener
from spa_server.examine.obstacles import TO_HERE
from spa_server.examine.rules import RuleBook
from spa_server.examine.surroundings import FORWARDING, Surroundings
from spa_server.service import PortRange, Service

DOCKER_PROXY = "docker-proxy"


def service_findings(
    book: RuleBook, around: Surroundings, listeners: Sequence[Listener], services: Sequence[Service]
) -> Iterator[Finding]:
    """What is to be said of each service, and of what else its programs listen on."""
    led = {(place.service, detour.protocol) for detour, place in containers(book, services)}
    for service in services:
        yield from _forwarding(service, around)
        if service.forward_to or (service.hosts and not set(service.hosts) & around.addresses):
            continue
        for protocol, ranges in (("tcp", service.tcp), ("udp", service.udp)):
            if ranges and (service.name, protocol) not in led:
                yield from _listening(service, protocol, ranges, around, listeners)
    yield from _elsewhere(listeners, services)
    yield from _proxies(book, around, listeners, services)


def _listening(
    service: Service,
    protocol: str,
    ranges: Sequence[PortRange],
    around: Surroundings,
    listeners: Sequence[Listener],
) -> Iterator[Finding]:
    here = [
        each
        for each in listeners
        if each.protocol == protocol and any(ports.first <= each.port <= ports.last for ports in ranges)
    ]
    named = f"service {service.name} ({protocol}/{','.join(map(str, ranges))})"
    evidence = ", ".join(dict.fromkeys(map(str, here)))
    outside = [each for each in here if not each.is_inside_only]
    if not here:
        yield Finding(
            "service-silent",
            Severity.WARNING,
            f"nothing listens for {named}: who opens it finds a closed port",
            "no such socket in /proc/net",
            "start the program behind it, or take its ports out of server.toml",
        )
        return
    if not outside:
        yield Finding(
            "service-loopback",
            Severity.WARNING,
            f"{named} listens on loopback only: a lease cannot make it reachable",
            evidence,
            "have it listen on 0.0.0.0 or [::]; the perimeter keeps it closed",
        )
        return
    for version in (4, 6):
        can = any(version in each.versions for each in outside)
        if not can and service.reaches(version) and around.has_global(version):
            yield Finding(
                f"service-no-ipv{version}",
                Severity.NOTE,
                f"{named} does not listen on IPv{version}, over which this host is reached",
                evidence,
                f"have it listen on {'[::]' if version == 6 else 'an IPv4 address'}, too",
            )
    yield Finding("service-listens", Severity.OK, f"{named} is listened for", evidence)


def _forwarding(service: Service, around: Surroundings) -> Iterator[Finding]:
    inner = [target.address for target in service.forward_to]
    inner += [host for host in service.hosts if host not in around.addresses and not service.forward_to]
    for version in sorted({address.version for address in inner}):
        if version not in around.forwards:
            switch = FORWARDING[version].replace("/", ".")
            yield Finding(
                "forwarding-off",
                Severity.WARNING,
                f"IPv{version} forwarding is off, so the inner host of {service.name} cannot be reached",
                f"{switch} = 0",
                f"sysctl -w {switch}=1",
            )
    for address in dict.fromkeys(inner):
        if not around.ways.get(address):
            yield Finding(
                "no-route",
                Severity.WARNING,
                f"there is no route to {address}, the inner host of {service.name}",
                f"ip route get {address}",
                f"add one: ip route add {address} via GATEWAY",
            )


def _elsewhere(listeners: Sequence[Listener], services: Sequence[Service]) -> Iterator[Finding]:
    """Other ports of the programs behind the services: an admin console, say, that no lease is needed for."""
    mine = {protocol_and_port: service.name for service in services for protocol_and_port in service.ports()}
    behind: dict[int, str] = {}
    for each in listeners:
        name = mine.get((each.protocol, each.port))
        if name and each.process and each.process.pid != 1 and each.process.name != DOCKER_PROXY:
            behind[each.process.pid] = name
    for each in listeners:
        if each.process is None or each.process.pid not in behind or each.is_inside_only:
            continue
        if (each.protocol, each.port) not in mine and not _is_passing(each):
            yield Finding(
                "service-also-listens",
                Severity.NOTE,
                f"the program behind service {behind[each.process.pid]} also listens on"
                f" {each.protocol}/{each.port}, which no lease is needed for",
                str(each),
                "if strangers must not reach that, add the port to a service in server.toml",
            )


def _is_passing(listener: Listener) -> bool:
    """Whether it is a UDP socket of a client's: those are unconnected too, on a port from the ephemeral range."""
    return listener.protocol == "udp" and listener.port >= 32768


def _proxies(
    book: RuleBook, around: Surroundings, listeners: Sequence[Listener], services: Sequence[Service]
) -> Iterator[Finding]:
    """docker-proxy relays a host port to a container in user space, whatever the rules say of NAT."""
    protected = (*places(services), *(place for _, place in containers(book, services)))
    closed = {each for service in services for each in service.ports()}
    for each in listeners:
        if each.process is None or each.process.name != DOCKER_PROXY or each.is_inside_only:
            continue
        given = dict(zip(each.process.arguments[1::2], each.process.arguments[2::2], strict=False))
        target = (given.get("-container-ip", ""), given.get("-container-port", ""))
        reached = [place for place in protected if _is_at(place, each.protocol, *target)]
        if is_shut(book, around, (each.address.version,), (each.protocol, each.port), TO_HERE):
            continue
        if reached and (each.protocol, each.port) not in closed:
            program = "ip6tables" if each.address.version == 6 else "iptables"
            yield Finding(
                "docker-proxy",
                Severity.DANGER,
                f"{each.protocol}/{each.port} leads to service {reached[0].service} ({target[0]}:{target[1]}) by"
                " docker-proxy without a lease; publish it on 127.0.0.1 only, or protect that port too",
                str(each),
                f"{program} -t raw -I PREROUTING ! -i lo -p {each.protocol} --dport {each.port} -j DROP",
            )


def _is_at(place: Place, protocol: str, address: str, port: str) -> bool:
    return (
        place.protocol == protocol
        and str(place.address) == address
        and port.isdigit()
        and place.ports.first <= int(port) <= place.ports.last
    )
