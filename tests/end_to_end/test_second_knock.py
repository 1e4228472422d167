"""A second knock extends a lease and never doubles it; at its end connections are cut or kept, as configured."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.end_to_end.observing import PATIENCE_S, QUIET_S
from tests.end_to_end.pace import lease_ends
from tests.end_to_end.running import Laptop, RunningServer, enrolled, wait_until
from tests.lab import Lab
from tests.stalls import SLACK_S, Between, TooLate, before, in_time, timed

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


def knocked(laptop: Laptop, *words: str) -> Between:
    """Knock; when that was done."""
    return timed(lambda: laptop.client("knock", "office", *words, check=True))[1]


def end(server: RunningServer, laptop: Laptop) -> Between:
    """When the lease of the laptop's IPv4 address ends, which is the only one of that address."""
    ends = lease_ends(server, laptop.host)
    (found,) = (each for key, each in ends.items() if key.startswith(f"{laptop.host.ipv4} "))
    return found


def test_a_longer_second_knock_moves_the_end_and_adds_nothing_up(server: RunningServer, alice: Laptop) -> None:
    knocked(alice, "cut", "--for", "20")
    longer = knocked(alice, "cut", "--for", "60")
    assert end(server, alice).can_be(longer.later(60), SLACK_S)


def test_a_shorter_second_knock_takes_nothing_away(server: RunningServer, alice: Laptop) -> None:
    longer = knocked(alice, "cut", "--for", "200")
    shorter, done = timed(lambda: alice.client("knock", "office", "cut", "--for", "5", "--json", check=True))
    # What is left is read and written anew, so the end may move by as long as that takes.
    due = Between(longer.first_s, longer.last_s + done.length_s).later(200)
    assert end(server, alice).can_be(due, SLACK_S)
    told = done.later(json.loads(shorter.stdout)["left_s"])
    assert Between(told.first_s, told.last_s + 1).can_be(due, SLACK_S), "the answer says what is really left"


def test_a_lease_is_never_longer_than_its_service_allows(server: RunningServer, alice: Laptop) -> None:
    asked = knocked(alice, "cut", "--for", "100000")
    assert end(server, alice).can_be(asked.later(300), SLACK_S)


def test_an_extended_lease_lets_a_connection_live_on_without_a_gap(
    server: RunningServer, alice: Laptop, lab: Lab
) -> None:
    def attempt(lease_s: int) -> None:
        first = knocked(alice, "cut", "--for", str(lease_s))
        with lab.server.listen_tcp(8443) as listener, before(first.first_s + lease_s):
            connection = alice.host.connect_tcp(lab.server.ipv4, 8443)
            accepted, _ = listener.accept()
        with connection, accepted:
            second = knocked(alice, "cut", "--for", str(3 * lease_s))
            if second.last_s >= first.first_s + lease_s:
                raise TooLate("the first lease may have ended before it was extended")
            while time.monotonic() < first.last_s + lease_s + 0.5:
                # A lost packet is sent again after a fifth of a second; a stall looks the same, but not every time.
                if not talks(connection, accepted, patience_s=0.15):
                    raise TooLate("a packet was lost over the first lease's end")
                time.sleep(0.02)
        server.command("lease", "revoke", "alice-laptop")

    in_time(attempt, (2, 4, 8))


@FAMILIES
def test_at_the_end_cut_connections_go_silent_and_kept_ones_go_on(
    server: RunningServer, alice: Laptop, lab: Lab, version: int
) -> None:
    def attempt(lease_s: int) -> None:
        first = knocked(alice, "cut", "keep", "--for", str(lease_s))
        with contextlib.ExitStack() as stack:
            cut_listener = stack.enter_context(lab.server.listen_tcp(8443))
            keep_listener = stack.enter_context(lab.server.listen_tcp(22))
            with before(first.first_s + lease_s):
                cut = stack.enter_context(alice.host.connect_tcp(lab.server.address(version), 8443))
                keep = stack.enter_context(alice.host.connect_tcp(lab.server.address(version), 22))
                at_cut = stack.enter_context(cut_listener.accept()[0])
                at_keep = stack.enter_context(keep_listener.accept()[0])
                assert talks(cut, at_cut)
                assert talks(keep, at_keep)
            wait_until(lambda: server.leases() == [], "the end of the leases")
            assert not talks(cut, at_cut, QUIET_S)
            assert talks(keep, at_keep)
            assert alice.host.is_kept_out(lab.server.address(version), 22), "a new connection is another matter"

    in_time(attempt, (2, 6, 25))


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
            assert not talks(connection, accepted, QUIET_S)
    assert alice.host.is_kept_out(lab.server.address(version), port)


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
            assert not talks(hers, at_hers, QUIET_S)
            assert talks(his, at_his)


def test_a_hanging_server_does_not_keep_an_operator_from_revoking(
    server: RunningServer, alice: Laptop, lab: Lab
) -> None:
    alice.client("knock", "office", check=True)
    os.kill(server.network_pid, signal.SIGSTOP)
    server.command("lease", "revoke", str(alice.host.ipv4))
    with lab.server.listen_tcp(8443):
        assert alice.host.is_kept_out(lab.server.ipv4, 8443)
        assert alice.host.reaches_tcp(lab.server.ipv6, 8443), "only that address was put out"


def talks(one: socket.socket, other: socket.socket, patience_s: float = PATIENCE_S) -> bool:
    """Whether what one end says reaches the other."""
    other.settimeout(patience_s)
    try:
        one.send(b"x")
        return other.recv(1) == b"x"
    except OSError:
        return False


def is_ended(accepted: socket.socket) -> bool:
    """Whether the server's end of a connection was destroyed: the program that reads it is told at once."""
    accepted.settimeout(PATIENCE_S)
    try:
        return accepted.recv(1) == b""
    except TimeoutError:
        return False
    except OSError:
        return True
