"""A lease ends at its time, by the kernel's clock alone: the server may run, be stopped, hang or be dead."""

from __future__ import annotations

import signal
import socket
import time
from collections.abc import Callable

import pytest

from tests.end_to_end.probing import Edge, Prober
from tests.end_to_end.running import Laptop, RunningServer
from tests.lab import Lab
from tests.stalls import SLACK_S, Between, TooLate, before, in_time, timed

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


def revive(server: RunningServer) -> None:
    """Undo any of these."""
    if server.process is None:
        server.start()
    server.signal(signal.SIGCONT)


def granted(laptop: Laptop, lab: Lab, lease_s: int, version: int) -> Between:
    """Knock by hand for a lease of that length; when it must end, for it began between the knock and the answer."""
    keys = laptop.keys()
    request = keys.knock("web", lease_s=lease_s)
    reply, done = timed(lambda: laptop.ask(request, lab.server.address(version)))
    answer = keys.answer(reply, request)
    assert answer is not None
    assert answer.refusal is None
    return done.later(lease_s)


@pytest.mark.parametrize("then", [leave_it, stop_it, freeze_it, kill_it])
def test_a_lease_ends_within_100_ms_of_its_time(
    server: RunningServer, alice: Laptop, lab: Lab, then: Callable[[RunningServer], None]
) -> None:
    def attempt(lease_s: int) -> None:
        revive(server)
        due = {version: granted(alice, lab, lease_s, version) for version in (4, 6)}
        listed, at = timed(server.leases)
        told = {lease["source"]: at.later(lease["left_ms"] / 1000) for lease in listed}
        for version, end in due.items():
            if time.monotonic() < end.first_s:
                assert told[str(alice.host.address(version))].can_be(end, SLACK_S), "the list tells another end"
        then(server)
        if time.monotonic() > min(end.first_s for end in due.values()) - 0.2:
            raise TooLate("the lease was over before it could be tried")
        prober = Prober(alice.host, lab.server, 8443)
        prober.run_past(max(end.last_s for end in due.values()))
        measured = [f"{way} {edge.measured(due[int(way[-1])])}" for way, edge in prober.edges.items()]
        print(f"\nlease end, {then.__name__}: " + ", ".join(measured))
        assert set(prober.edges) == WAYS
        for way, edge in prober.edges.items():
            edge.check(due[int(way[-1])])

    in_time(attempt, (2, 6, 25))


@pytest.mark.parametrize("then", [freeze_it, kill_it])
def test_when_it_ends_established_connections_are_cut_too(
    server: RunningServer, alice: Laptop, lab: Lab, then: Callable[[RunningServer], None]
) -> None:
    def attempt(lease_s: int) -> None:
        revive(server)
        due = granted(alice, lab, lease_s, 6)
        with lab.server.listen_tcp(8443) as listener, before(due.first_s):
            connection = alice.host.connect_tcp(lab.server.ipv6, 8443)
            accepted, _ = listener.accept()
        with connection, accepted:
            then(server)
            if time.monotonic() > due.first_s - 0.2:
                raise TooLate("the lease was over before it could be used")
            edge = heard_until(connection, accepted, due.last_s)
        print(f"\nconnection cut, {then.__name__}: {edge.measured(due)}")
        edge.check(due)

    in_time(attempt, (2, 6, 25))


def heard_until(one: socket.socket, other: socket.socket, due_s: float) -> Edge:
    """Say something every few milliseconds, past that time, and note what was heard at the other end."""
    one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    one.setblocking(False)
    other.settimeout(0.005)
    said: list[Between] = []
    heard, afterwards = 0, 0
    while afterwards < 20 or time.monotonic() < due_s + 0.3:
        begun_s = time.monotonic()
        afterwards += begun_s > due_s + SLACK_S
        one.send(b".")
        try:
            heard += len(other.recv(4096))
        except TimeoutError:
            pass
        else:
            time.sleep(0.005)
        said.append(Between(begun_s, time.monotonic()))
    edge = Edge()
    for number, made in enumerate(said):
        edge.note(made, number < heard)
    return edge
