"""After a knock exactly what was leased passes: this source, to these addresses, by these protocols and ports."""

from __future__ import annotations

import itertools
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.end_to_end.observing import PATIENCE_S, QUIET_S, Capture, echoes, probe, reached, udp_passes
from tests.end_to_end.running import Laptop, RunningServer, enrolled, udp_socket
from tests.end_to_end.topology import SERVER_TCP, SERVER_UDP, SERVICES, listening, publish_container
from tests.lab import Address, Host, Lab

_numbers = itertools.count(1)
FAMILIES = pytest.mark.parametrize("version", [4, 6])


@dataclass(frozen=True, slots=True)
class Perimeter:
    """A server with a service of every kind, a listener behind each, and two laptops."""

    lab: Lab
    server: RunningServer
    alice: Laptop
    neighbour: Laptop

    def reached_by(self, host: Host, version: int, *awaited: int) -> set[int]:
        """The TCP ports of the server's address that the host reaches; the ones awaited are waited for."""
        return reached(host, self.lab.server.address(version), SERVER_TCP, awaited)


@pytest.fixture(scope="module")
def server(module_inner_lab: Lab, module_folder: Path) -> Iterator[RunningServer]:
    """The server, which no test here restarts."""
    publish_container(module_inner_lab)
    with RunningServer(module_inner_lab, module_folder, SERVICES) as running, listening(module_inner_lab):
        yield running


@pytest.fixture(scope="module")
def neighbour(server: RunningServer, module_inner_lab: Lab) -> Laptop:
    """A laptop that is enrolled, and hardly ever inside."""
    return enrolled(server, module_inner_lab.clients["neighbour"], "neighbour-laptop")


@pytest.fixture
def perimeter(server: RunningServer, neighbour: Laptop, module_inner_lab: Lab) -> Perimeter:
    """The perimeter with nobody inside, and alice with a laptop that has not knocked yet: a minute has 16 knocks."""
    for label in {lease["device"] for lease in server.leases()}:
        server.command("lease", "revoke", label)
    alice = enrolled(server, module_inner_lab.clients["alice"], f"alice-{next(_numbers)}")
    return Perimeter(module_inner_lab, server, alice, neighbour)


@FAMILIES
@pytest.mark.parametrize(
    ("service", "ports"),
    [("web", {8443}), ("range", {8000, 8001, 8002, 8003}), ("published", {8080}), ("inner-web", {9443})],
)
def test_one_service_opens_its_own_ports_to_its_own_source(
    perimeter: Perimeter, service: str, ports: set[int], version: int
) -> None:
    perimeter.alice.client("knock", "office", service, check=True)
    assert perimeter.reached_by(perimeter.alice.host, version, *ports) == ports
    assert perimeter.reached_by(perimeter.neighbour.host, version) == set()


@FAMILIES
def test_a_routed_host_is_open_at_its_own_address(perimeter: Perimeter, version: int) -> None:
    database = perimeter.lab.inner.address(version)
    alice, neighbour = perimeter.alice.host, perimeter.neighbour.host
    assert alice.is_kept_out(database, 5432)
    perimeter.alice.client("knock", "office", "database", check=True)
    assert alice.reaches_tcp(database, 5432)
    assert neighbour.is_kept_out(database, 5432)
    assert alice.is_kept_out(database, 443), "the other service's inner port is not reached around it"


@FAMILIES
def test_udp_is_leased_as_tcp_is(perimeter: Perimeter, version: int) -> None:
    alice, neighbour, server = perimeter.alice.host, perimeter.neighbour.host, perimeter.lab.server
    assert not udp_passes(alice, server, 8443, version, QUIET_S)
    perimeter.alice.client("knock", "office", "web", "range", check=True)
    for port in (8443, 8000, 8001):
        assert udp_passes(alice, server, port, version)
    assert not udp_passes(neighbour, server, 8443, version, QUIET_S)


@FAMILIES
@pytest.mark.parametrize(("service", "outer", "inner"), [("published", 8080, 80), ("inner-web", 9443, 443)])
def test_udp_is_led_to_the_inner_host_and_back(
    perimeter: Perimeter, service: str, outer: int, inner: int, version: int
) -> None:
    alice, server = perimeter.alice.host, perimeter.lab.server.address(version)
    with perimeter.lab.inner.bind_udp(inner) as behind:
        assert not answered(alice, behind, server, outer, QUIET_S)
        perimeter.alice.client("knock", "office", service, check=True)
        assert answered(alice, behind, server, outer)
        assert not answered(perimeter.neighbour.host, behind, server, outer, QUIET_S)


@FAMILIES
def test_several_services_are_opened_by_one_knock(perimeter: Perimeter, version: int) -> None:
    perimeter.alice.client("knock", "office", "web", "published", check=True)
    assert perimeter.reached_by(perimeter.alice.host, version, 8443, 8080) == {8443, 8080}
    perimeter.neighbour.client("knock", "office", check=True)
    assert perimeter.reached_by(perimeter.neighbour.host, version, *SERVER_TCP) == set(SERVER_TCP)
    assert perimeter.reached_by(perimeter.alice.host, version, 8443, 8080) == {8443, 8080}


@pytest.mark.parametrize(("knocked", "other"), [(4, 6), (6, 4)])
def test_a_knock_by_one_family_opens_that_family_alone(perimeter: Perimeter, knocked: int, other: int) -> None:
    alice = perimeter.alice
    request = alice.keys().knock("web")
    answer = alice.keys().answer(alice.ask(request, perimeter.lab.server.address(knocked)), request)
    assert answer is not None
    assert answer.refusal is None
    assert perimeter.reached_by(alice.host, knocked, 8443) == {8443}
    assert perimeter.reached_by(alice.host, other) == set()


@FAMILIES
def test_another_address_of_the_same_server_stays_closed(perimeter: Perimeter, version: int) -> None:
    perimeter.alice.client("knock", "office", "web", check=True)
    second = "10.9.0.1" if version == 4 else "fd00:9::1"
    assert perimeter.alice.host.is_kept_out(second, 8443)


@FAMILIES
def test_what_is_not_leased_stays_silent_to_whoever_is_inside(perimeter: Perimeter, version: int) -> None:
    perimeter.alice.client("knock", "office", "web", check=True)
    server = perimeter.lab.server.address(version)
    with Capture(perimeter.alice.host) as capture:
        others = [port for port in SERVER_TCP if port != 8443], [port for port in SERVER_UDP if port != 8443]
        probe(perimeter.alice.host, server, *others)
        assert capture.packets(control=server) == []


def test_the_server_itself_reaches_its_services_over_loopback(perimeter: Perimeter) -> None:
    assert perimeter.lab.server.reaches_tcp("127.0.0.1", 8443)
    assert perimeter.lab.server.reaches_tcp("::1", 8443)


def answered(host: Host, behind: socket.socket, to: Address, port: int, patience_s: float = PATIENCE_S) -> bool:
    """Whether a datagram from the host reaches the socket behind that port, and the echo comes back."""
    with udp_socket(host, to) as sender:
        return echoes(sender, behind, (str(to), port), patience_s)
