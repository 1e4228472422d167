"""A live session judged again by what stands in the registry now: the same answer as its knock would get."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

from spa_protocol.knock import Knock, seal_knock
from spa_protocol.limits import DELEGATE_SLOTS
from spa_protocol.posture import Fact, Posture
from spa_protocol.refusal import Refusal
from spa_protocol.signature import SeedSigner
from spa_server.decide.context import Approval
from spa_server.listen.session import Live
from tests.server.listen.sessions import CONTEXT, key_of, live_of
from tests.server.listen.test_delegation import Delegate
from tests.server.listen.world import IDENTITY, START, ListeningServer, later, nonce


def let_in(server: ListeningServer) -> Live:
    """What a device has open that knocked and was let in."""
    server.hear(server.add("alice-laptop").knock(START.wall_ms, 0, "web"), START)
    (live,) = server.live
    return live


def said(server: ListeningServer, live: Live, wall_ms: int = 0) -> Refusal | None:
    """What is said to it by now."""
    now = later(START, wall_ms)
    server.membership.catch_up(now)
    refused = server.second_look(live, now)
    return refused.refusal if refused else None


def test_a_session_is_what_its_knock_opened(server: ListeningServer) -> None:
    live = let_in(server)
    assert live.key.label == "alice-laptop"
    assert (live.service, live.at, live.ends_ms) == ("web", START, START.boot_ms + 30_000)
    assert (live.context.user, live.context.device) == ("user", "alice-laptop")


def test_as_long_as_nothing_changes_it_is_welcome(server: ListeningServer) -> None:
    live = let_in(server)
    assert said(server, live) is None
    assert said(server, live, 86_400_000) is None


def test_a_disabled_device_is_refused_and_an_enabled_one_is_not(server: ListeningServer) -> None:
    live = let_in(server)
    server.registry.set_enabled("alice-laptop", False)
    assert said(server, live) is Refusal.DEVICE_DISABLED
    server.registry.set_enabled("alice-laptop", True)
    assert said(server, live) is None


def test_a_removed_device_is_refused_also_when_another_takes_its_name(server: ListeningServer) -> None:
    live = let_in(server)
    server.registry.remove("alice-laptop")
    assert said(server, live) is Refusal.KEY_RETIRED
    server.add("alice-laptop", key="another")
    assert said(server, live) is Refusal.KEY_RETIRED


def test_a_role_that_is_gone_is_missed(server: ListeningServer) -> None:
    live = let_in(server)
    with server.store.durable() as connection:
        connection.execute("UPDATE device SET roles = 'keeper' WHERE label = 'alice-laptop'")
    server.membership.read_again(START)
    assert said(server, live) is Refusal.SERVICE_NOT_ALLOWED


def test_a_service_that_is_gone_is_unknown(server: ListeningServer) -> None:
    live = let_in(server)
    gone = replace(live, key=replace(live.key, service="gone"))
    assert said(server, gone) is Refusal.UNKNOWN_SERVICE


def test_only_losses_are_counted_as_such(server: ListeningServer) -> None:
    """A newcomer is no reason to judge again who is inside."""
    server.add("alice-laptop")
    before = server.membership.losses
    server.add("bob-laptop")
    assert server.membership.losses == before
    server.registry.set_enabled("alice-laptop", False)
    server.membership.catch_up(START)
    assert server.membership.losses == before + 1
    server.registry.remove("bob-laptop")
    server.membership.catch_up(START)
    assert server.membership.losses == before + 2


def test_what_was_known_of_a_knock_is_older_by_the_time_that_passed() -> None:
    context = replace(
        CONTEXT, posture=Posture(5), posture_age_s=5, mfa_age_s=100, approval=Approval(frozenset({"bob"}), 60)
    )
    live = replace(live_of(key_of(), START), context=context)
    then = live.context_at(later(START, 50_999))
    assert (then.posture_age_s, then.mfa_age_s, then.approval.left_s) == (55, 150, 10)
    assert then.renews
    local = time.localtime(later(START, 50_999).wall_s)
    assert (then.hour, then.minute, then.weekday) == (local.tm_hour, local.tm_min, local.tm_wday + 1)
    assert live.context_at(later(START, 60_000)).approval == Approval(), "an approval that is over is none"


def test_what_is_not_known_stays_unknown() -> None:
    then = live_of(key_of(), START).context_at(later(START, 50_000))
    assert (then.posture_age_s, then.mfa_age_s) == (None, None)


def test_a_clock_that_was_set_makes_nothing_older_or_younger() -> None:
    live = replace(live_of(key_of(), START), context=replace(CONTEXT, mfa_age_s=100))
    assert live.context_at(later(START, -3_600_000, boot_ms=5_000)).mfa_age_s == 105


def test_a_delegates_session_ends_with_the_delegation(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    folder.mkdir(mode=0o700)
    server = ListeningServer(folder, START, delegate_slots=DELEGATE_SLOTS)
    alice = server.add("alice-laptop")
    ci = Delegate.of(alice, for_s=600)
    server.hear(ci.knock(0, "web"), START)
    (live,) = server.live
    assert live.key.label == "alice-laptop+ci"
    next_minute_ms = (START.wall_ms // 60_000 + 1) * 60_000
    assert server.second_look.may_change(live, START) == next_minute_ms, "policies go by minutes"
    changes_ms = server.second_look.may_change(live, later(START, 597_000))
    assert changes_ms is not None
    assert said(server, live, changes_ms - START.wall_ms - 1) is None
    assert said(server, live, changes_ms - START.wall_ms) is Refusal.DELEGATION_EXPIRED
    before = server.membership.losses
    server.delegations.revoke("alice-laptop", "ci", START.wall_s)
    server.membership.read_again(START)
    assert server.membership.losses == before + 1
    assert said(server, live) is Refusal.DELEGATION_REVOKED
    server.close()


def test_also_a_refused_knock_is_the_devices_newest_word(server: ListeningServer) -> None:
    alice = server.add("alice-laptop")
    server.hear(alice.knock(START.wall_ms, 0, "web"), START)
    sick = Posture(disk_encrypted=Fact.NO)
    knock = Knock(START.wall_ms, ("vault",), posture=sick)
    sealed = seal_knock(
        knock,
        keys=alice.channel,
        signer=SeedSigner(alice.seed),
        server_identity=IDENTITY.public,
        slot=1,
        nonce=nonce(knock),
    )
    answer = alice.answer(server.hear(sealed, START), sealed)
    assert answer is not None
    assert answer.refusal is Refusal.SERVICE_NOT_ALLOWED
    (live,) = server.live
    assert live.context.posture == sick
    assert server.live.has_news


def test_a_datagram_that_was_heard_before_is_no_word(server: ListeningServer) -> None:
    alice = server.add("alice-laptop")
    first = alice.knock(START.wall_ms, 0, "web")
    server.hear(first, START)
    (before,) = server.live
    server.live.heard("alice-laptop", Posture(), START)
    server.hear(first, START)
    (live,) = server.live
    assert live.context.posture == Posture()
    assert before.context.posture is None
