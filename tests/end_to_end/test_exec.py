"""`spa-client exec`: a command runs through the pinhole, which stays open for as long as the command runs."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.end_to_end.observing import seconds_until
from tests.end_to_end.running import Laptop, RunningServer
from tests.lab import Lab

SERVICES = """
[service.web]
tcp = [8443]
roles = ["admin"]
lease_s = 2
"""
CONNECTING = """
import socket, sys, time
end = time.monotonic() + float(sys.argv[1])
missed = 0
while time.monotonic() < end:
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
    """A server whose leases last two seconds."""
    with RunningServer(lab, folder, SERVICES) as running:
        yield running


def test_the_commands_own_status_is_the_exit_code(server: RunningServer, alice: Laptop) -> None:
    for status in (0, 1, 42, 255):
        assert alice.client("exec", "office", "--", "sh", "-c", f"exit {status}").returncode == status


def test_a_command_ended_by_a_signal_gives_what_a_shell_would(server: RunningServer, alice: Laptop) -> None:
    assert alice.client("exec", "office", "--", "sh", "-c", "kill -TERM $$").returncode == 128 + 15


def test_the_lease_is_kept_while_the_command_runs(server: RunningServer, alice: Laptop, lab: Lab) -> None:
    with lab.server.listen_tcp(8443) as listener:
        running = alice.start_client(
            "exec", "office", "--", sys.executable, "-c", CONNECTING, "5", str(lab.server.ipv4), str(lab.server.ipv6)
        )
        listener.settimeout(0.1)
        accepted = 0
        begun_s = time.monotonic()
        while running.poll() is None:
            try:
                listener.accept()[0].close()
                accepted += 1
            except TimeoutError:
                pass
    assert running.returncode == 0, "connections failed while the command ran"
    print(f"\n{accepted} connections in {time.monotonic() - begun_s:.1f} s under leases of 2 s")
    assert accepted > 50
    assert seconds_until(lambda: server.leases() == []) < 2.5, "and nobody renews it afterwards"


def test_what_it_connects_to_is_open_before_the_command_starts(server: RunningServer, alice: Laptop, lab: Lab) -> None:
    with lab.server.listen_tcp(8443):
        done = alice.client(
            "exec", "office", "--", sys.executable, "-c", CONNECTING, "0.01", str(lab.server.ipv4), check=True
        )
    assert done.returncode == 0


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
