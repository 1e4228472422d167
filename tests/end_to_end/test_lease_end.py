"""A lease ends at its time, by the kernel's clock alone: the server may run, be stopped, hang or be dead."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable

import pytest

from tests.end_to_end.observing import Prober
from tests.end_to_end.running import Laptop, RunningServer
from tests.lab import Lab

LEASE_S = 1
ALLOWED_MS = 100
WAYS = {"tcp 4", "tcp 6", "udp 4", "udp 6"}


def leave_it(server: RunningServer) -> None:
    """The server runs on."""


def stop_it(server: RunningServer) -> None:
    """SIGTERM."""
    assert server.stop() == 0


def freeze_it(server: RunningServer) -> None:
    """SIGSTOP to both processes."""
    server.signal(signal.SIGSTOP)


def kill_it(server: RunningServer) -> None:
    """SIGKILL to both processes."""
    server.kill()


@pytest.mark.parametrize("then", [leave_it, stop_it, freeze_it, kill_it])
def test_a_lease_ends_within_100_ms_of_its_time(
    server: RunningServer, alice: Laptop, lab: Lab, then: Callable[[RunningServer], None]
) -> None:
    begun_s = time.monotonic()
    alice.client("knock", "office", "web", "--for", str(LEASE_S), check=True)
    left_s = {lease["source"]: time.monotonic() + lease["left_ms"] / 1000 for lease in server.leases()}
    due_s = {version: left_s[str(alice.host.address(version))] for version in (4, 6)}
    assert all(begun_s + LEASE_S <= due <= time.monotonic() + LEASE_S for due in due_s.values())
    then(server)
    prober = Prober(alice.host, lab.server, 8443)
    prober.run_until(max(due_s.values()) + 0.3)
    assert set(prober.edges) == WAYS
    deviations_ms = {way: edge.deviation_ms(due_s[int(way[-1])]) for way, edge in prober.edges.items()}
    print(f"\nlease end, {then.__name__}: " + ", ".join(f"{way} {ms:+.1f} ms" for way, ms in deviations_ms.items()))
    assert all(edge.last_s > 0 for edge in prober.edges.values()), "each way was open at first"
    assert all(abs(ms) <= ALLOWED_MS for ms in deviations_ms.values()), deviations_ms


@pytest.mark.parametrize("then", [freeze_it, kill_it])
def test_when_it_ends_established_connections_are_cut_too(
    server: RunningServer, alice: Laptop, lab: Lab, then: Callable[[RunningServer], None]
) -> None:
    alice.client("knock", "office", "web", "--for", str(LEASE_S), check=True)
    end_s = time.monotonic() + LEASE_S
    with lab.server.listen_tcp(8443) as listener, alice.host.connect_tcp(lab.server.ipv6, 8443) as connection:
        accepted, _ = listener.accept()
        with accepted:
            accepted.settimeout(0.05)
            then(server)
            heard_s, number = 0.0, 0
            while time.monotonic() < end_s + 0.3:
                connection.send(b"%d " % number)
                number += 1
                try:
                    accepted.recv(64)
                    heard_s = time.monotonic()
                except TimeoutError:
                    continue
                time.sleep(0.005)
    assert heard_s, "it worked at first"
    assert abs(heard_s - end_s) < 0.15
