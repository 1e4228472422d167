"""Either process gone, or the table gone under them: the perimeter stays as the kernel has it, and nothing crashes."""

from __future__ import annotations

import os
import signal
import time

import pytest

from spa_protocol.refusal import Refusal
from tests.durability.conftest import Site
from tests.durability.leases import open_leases
from tests.end_to_end.probing import Prober
from tests.stalls import PATIENCE_S, TooLate, before, in_time, timed, wait_until


@pytest.mark.parametrize("victim", ["network", "firewall"])
def test_when_one_process_is_killed_the_other_ends_and_the_kernel_keeps_the_door(site: Site, victim: str) -> None:
    server, target = site.server, site.lab.server

    def attempt(lease_s: int) -> None:
        if server.process is None:
            server.start()
        site.watch.new()
        datagram = site.keys.knock("web", lease_s=lease_s)
        verdict, done = timed(lambda: site.hear(datagram))
        assert verdict == "granted"
        due = done.later(lease_s)
        process = server.process
        assert process is not None
        os.kill(server.network_pid if victim == "network" else process.pid, signal.SIGKILL)
        assert process.wait(PATIENCE_S) == (7 if victim == "network" else -signal.SIGKILL)
        server.stop()  # returns when the network process is gone too

        with target.listen_tcp(8443), before(due.first_s):
            assert site.alice.host.reaches_tcp(target.ipv4, 8443), "the lease does not run on"
            assert site.lab.clients["stranger"].is_kept_out(target.ipv4, 8443)
        assert site.hear(site.keys.knock("web"), patience_s=0.2) == "nothing"
        if time.monotonic() > due.first_s - 0.2:
            raise TooLate("the lease was over before it could be tried")
        prober = Prober(site.alice.host, target, 8443, versions=(4,))
        prober.run_past(due.last_s)
        measured = ", ".join(f"{way} {edge.measured(due)}" for way, edge in prober.edges.items())
        print(f"\nlease end, {victim} process killed: {measured}")
        assert set(prober.edges) == {"tcp 4", "udp 4"}
        for edge in prober.edges.values():
            edge.check(due)
        assert open_leases(target) == 0
        assert site.watch.new() == 1

    in_time(attempt, (3, 8, 25))
    assert "Traceback" not in server.log()


def test_the_death_of_the_network_process_is_logged_with_what_remains(site: Site) -> None:
    process = site.server.process
    assert process is not None
    os.kill(site.server.network_pid, signal.SIGKILL)
    assert process.wait(PATIENCE_S) == 7
    assert "perimeter stays closed" in site.server.wait_for_log("the network process ended")
    site.server.stop()


def test_without_its_table_a_knock_is_refused_and_the_server_lives_on(site: Site) -> None:
    site.server.command("perimeter", "remove", "--yes")
    mark = site.server.log_lines()
    assert site.hear(site.keys.knock("web")) is Refusal.KERNEL_FAILED
    site.server.wait_for_log("was not opened", since=mark)
    assert site.watch.new() == 0
    assert site.alice.client("knock", "office", "web").returncode == 3
    assert "Traceback" not in site.server.log()

    site.server.command("perimeter", "apply", "--yes")
    wait_until(lambda: site.server.status()["fault"] == "", "the server without a fault")
    site.server.stop()
    site.server.start()
    assert site.hear(site.keys.knock("web")) == "granted"


def test_an_enrolment_while_the_table_is_gone_ends_neither_process(site: Site) -> None:
    invite = site.server.invite("bob-phone")
    site.server.command("perimeter", "remove", "--yes")
    site.alice.client("join", "--name", "second", invite)
    assert site.server.status()["pid"] == site.server.network_pid
    assert "Traceback" not in site.server.log()


def test_a_stopped_server_keeps_the_door_shut_and_goes_on_where_it_was(site: Site) -> None:
    site.server.signal(signal.SIGSTOP)
    waiting = site.keys.knock("web")
    assert site.hear(waiting, patience_s=0.3) == "nothing"
    with site.lab.server.listen_tcp(8443):
        assert site.alice.host.is_kept_out(site.lab.server.ipv4, 8443)
    site.server.signal(signal.SIGCONT)
    site.server.wait_for_result("granted", 1)
    assert site.watch.new() == 1
