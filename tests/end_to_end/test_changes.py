"""Changes of the registry reach the running server within a second, and touch nobody else's lease."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from spa_protocol.refusal import Refusal
from spa_server.privilege import acting_as_owner_of
from spa_server.remember.registry import Registry
from spa_server.remember.store import open_store
from tests.end_to_end.laptop import ANSWER_S
from tests.end_to_end.observing import QUIET_S
from tests.end_to_end.pace import assert_unmoved, command_s, lease_ends
from tests.end_to_end.probing import Edge
from tests.end_to_end.running import Laptop, RunningServer, enrolled
from tests.lab import Lab
from tests.stalls import ATTEMPTS, TooLate, in_time, timed

ALLOWED_S = 1.0


@pytest.fixture
def bob(server: RunningServer, lab: Lab) -> Laptop:
    """Another laptop, on the neighbour's host."""
    return enrolled(server, lab.clients["neighbour"], "bob-laptop")


def outcome(laptop: Laptop, lab: Lab, *, silent: bool = False) -> Refusal | str:
    """What comes of a knock made by hand: "granted", a refusal, or "silence", which is waited for only shortly."""
    request = laptop.keys().knock("web")
    patience_s = QUIET_S if silent else ANSWER_S
    answer = laptop.keys().answer(laptop.ask(request, lab.server.ipv4, patience_s=patience_s), request)
    if answer is None:
        return "silence"
    return answer.refusal or "granted"


@pytest.mark.parametrize(
    ("change", "expected"), [("disable", Refusal.DEVICE_DISABLED), ("remove", "silence"), ("enable", "granted")]
)
def test_a_change_is_known_at_once_and_others_leases_are_untouched(
    server: RunningServer, bob: Laptop, lab: Lab, change: str, expected: object
) -> None:
    bob.client("knock", "office", "--for", "300", check=True)
    before = lease_ends(server, bob.host)
    took_s: list[float] = []
    while len(took_s) < ATTEMPTS and not (took_s and took_s[-1] < ALLOWED_S):
        label = f"alice-{len(took_s)}"
        alice = enrolled(server, lab.clients["alice"], label)
        if change == "enable":
            server.command("device", "disable", label)
        took_s.append(command_s(server, "device", change, label))
        assert outcome(alice, lab, silent=expected == "silence") == expected
        assert_unmoved(before, lease_ends(server, bob.host))
    print(f"\ndevice {change}: known {took_s[-1] * 1000:.0f} ms after the command's program had started")
    assert took_s[-1] < ALLOWED_S, took_s


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
        laptop.client("knock", "office", "--for", "300", check=True)
    before = lease_ends(server, bob.host)
    server.command("device", "disable", "alice-laptop")
    assert lease_ends(server, alice.host) == {}
    assert_unmoved(before, lease_ends(server, bob.host))


def test_with_keep_leases_a_disabled_device_stays_until_its_lease_ends(server: RunningServer, alice: Laptop) -> None:
    alice.client("knock", "office", check=True)
    server.command("device", "disable", "alice-laptop", "--keep-leases")
    assert len(lease_ends(server, alice.host)) == 4


def test_neither_restart_nor_a_new_device_touches_a_lease(server: RunningServer, alice: Laptop, lab: Lab) -> None:
    alice.client("knock", "office", "--for", "300", check=True)
    before = lease_ends(server, alice.host)
    restarts: list[Callable[[], object]] = [server.stop, server.kill]
    for end in restarts:
        end()
        server.start()
        enrolled(server, lab.clients["neighbour"], f"bob-{end.__name__}")
        assert_unmoved(before, lease_ends(server, alice.host))
    with lab.server.listen_tcp(8443):
        assert alice.host.reaches_tcp(lab.server.ipv4, 8443)


def test_the_lease_list_empties_by_itself(server: RunningServer, alice: Laptop) -> None:
    def attempt(lease_s: int) -> None:
        _, knocked = timed(lambda: alice.client("knock", "office", "--for", str(lease_s), check=True))
        due, edge = knocked.later(lease_s), Edge()
        listed, at = timed(server.leases)
        if at.last_s >= due.first_s:
            raise TooLate("the lease may have ended before it was listed")
        assert len(listed) == 4
        edge.note(at, True)
        while edge.first_not_s == float("inf"):
            leases, made = timed(server.leases)
            edge.note(made, leases != [])
        edge.check(due)

    in_time(attempt, (2, 6, 25))
