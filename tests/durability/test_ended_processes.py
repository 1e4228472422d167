"""Either process gone, or the table gone under them: the perimeter stays as the kernel has it, and nothing crashes."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import time

import pytest

from spa_protocol.refusal import Refusal
from tests.durability.conftest import Site
from tests.durability.leases import open_leases
from tests.end_to_end.running import wait_until

LEASE_S = 2
ON_TIME_S = 0.15
"""How far from its time a lease may end here; that it is within 100 ms is shown where no process is waited for."""


def accept_one(listener: socket.socket) -> None:
    """Take one connection, unless its last packet fell to the lease's end: then it waits for nobody."""
    listener.settimeout(0.3)
    with contextlib.suppress(TimeoutError):
        listener.accept()[0].close()


def refused_until_s(site: Site, listener: socket.socket, begun_s: float) -> float:
    """When, counted from the knock, a connection is no longer accepted."""
    while site.alice.host.reaches_tcp(site.lab.server.ipv4, 8443, timeout=0.05):
        accept_one(listener)  # or the queue of those who wait fills up, and that refuses too
        assert time.monotonic() - begun_s < 2 * LEASE_S, "the lease did not end"
    return time.monotonic() - begun_s


@pytest.mark.parametrize("victim", ["network", "firewall"])
def test_when_one_process_is_killed_the_other_ends_and_the_kernel_keeps_the_door(site: Site, victim: str) -> None:
    listener = site.lab.server.listen_tcp(8443)
    begun_s = time.monotonic()
    datagram = site.keys.knock("web", lease_s=LEASE_S)
    assert site.hear(datagram) == "granted"
    network, process = site.server.network_pid, site.server.process
    assert process is not None
    os.kill(network if victim == "network" else process.pid, signal.SIGKILL)
    code = process.wait(20)
    assert code == (7 if victim == "network" else -signal.SIGKILL)
    site.server.stop()  # returns when the network process is gone too

    assert site.alice.host.reaches_tcp(site.lab.server.ipv4, 8443), "the lease does not run on"
    accept_one(listener)
    assert not site.lab.clients["stranger"].reaches_tcp(site.lab.server.ipv4, 8443)
    assert site.hear(site.keys.knock("web"), patience_s=0.2) == "nothing"
    ended_s = refused_until_s(site, listener, begun_s)
    listener.close()
    assert abs(ended_s - LEASE_S) < ON_TIME_S, f"the lease of {LEASE_S} s ended after {ended_s:.3f} s"
    assert open_leases(site.lab.server) == 0
    assert site.watch.new() == 1
    assert "Traceback" not in site.server.log()


def test_the_death_of_the_network_process_is_logged_with_what_remains(site: Site) -> None:
    process = site.server.process
    assert process is not None
    os.kill(site.server.network_pid, signal.SIGKILL)
    assert process.wait(20) == 7
    assert "perimeter stays closed" in site.server.wait_for_log("the network process ended")
    site.server.stop()


def test_without_its_table_a_knock_is_refused_and_the_server_lives_on(site: Site) -> None:
    site.lab.server.run(["nft", "delete", "table", "inet", "spa"])
    mark = site.server.log_lines()
    assert site.hear(site.keys.knock("web")) is Refusal.KERNEL_FAILED
    site.server.wait_for_log("was not opened", since=mark)
    assert site.watch.new() == 0
    assert site.alice.client("knock", "office", "web").returncode == 3
    assert "Traceback" not in site.server.log()

    site.server.command("perimeter", "apply")
    wait_until(lambda: site.server.status()["fault"] == "", "the server without a fault")
    site.server.stop()
    site.server.start()
    assert site.hear(site.keys.knock("web")) == "granted"


def test_an_enrolment_while_the_table_is_gone_ends_neither_process(site: Site) -> None:
    invite = site.server.invite("bob-phone")
    site.lab.server.run(["nft", "delete", "table", "inet", "spa"])
    site.alice.client("join", "--name", "second", invite)
    assert site.server.status()["pid"] == site.server.network_pid
    assert "Traceback" not in site.server.log()


def test_a_stopped_server_keeps_the_door_shut_and_goes_on_where_it_was(site: Site) -> None:
    site.server.signal(signal.SIGSTOP)
    waiting = site.keys.knock("web")
    assert site.hear(waiting, patience_s=0.3) == "nothing"
    with site.lab.server.listen_tcp(8443):
        assert not site.alice.host.reaches_tcp(site.lab.server.ipv4, 8443)
    site.server.signal(signal.SIGCONT)
    site.server.wait_for_result("granted", 1)
    assert site.watch.new() == 1
