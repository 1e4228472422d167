"""`spa-client exec`: a command runs through the pinhole, which stays open for as long as the command runs."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.end_to_end.probing import Edge
from tests.end_to_end.running import Laptop, RunningServer
from tests.lab import Lab
from tests.stalls import ATTEMPTS, SLACK_S, timed

SERVICES = """
[service.web]
tcp = [8443]
roles = ["admin"]
lease_s = 6
"""
LEASE_S = 6
CONNECTING = """
import socket, sys, time
end = time.monotonic() + float(sys.argv[1])
missed = made = 0
while not made or time.monotonic() < end:
    made += 1
    for address in sys.argv[2:]:
        try:
            socket.create_connection((address, 8443), timeout=0.3).close()
        except OSError:
            missed += 1
    time.sleep(0.03)
sys.exit(min(missed, 100))
"""
"""Connects anew all the time; its status is how often that failed."""


@pytest.fixture
def server(lab: Lab, folder: Path) -> Iterator[RunningServer]:
    """A server whose leases last six seconds, and that takes as many renewals a minute as several runs need."""
    with RunningServer(lab, folder, SERVICES, slots=64) as running:
        yield running


def test_the_commands_own_status_is_the_exit_code(server: RunningServer, alice: Laptop) -> None:
    for status in (0, 1, 42, 255):
        assert alice.client("exec", "office", "--", "sh", "-c", f"exit {status}").returncode == status


def test_a_command_ended_by_a_signal_gives_what_a_shell_would(server: RunningServer, alice: Laptop) -> None:
    assert alice.client("exec", "office", "--", "sh", "-c", "kill -TERM $$").returncode == 128 + 15


def test_the_lease_is_kept_while_the_command_runs(server: RunningServer, alice: Laptop, lab: Lab) -> None:
    missed: list[int] = []
    # Where nobody renews it, it fails every time; where a process stood still for three seconds, once.
    while len(missed) < ATTEMPTS and not (missed and missed[-1] == 0):
        with lab.server.listen_tcp(8443) as listener:
            addresses = (str(lab.server.ipv4), str(lab.server.ipv6))
            running = alice.start_client("exec", "office", "--", sys.executable, "-c", CONNECTING, "13", *addresses)
            listener.settimeout(0.1)
            accepted = 0
            begun_s = time.monotonic()
            while running.poll() is None:
                with contextlib.suppress(TimeoutError):
                    listener.accept()[0].close()
                    accepted += 1
        missed.append(running.returncode)
        over_s = time.monotonic()
        print(f"\n{accepted} connections in {over_s - begun_s:.1f} s under leases of {LEASE_S} s, {missed[-1]} failed")
    assert missed[-1] == 0, f"connections failed while the command ran: {missed}"
    assert accepted > 50
    edge = Edge()
    while edge.first_not_s == float("inf"):
        leases, made = timed(server.leases)
        edge.note(made, leases != [])
    assert edge.last_s < over_s + LEASE_S + SLACK_S, "and nobody renews it afterwards"


def test_what_it_connects_to_is_open_before_the_command_starts(server: RunningServer, alice: Laptop, lab: Lab) -> None:
    with lab.server.listen_tcp(8443):
        once = ("exec", "office", "--", sys.executable, "-c", CONNECTING, "0.01", str(lab.server.ipv4))
        # A machine that stands still may spoil one connection, but not one of each run.
        assert 0 in (alice.client(*once).returncode for _ in range(ATTEMPTS))


def test_its_own_failures_have_codes_of_their_own(server: RunningServer, alice: Laptop) -> None:
    failures = {
        127: ("office", "--", "no-such-command-anywhere"),
        126: ("office", "--", "/etc/passwd"),
        125: ("nowhere", "--", "true"),
        123: ("office", "--service", "cellar", "--", "true"),
        122: ("office", "--service", "NO", "--", "true"),
    }
    for code, words in failures.items():
        done = alice.client("exec", *words)
        assert done.returncode == code
        assert done.stderr.startswith("spa-client: ")
        assert done.stderr.count("\n") == 1


def test_without_an_answer_the_command_is_not_run(server: RunningServer, alice: Laptop, folder: Path) -> None:
    server.stop()
    mark = folder / "ran"
    done = alice.client("exec", "office", "--timeout", "0.5", "--port", "8443", "--", "touch", str(mark))
    assert done.returncode == 124
    assert not mark.exists()
