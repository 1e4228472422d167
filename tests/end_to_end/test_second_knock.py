"""A second knock extends a lease and never doubles it; at its end connections are cut or kept, as configured."""

from __future__ import annotations

import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.end_to_end.observing import seconds_until
from tests.end_to_end.running import Laptop, RunningServer, enrolled
from tests.lab import Lab

FAMILIES = pytest.mark.parametrize("version", [4, 6])

SERVICES = """
[service.cut]
tcp = [8443]
roles = ["admin"]

[service.keep]
tcp = [22]
roles = ["admin"]
on_expiry = "keep"
"""


@pytest.fixture
def server(lab: Lab, folder: Path) -> Iterator[RunningServer]:
    """A server with a service that is cut when the lease ends, and one that is kept."""
    with RunningServer(lab, folder, SERVICES) as running:
        yield running


def left_ms(server: RunningServer, laptop: Laptop) -> list[int]:
    """The milliseconds left of each lease of the laptop's IPv4 address."""
    return [lease["left_ms"] for lease in server.leases() if lease["source"] == str(laptop.host.ipv4)]


def test_a_longer_second_knock_moves_the_end_and_adds_nothing_up(server: RunningServer, alice: Laptop) -> None:
    alice.client("knock", "office", "cut", "--for", "20", check=True)
    alice.client("knock", "office", "cut", "--for", "60", check=True)
    (left,) = left_ms(server, alice)
    assert 55_000 < left <= 60_000


def test_a_shorter_second_knock_takes_nothing_away(server: RunningServer, alice: Laptop) -> None:
    alice.client("knock", "office", "cut", "--for", "60", check=True)
    shorter = alice.client("knock", "office", "cut", "--for", "5", "--json", check=True)
    (left,) = left_ms(server, alice)
    assert 55_000 < left <= 60_000
    assert '"left_s": 5' in shorter.stdout, "the answer says what is really left"


def test_a_lease_is_never_longer_than_its_service_allows(server: RunningServer, alice: Laptop) -> None:
    alice.client("knock", "office", "cut", "--for", "100000", check=True)
    (left,) = left_ms(server, alice)
    assert 295_000 < left <= 300_000


def test_an_extended_lease_lets_a_connection_live_on_without_a_gap(
    server: RunningServer, alice: Laptop, lab: Lab
) -> None:
    alice.client("knock", "office", "cut", "--for", "1", check=True)
    begun_s = time.monotonic()
    with lab.server.listen_tcp(8443) as listener, alice.host.connect_tcp(lab.server.ipv4, 8443) as connection:
        accepted, _ = listener.accept()
        with accepted:
            alice.client("knock", "office", "cut", "--for", "3", check=True)
            while time.monotonic() < begun_s + 2:
                assert talks(connection, accepted, patience_s=0.15), "no packet is lost over the first lease's end"
                time.sleep(0.02)


@FAMILIES
def test_at_the_end_cut_connections_go_silent_and_kept_ones_go_on(
    server: RunningServer, alice: Laptop, lab: Lab, version: int
) -> None:
    alice.client("knock", "office", "cut", "keep", "--for", "1", check=True)
    with (
        lab.server.listen_tcp(8443) as cut_listener,
        lab.server.listen_tcp(22) as keep_listener,
        alice.host.connect_tcp(lab.server.address(version), 8443) as cut,
        alice.host.connect_tcp(lab.server.address(version), 22) as keep,
    ):
        at_cut, at_keep = cut_listener.accept()[0], keep_listener.accept()[0]
        with at_cut, at_keep:
            assert talks(cut, at_cut)
            assert talks(keep, at_keep)
            seconds_until(lambda: server.leases() == [])
            assert not talks(cut, at_cut)
            assert talks(keep, at_keep)
            assert not alice.host.reaches_tcp(lab.server.address(version), 22), "a new connection is another matter"


@FAMILIES
@pytest.mark.parametrize("port", [8443, 22])
def test_revoking_a_lease_ends_its_live_connections(
    server: RunningServer, alice: Laptop, lab: Lab, version: int, port: int
) -> None:
    alice.client("knock", "office", check=True)
    with (
        lab.server.listen_tcp(port) as listener,
        alice.host.connect_tcp(lab.server.address(version), port) as connection,
    ):
        accepted, _ = listener.accept()
        with accepted:
            assert talks(connection, accepted)
            said = server.command("lease", "revoke", "alice-laptop").stdout
            assert "4 leases" in said
            assert is_ended(accepted)
            assert not talks(connection, accepted)
    assert not alice.host.reaches_tcp(lab.server.address(version), port)


@FAMILIES
def test_disabling_a_device_ends_its_connections_and_leaves_others_be(
    server: RunningServer, alice: Laptop, lab: Lab, version: int
) -> None:
    neighbour = enrolled(server, lab.clients["neighbour"], "neighbour-laptop")
    for laptop in (alice, neighbour):
        laptop.client("knock", "office", check=True)
    server_address = lab.server.address(version)
    with (
        lab.server.listen_tcp(8443) as listener,
        alice.host.connect_tcp(server_address, 8443) as hers,
        neighbour.host.connect_tcp(server_address, 8443) as his,
    ):
        at_hers, at_his = listener.accept()[0], listener.accept()[0]
        with at_hers, at_his:
            server.command("device", "disable", "alice-laptop")
            assert is_ended(at_hers)
            assert not talks(hers, at_hers)
            assert talks(his, at_his)


def test_a_hanging_server_does_not_keep_an_operator_from_revoking(
    server: RunningServer, alice: Laptop, lab: Lab
) -> None:
    alice.client("knock", "office", check=True)
    server.signal(signal.SIGSTOP)
    server.command("lease", "revoke", str(alice.host.ipv4))
    with lab.server.listen_tcp(8443):
        assert not alice.host.reaches_tcp(lab.server.ipv4, 8443)
        assert alice.host.reaches_tcp(lab.server.ipv6, 8443), "only that address was put out"


def talks(one: socket.socket, other: socket.socket, patience_s: float = 0.2) -> bool:
    """Whether what one end says reaches the other."""
    other.settimeout(patience_s)
    try:
        one.send(b"x")
        return other.recv(1) == b"x"
    except OSError:
        return False


def is_ended(accepted: socket.socket) -> bool:
    """Whether the server's end of a connection was destroyed: the program that reads it is told at once."""
    accepted.settimeout(2)
    try:
        return accepted.recv(1) == b""
    except TimeoutError:
        return False
    except OSError:
        return True
