"""Before a knock, and for strangers always, nothing at all comes back, whether the server runs or not."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.end_to_end.observing import PATIENCE_S, Capture, probe
from tests.end_to_end.running import KNOCK_PORT, Laptop, RunningServer, enrolled, wait_until
from tests.end_to_end.topology import (
    INNER_TCP,
    INNER_UDP,
    SERVER_TCP,
    SERVER_UDP,
    SERVICES,
    listening,
    publish_container,
)
from tests.lab import Host, Lab

FAMILIES = pytest.mark.parametrize("version", [4, 6])
NMAP = ("nmap", "-n", "-Pn", "--max-retries", "1", "--initial-rtt-timeout", "50ms", "--max-rtt-timeout", "100ms")


@dataclass(frozen=True, slots=True)
class Perimeter:
    """A server with a service of every kind, a listener behind each, and alice's laptop."""

    lab: Lab
    server: RunningServer
    alice: Laptop

    @property
    def stranger(self) -> Host:
        """A host that has never enrolled."""
        return self.lab.clients["stranger"]


@pytest.fixture(scope="module")
def perimeter(module_inner_lab: Lab, module_folder: Path) -> Iterator[Perimeter]:
    """Made once; the tests here change nothing but whether the server runs."""
    lab = module_inner_lab
    publish_container(lab)
    with RunningServer(lab, module_folder, SERVICES) as server, listening(lab):
        yield Perimeter(lab, server, enrolled(server, lab.clients["alice"], "alice-laptop"))


@pytest.fixture(params=["running", "stopped"])
def perimeter_either_way(perimeter: Perimeter, request: pytest.FixtureRequest) -> Iterator[Perimeter]:
    """The perimeter with its server running, and with it stopped."""
    if request.param == "running":
        yield perimeter
        return
    assert perimeter.server.stop() == 0
    yield perimeter
    perimeter.server.start()


@FAMILIES
def test_a_stranger_hears_nothing_from_any_protected_port(perimeter_either_way: Perimeter, version: int) -> None:
    perimeter = perimeter_either_way
    lab, server = perimeter.lab, perimeter.lab.server.address(version)
    with Capture(perimeter.stranger) as capture:
        probe(perimeter.stranger, server, (*SERVER_TCP, KNOCK_PORT), (*SERVER_UDP, KNOCK_PORT))
        probe(perimeter.stranger, lab.inner.address(version), INNER_TCP, INNER_UDP)
        assert capture.packets(control=server) == []


@FAMILIES
def test_nmap_finds_nothing_and_is_answered_by_nothing(perimeter_either_way: Perimeter, version: int) -> None:
    perimeter = perimeter_either_way
    server = perimeter.lab.server.address(version)
    tcp, udp = (*SERVER_TCP, KNOCK_PORT), (*SERVER_UDP, KNOCK_PORT)
    with Capture(perimeter.stranger) as capture:
        states = nmap(perimeter.stranger, "-sS", "-sU", "-p", f"T:{_listed(tcp)},U:{_listed(udp)}", str(server))
        assert capture.packets(control=server) == []
    assert states == {f"{port}/tcp": "filtered" for port in tcp} | {f"{port}/udp": "open|filtered" for port in udp}


@FAMILIES
@pytest.mark.parametrize("scan", ["-sA", "-sX"])
def test_odd_tcp_flags_are_met_with_the_same_silence(perimeter: Perimeter, version: int, scan: str) -> None:
    server = perimeter.lab.server.address(version)
    with Capture(perimeter.stranger) as capture:
        states = nmap(perimeter.stranger, scan, "-p", _listed((*SERVER_TCP, KNOCK_PORT)), str(server))
        assert capture.packets(control=server) == []
    assert set(states.values()) <= {"filtered", "open|filtered"}


@FAMILIES
def test_while_alice_is_inside_a_stranger_still_hears_nothing(perimeter: Perimeter, version: int) -> None:
    lab, server = perimeter.lab, perimeter.lab.server.address(version)
    perimeter.alice.client("knock", "office", check=True)
    assert perimeter.alice.host.reaches_tcp(server, 8443)
    with Capture(perimeter.stranger) as capture:
        probe(perimeter.stranger, server, (*SERVER_TCP, KNOCK_PORT), (*SERVER_UDP, KNOCK_PORT))
        probe(perimeter.stranger, lab.inner.address(version), INNER_TCP, INNER_UDP)
        assert capture.packets(control=server) == []


@FAMILIES
def test_without_the_perimeter_the_same_probes_are_answered(perimeter: Perimeter, version: int) -> None:
    lab, server = perimeter.lab, perimeter.lab.server.address(version)
    everything = {(str(server), port) for port in SERVER_TCP}
    everything |= {(str(lab.inner.address(version)), port) for port in INNER_TCP}
    perimeter.server.command("perimeter", "remove", "--yes")
    try:
        with Capture(perimeter.stranger) as capture:
            probe(perimeter.stranger, server, SERVER_TCP, ())
            probe(perimeter.stranger, lab.inner.address(version), INNER_TCP, ())
            answered: set[tuple[str, int]] = set()
            end_s = time.monotonic() + PATIENCE_S
            while not everything <= answered and time.monotonic() < end_s:
                heard = capture.packets(control=server)
                answered |= {(words.split()[0], int(words.split()[2])) for words in heard}
    finally:
        perimeter.server.command("perimeter", "apply")
    assert answered == everything


def test_strangers_leave_no_line_in_the_log_only_numbers(perimeter: Perimeter) -> None:
    before = perimeter.server.log(), perimeter.server.results()
    dropped = perimeter.server.counter("knock_dropped")
    for version in (4, 6):
        probe(perimeter.stranger, perimeter.lab.server.address(version), (), (KNOCK_PORT,))
    wait_until(lambda: perimeter.server.counter("knock_dropped") == dropped + 6, "all six dropped")
    assert (perimeter.server.log(), perimeter.server.results()) == before


def nmap(host: Host, *words: str) -> dict[str, str]:
    """The state that nmap gives each port, such as {"8443/tcp": "filtered"}."""
    family = ["-6"] if ":" in words[-1] else []
    done = host.run([*NMAP, *family, "-oG", "-", "--reason", *words])
    ports = re.search(r"Ports: ([^\t\n]*)", done.stdout)
    assert ports, done.stdout + done.stderr
    fields = [entry.strip().split("/") for entry in ports[1].split(",")]
    return {f"{field[0]}/{field[2]}": field[1] for field in fields}


def _listed(ports: tuple[int, ...]) -> str:
    return ",".join(map(str, ports))
