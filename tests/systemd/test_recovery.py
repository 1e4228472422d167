"""Killed, and stopped: leases end on time all the same, and the service is back without anybody's help."""

from __future__ import annotations

import time

import pytest

from tests.end_to_end.laptop import Laptop
from tests.end_to_end.probing import Prober as EdgeProber
from tests.stalls import ATTEMPTS, TooLate, in_time, wait_until
from tests.systemd.probing import Prober
from tests.systemd.service import KEEPER, OPEN_PORT, PORT, RECOVERY_S, SERVER, Knocker, Service
from tests.systemd.talking import listening

LEASE_S = 30
WAYS = {"tcp 4", "tcp 6", "udp 4", "udp 6"}


@pytest.mark.parametrize("units", [(SERVER,), (KEEPER,), (KEEPER, SERVER)], ids="+".join)
def test_after_a_sigkill_the_service_is_back_within_2_s(service: Service, bob: Laptop, units: tuple[str, ...]) -> None:
    took_s: list[float] = []
    with Knocker(bob, service.host) as knocker:
        knocker.knock_until_granted()
        for _ in range(ATTEMPTS):
            before, begun_s = service.pids(), time.monotonic()
            service.machine.run("systemctl", "kill", "--signal=KILL", *units)
            took_s.append(knocker.knock_until_granted().last_s - begun_s)
            service.wait_until_it_serves()
            assert all(service.pids()[unit] != before[unit] for unit in units), "it was not ended at all"
            if took_s[-1] < RECOVERY_S:
                break
    print(f"\nSIGKILL to {' and '.join(units)}: a knock is granted again after " + _figures(took_s))
    assert min(took_s) < RECOVERY_S


@pytest.mark.parametrize("unit", [SERVER, KEEPER])
def test_a_lease_ends_on_time_though_the_unit_is_killed(service: Service, alice: Laptop, unit: str) -> None:
    def attempt(lease_s: int) -> None:
        with Knocker(alice, service.host) as by_ipv4, Knocker(alice, service.host, 6) as by_ipv6:
            due = {4: by_ipv4.knock_until_granted(lease_s), 6: by_ipv6.knock_until_granted(lease_s)}
        due = {version: granted.later(lease_s) for version, granted in due.items()}
        service.machine.run("systemctl", "kill", "--signal=KILL", unit)
        if time.monotonic() > min(end.first_s for end in due.values()) - 0.2:
            raise TooLate("the lease was over before it could be tried")
        prober = EdgeProber(alice.host, service.host, PORT)
        prober.run_past(max(end.last_s for end in due.values()))
        assert set(prober.edges) == WAYS
        for way, edge in prober.edges.items():
            edge.check(due[int(way[-1])])

    in_time(attempt, (2, 6, 25))


@pytest.mark.timeout(300)
def test_the_watchdog_revives_processes_that_stand_still(service: Service, alice: Laptop, bob: Laptop) -> None:
    """Both at once, while a stranger probes: they are ended by systemd, and come back as new processes."""
    stranger = service.lab.clients["stranger"]
    with (
        listening(service.host, PORT, OPEN_PORT),
        Knocker(alice, service.host) as knocker,
        Prober(stranger, service.host, PORT, OPEN_PORT) as prober,
    ):
        knocker.knock_until_granted(2)
        before, begun_s = service.pids(), time.monotonic()
        for pid in before.values():
            service.machine.run("sh", "-c", f"kill -STOP {pid}")
        wait_until(lambda: alice.host.is_kept_out(service.host.ipv4, PORT), "the end of the lease")
        for unit in (KEEPER, SERVER):
            wait_until(lambda unit=unit: service.machine.main_pid(unit) not in (0, before[unit]), f"a new {unit}", 60)  # type: ignore[misc]
        with Knocker(bob, service.host) as other:
            back_s = other.knock_until_granted().last_s - begun_s
    journal = service.machine.journal("--lines=200")
    for unit in (KEEPER, SERVER):
        assert f"{unit}: Watchdog timeout" in journal
        assert f"{unit}: Killing process {before[unit]}" in journal
    print(f"\nSIGSTOP to both: a knock is granted again after {back_s:.1f} s (WatchdogSec=10); {prober.seen}")
    assert prober.seen.answered == 0, prober.seen.first_answer
    assert prober.seen.control > 0


def _figures(took_s: list[float]) -> str:
    return ", ".join(f"{each:.2f} s" for each in took_s)
