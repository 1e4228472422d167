"""Changes of the registry reach the running server within a second, and touch nobody else's lease."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from spa_protocol.refusal import Refusal
from spa_server.privilege import acting_as_owner_of
from spa_server.remember.registry import Registry
from spa_server.remember.store import open_store
from tests.end_to_end.observing import seconds_until
from tests.end_to_end.running import Laptop, RunningServer, enrolled
from tests.lab import Lab

ALLOWED_S = 1.0


@pytest.fixture
def bob(server: RunningServer, lab: Lab) -> Laptop:
    """Another laptop, on the neighbour's host."""
    return enrolled(server, lab.clients["neighbour"], "bob-laptop")


def outcome(laptop: Laptop, lab: Lab) -> Refusal | str:
    """What comes of a knock made by hand: "granted", a refusal, or "silence"."""
    request = laptop.keys().knock("web")
    answer = laptop.keys().answer(laptop.ask(request, lab.server.ipv4, patience_s=0.2), request)
    if answer is None:
        return "silence"
    return answer.refusal or "granted"


def ends_ms(server: RunningServer, laptop: Laptop) -> dict[str, float]:
    """When each lease of the laptop ends, by the clock that cannot be stepped."""
    mine = {str(laptop.host.ipv4), str(laptop.host.ipv6)}
    return {
        f"{lease['source']} {lease['protocol']}": time.monotonic() * 1000 + lease["left_ms"]
        for lease in server.leases()
        if lease["source"] in mine
    }


@pytest.mark.parametrize(
    ("change", "expected"), [("disable", Refusal.DEVICE_DISABLED), ("remove", "silence"), ("enable", "granted")]
)
def test_a_change_is_known_at_once_and_others_leases_are_untouched(
    server: RunningServer, alice: Laptop, bob: Laptop, lab: Lab, change: str, expected: object
) -> None:
    if change == "enable":
        server.command("device", "disable", "alice-laptop")
    bob.client("knock", "office", check=True)
    before_ms = ends_ms(server, bob)
    begun_s = time.monotonic()
    server.command("device", change, "alice-laptop")
    took_s = time.monotonic() - begun_s
    assert outcome(alice, lab) == expected
    print(f"\ndevice {change}: known {took_s * 1000:.0f} ms after the command was started")
    assert took_s < ALLOWED_S
    after_ms = ends_ms(server, bob)
    assert after_ms.keys() == before_ms.keys()
    assert all(abs(after_ms[key] - before_ms[key]) < 50 for key in before_ms)


def test_an_invite_can_be_used_the_moment_it_is_printed(server: RunningServer, lab: Lab) -> None:
    begun_s = time.monotonic()
    laptop = enrolled(server, lab.clients["alice"], "alice-laptop")
    took_s = time.monotonic() - begun_s
    assert outcome(laptop, lab) == "granted"
    print(f"\ninvite, join and knock: {took_s * 1000:.0f} ms")


def test_a_change_by_another_program_than_ours_counts_too(server: RunningServer, alice: Laptop, lab: Lab) -> None:
    """The file itself tells of edits, so a program that knows no control socket is heeded as well."""
    assert outcome(alice, lab) == "granted"
    with acting_as_owner_of(server.state), open_store(server.state) as store:
        Registry(store).set_enabled("alice-laptop", False)
    assert outcome(alice, lab) == Refusal.DEVICE_DISABLED


def test_ending_one_devices_leases_is_done_before_the_command_returns(
    server: RunningServer, alice: Laptop, bob: Laptop, lab: Lab
) -> None:
    for laptop in (alice, bob):
        laptop.client("knock", "office", check=True)
    before_ms = ends_ms(server, bob)
    server.command("device", "disable", "alice-laptop")
    assert ends_ms(server, alice) == {}
    assert {key: round(value / 100) for key, value in ends_ms(server, bob).items()} == pytest.approx(
        {key: round(value / 100) for key, value in before_ms.items()}, abs=1
    )


def test_with_keep_leases_a_disabled_device_stays_until_its_lease_ends(server: RunningServer, alice: Laptop) -> None:
    alice.client("knock", "office", check=True)
    server.command("device", "disable", "alice-laptop", "--keep-leases")
    assert len(ends_ms(server, alice)) == 4


def test_neither_restart_nor_a_new_device_touches_a_lease(server: RunningServer, alice: Laptop, lab: Lab) -> None:
    alice.client("knock", "office", check=True)
    before_ms = ends_ms(server, alice)
    restarts: list[Callable[[], object]] = [server.stop, server.kill]
    for end in restarts:
        end()
        server.start()
        enrolled(server, lab.clients["neighbour"], f"bob-{end.__name__}")
        after_ms = ends_ms(server, alice)
        assert after_ms.keys() == before_ms.keys()
        assert all(abs(after_ms[key] - before_ms[key]) < 50 for key in before_ms)
    with lab.server.listen_tcp(8443):
        assert alice.host.reaches_tcp(lab.server.ipv4, 8443)


def test_the_lease_list_empties_by_itself(server: RunningServer, alice: Laptop) -> None:
    alice.client("knock", "office", "--for", "1", check=True)
    assert len(server.leases()) == 4
    assert seconds_until(lambda: server.leases() == []) < 1.5
