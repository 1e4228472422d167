"""A gate that follows another configuration, or a kernel that lost the tags, without forgetting what was used."""

from __future__ import annotations

from dataclasses import replace

import pytest

from spa_server.enforce.client import FirewallFailed
from spa_server.listen.gate import LEAD_MS, Slots
from spa_server.listen.knocks import Rules
from tests.server.listen.world import SKEW_MS, SLOTS, START, ListeningServer, later


def test_more_slots_are_armed_at_the_next_turn_and_fewer_disarmed(server: ListeningServer) -> None:
    server.add("alice-laptop")
    before = set(server.firewall.armed)
    server.membership.follow(slots=Slots(SLOTS + 2, 0), max_skew_ms=SKEW_MS)
    server.membership.keep_time(START)
    more = set(server.firewall.armed)
    assert before < more
    server.membership.follow(slots=Slots(SLOTS, 0), max_skew_ms=SKEW_MS)
    server.membership.keep_time(START)
    assert server.firewall.armed == before


def test_another_skew_arms_other_windows(server: ListeningServer) -> None:
    server.add("alice-laptop")
    before = set(server.firewall.armed)
    server.membership.follow(slots=Slots(SLOTS, 0), max_skew_ms=3 * SKEW_MS)
    server.membership.keep_time(START)
    assert before < server.firewall.armed
    assert max(timeout for _, timeout in server.firewall.armings) >= 3 * SKEW_MS + LEAD_MS


def test_the_same_configuration_arms_nothing_anew(server: ListeningServer) -> None:
    server.add("alice-laptop")
    server.firewall.armings.clear()
    server.membership.follow(slots=Slots(SLOTS, 0), max_skew_ms=SKEW_MS)
    server.membership.keep_time(START)
    assert server.firewall.armings == []


def test_tags_that_are_gone_are_armed_again_but_those_of_used_slots(server: ListeningServer) -> None:
    server = ListeningServer(server.folder.parent, START, gate_knows_used=True)
    alice = server.add("alice-laptop")
    knock = alice.knock(START.wall_ms, 0, "web")
    assert server.gate_admits(knock, START) is not None
    still = set(server.firewall.armed)
    server.firewall.armed.clear()
    server.membership.tags_are_gone()
    server.membership.keep_time(START)
    assert server.firewall.armed == still
    assert server.gate_admits(knock, START) is None
    server.close()


def test_what_the_kernel_has_lost_is_given_to_it_once_more_and_nothing_is_disarmed_first(
    server: ListeningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a moment, then, though there be many devices: no tag is computed again."""
    server.add("alice-laptop")
    before, timeouts = set(server.firewall.armed), {timeout for _, timeout in server.firewall.armings}
    server.firewall.armed.clear()
    server.firewall.armings.clear()
    monkeypatch.delattr("spa_server.listen.gate.compute_tag")
    monkeypatch.delattr(type(server.firewall), "disarm")
    server.membership.tags_are_gone()
    server.membership.keep_time(START)
    assert server.firewall.armed == before
    assert {timeout for _, timeout in server.firewall.armings} == timeouts


def test_a_clock_that_was_stepped_while_the_tags_were_lost_arms_those_of_the_new_time(server: ListeningServer) -> None:
    server.add("alice-laptop")
    server.firewall.armed.clear()
    server.membership.tags_are_gone()
    server.membership.keep_time(later(START, 3_600_000, boot_ms=0))
    there = set(server.firewall.armed)
    server.restart(later(START, 3_600_000, boot_ms=0))
    assert there == server.firewall.armed


def test_what_could_not_be_armed_is_armed_at_the_next_turn(server: ListeningServer) -> None:
    server.add("alice-laptop")
    before = set(server.firewall.armed)
    server.membership.tags_are_gone()
    server.firewall.armed.clear()
    server.firewall.arming_fails = True
    for _ in range(2):
        with pytest.raises(FirewallFailed):
            server.membership.keep_time(START)
    server.firewall.arming_fails = False
    server.membership.keep_time(later(START, 100))
    assert server.firewall.armed == before


def test_judging_follows_services_replies_and_slots(server: ListeningServer) -> None:
    alice = server.add("alice-laptop")
    rules = Rules((), SKEW_MS, Slots(16, 8), replies=True, max_delegation_s=60)
    server.handler.follow(rules)
    knock = alice.knock(START.wall_ms, 0, "web")
    answer = alice.answer(server.hear(knock, START), knock)
    assert answer is not None
    assert answer.refusal is not None
    assert answer.slots == 16
    server.handler.follow(replace(rules, replies=False))
    assert server.hear(alice.knock(START.wall_ms, 1, "web"), START) is None
