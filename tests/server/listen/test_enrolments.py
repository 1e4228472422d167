"""What an enrolment comes to: one device for one invite, told the same again, and nothing after its time."""

from __future__ import annotations

import pytest

from spa_protocol.answer import Answer
from spa_protocol.refusal import Refusal
from tests.server.listen.verdicts import heard
from tests.server.listen.world import (
    START,
    InviteText,
    Keyring,
    ListeningServer,
    later,
)

T_MS = START.wall_ms


@pytest.fixture
def alice(server: ListeningServer) -> Keyring:
    return server.add("alice-laptop")


def enrolled(
    server: ListeningServer, invite: InviteText, device: str, slot: int = 0, after_ms: int = 0
) -> Answer | None:
    now = later(START, after_ms)
    datagram, _ = invite.enrolment(now.wall_ms, slot, device)
    return invite.answer(server.hear(datagram, now), datagram)


def test_an_invite_makes_one_device_and_tells_the_same_one_again(server: ListeningServer) -> None:
    invite = server.invite("bob-phone", START)
    first, again = (enrolled(server, invite, "bob", slot) for slot in (0, 1))
    assert first is not None
    assert again is not None
    assert (first.refusal, first.about, again.refusal) == (None, "bob-phone", None)
    stranger = enrolled(server, invite, "mallory", 2)
    assert stranger is not None
    assert stranger.refusal is Refusal.INVITE_USED
    _, keyring = invite.enrolment(T_MS, 3, "bob")
    assert heard(server, keyring, keyring.knock(T_MS, 0, "web")) == "granted"


def test_an_expired_invite_is_refused_and_makes_no_device(server: ListeningServer) -> None:
    invite = server.invite("bob-phone", START, expires_in_s=30)
    answer = enrolled(server, invite, "bob", after_ms=30_000)
    assert answer is not None
    assert answer.refusal is Refusal.INVITE_EXPIRED
    assert server.registry.device("bob-phone") is None


def test_an_enrolment_whose_tags_cannot_be_armed_yet_stands_all_the_same(server: ListeningServer) -> None:
    invite = server.invite("bob-phone", START)
    server.firewall.arming_fails = True
    answer = enrolled(server, invite, "bob")
    assert answer is not None
    assert answer.refusal is None
    server.firewall.arming_fails = False
    server.membership.catch_up(START)
    _, keyring = invite.enrolment(T_MS, 1, "bob")
    assert heard(server, keyring, keyring.knock(T_MS, 0, "web")) == "granted"


def test_an_enrolment_that_cannot_be_recorded_is_refused(server: ListeningServer) -> None:
    invite = server.invite("bob-phone", START)
    server.store.rows("PRAGMA query_only=ON")
    answer = enrolled(server, invite, "bob")
    assert answer is not None
    assert answer.refusal is Refusal.NOT_RECORDED
    assert server.registry.device("bob-phone") is None


def test_a_rotated_key_works_on_for_the_overlap_and_no_longer(server: ListeningServer, alice: Keyring) -> None:
    invite = server.invite("alice-laptop", START, overlap_s=90)
    assert enrolled(server, invite, "alice again") is not None
    _, new = invite.enrolment(T_MS, 1, "alice again")
    assert heard(server, alice, alice.knock(T_MS, 0, "web")) == "granted"
    assert heard(server, new, new.knock(T_MS, 0, "web")) == "granted"
    over = later(START, 90_000)
    server.membership.keep_time(over)
    assert heard(server, alice, alice.knock(over.wall_ms, 0, "web"), 90_000) is Refusal.KEY_RETIRED
    assert heard(server, new, new.knock(over.wall_ms, 1, "web"), 90_000) == "granted"
