"""Whose address a knock opens: the one that it names under its signature, or else the deliverer's."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from spa_protocol.refusal import Refusal
from tests.end_to_end.crowd import send_all
from tests.end_to_end.running import Laptop, RunningServer
from tests.lab import Lab

FAMILIES = pytest.mark.parametrize("version", [4, 6])
SERVICES = """
[service.signed]
tcp = [8443]
roles = ["admin"]
source = "signed"

[service.seen]
tcp = [9443]
roles = ["admin"]
"""


@pytest.fixture
def server(lab: Lab, folder: Path) -> Iterator[RunningServer]:
    """A server with a service that takes only signed addresses, and one that takes the address it sees too."""
    with RunningServer(lab, folder, SERVICES) as running:
        yield running


def sources(server: RunningServer) -> set[tuple[str, int]]:
    """Whom the leases are for, and the port."""
    return {(lease["source"], lease["port"]) for lease in server.leases()}


@FAMILIES
def test_a_service_with_signed_sources_refuses_a_knock_that_names_none(
    server: RunningServer, alice: Laptop, lab: Lab, version: int
) -> None:
    request = alice.keys().knock("signed")
    answer = alice.keys().answer(alice.ask(request, lab.server.address(version)), request)
    assert answer is not None
    assert (answer.refusal, answer.about) == (Refusal.SOURCE_NOT_SIGNED, "signed")
    assert server.leases() == []


def test_it_opens_with_source_local(server: RunningServer, alice: Laptop, lab: Lab) -> None:
    opened = alice.client("knock", "office", "signed", "--source", "local", check=True)
    assert opened.stdout.count("for the named source") == 2
    assert sources(server) == {(str(alice.host.ipv4), 8443), (str(alice.host.ipv6), 8443)}
    with lab.server.listen_tcp(8443):
        assert alice.host.reaches_tcp(lab.server.ipv4, 8443)
        assert alice.host.reaches_tcp(lab.server.ipv6, 8443)


def test_a_client_without_nat_signs_its_own_address_unasked(server: RunningServer, alice: Laptop) -> None:
    alice.client("knock", "office", "signed", check=True)
    assert sources(server) == {(str(alice.host.ipv4), 8443), (str(alice.host.ipv6), 8443)}


@FAMILIES
@pytest.mark.parametrize("service", ["signed", "seen"])
def test_the_address_named_is_opened_whoever_delivers_the_knock(
    server: RunningServer, alice: Laptop, lab: Lab, service: str, version: int
) -> None:
    hers = alice.host.address(version)
    datagram = alice.keys().knock(service, source=hers)
    assert send_all(server, lab.clients["neighbour"], [datagram], lab.server.address(version)) == {"granted": 1}
    port = {"signed": 8443, "seen": 9443}[service]
    assert sources(server) == {(str(hers), port)}
    with lab.server.listen_tcp(port):
        assert alice.host.reaches_tcp(lab.server.address(version), port)
        assert lab.clients["neighbour"].is_kept_out(lab.server.address(version), port)


@FAMILIES
def test_as_seen_opens_the_deliverers_address_which_the_threat_model_admits(
    server: RunningServer, alice: Laptop, lab: Lab, version: int
) -> None:
    datagram = alice.keys().knock("seen")
    neighbour = lab.clients["neighbour"]
    assert send_all(server, neighbour, [datagram], lab.server.address(version)) == {"granted": 1}
    assert sources(server) == {(str(neighbour.address(version)), 9443)}


@FAMILIES
def test_one_signed_service_among_several_makes_the_whole_knock_need_an_address(
    server: RunningServer, alice: Laptop, lab: Lab, version: int
) -> None:
    datagrams = [alice.keys().knock("seen", "signed"), alice.keys().knock()]
    assert send_all(server, alice.host, datagrams, lab.server.address(version)) == {"source_not_signed": 2}
    assert server.leases() == [], "all or nothing"


def test_another_address_can_be_named_from_the_command_line(server: RunningServer, alice: Laptop, lab: Lab) -> None:
    neighbour = lab.clients["neighbour"]
    alice.client("knock", "office", "seen", "--source", str(neighbour.ipv4), check=True)
    assert sources(server) == {(str(neighbour.ipv4), 9443)}


NO_SOURCES = (
    "1.2.3.4.5",
    "192.0.2.7.",
    "192.0.2",
    "fe80::1%eth0",
    "::ffff:192.0.2.7",
    "0x7f.1",
    "here",
    "",
    "224.0.0.1",
)


def test_an_address_that_is_none_is_refused_in_one_line(server: RunningServer, alice: Laptop) -> None:
    for source in NO_SOURCES:
        refused = alice.client("knock", "office", "seen", "--source", source)
        assert refused.returncode in (2, 3), source
        assert refused.stderr.startswith("spa-client: ")
        assert refused.stderr.count("\n") == 1
    assert server.leases() == []
