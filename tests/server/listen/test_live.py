"""Live sessions: nothing that is open is forgotten, and what would be refused by now is taken away."""

from __future__ import annotations

import json
import logging
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from spa_protocol.posture import Fact, Posture
from spa_protocol.refusal import Refusal
from spa_server.decide.decision import Closing, Refused
from spa_server.enforce.client import FirewallFailed
from spa_server.listen import live as live_module
from spa_server.listen.clock import Instant
from spa_server.listen.live import LOOK_AGAIN_MS, LiveSessions
from spa_server.listen.session import Live
from spa_server.listen.session_text import Unreadable, of_text, to_text
from spa_server.remember.sessions import SessionKey, SessionRecord, spare
from spa_server.remember.store import Store, open_store
from spa_server.remember.used import NotRecorded
from spa_server.service import PortRange, Service
from spa_server.tell.events import Event
from tests.server.listen.kernel import Kernel
from tests.server.listen.sessions import key_of, live_of, lives
from tests.server.listen.world import START, later

WEB = Service("web", (PortRange(8443, 8443),), (), frozenset({"admin"}))
DISABLED = Refused(Refusal.DEVICE_DISABLED)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    folder = tmp_path / "state"
    folder.mkdir(mode=0o700)
    with open_store(folder, create=True) as made:
        yield made


@pytest.fixture
def kernel() -> Kernel:
    return Kernel(START.boot_ms)


def sessions_of(store: Store, kernel: Kernel, boot_id: str = "boot-1") -> LiveSessions:
    return LiveSessions(SessionRecord(store, boot_id), kernel)


def opened(live: LiveSessions, kernel: Kernel, *wanted: Live, now: Instant = START) -> None:
    """Granted, as a knock has it: written down, opened by the kernel, confirmed."""
    live.granting(wanted)
    for each in wanted:
        kernel.ends_ms[each.key] = max(each.ends_ms, kernel.ends_ms.get(each.key, 0))
    live.granted([(kernel.ends_ms[each.key] - now.boot_ms) // 1000 for each in wanted], now)


def to_all(refused: Refused | None) -> live_module.Judge:
    return lambda _: refused


def events(caplog: pytest.LogCaptureFixture) -> list[Event]:
    return [event for record in caplog.records if isinstance(event := getattr(record, "event", None), Event)]


@pytest.fixture(autouse=True)
def _heard(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)


def test_who_is_still_welcome_stays(store: Store, kernel: Kernel) -> None:
    live = sessions_of(store, kernel)
    opened(live, kernel, live_of(key_of(), START))
    assert live.reconsider(to_all(None), START) == 0
    assert kernel.is_open(key_of())
    assert [each.key for each in live] == [key_of()]


def test_who_would_be_refused_is_cut_off_and_it_is_told(
    store: Store, kernel: Kernel, caplog: pytest.LogCaptureFixture
) -> None:
    live = sessions_of(store, kernel)
    opened(live, kernel, live_of(key_of(), START, session="aa"), live_of(key_of("bob-laptop"), START, session="bb"))
    refused = {"alice-laptop": Refused(Refusal.POLICY_FORBIDS, "office-hours")}
    assert live.reconsider(lambda each: refused.get(each.key.label), START) == 1
    assert not kernel.is_open(key_of())
    assert kernel.is_open(key_of("bob-laptop"))
    assert [each.key.label for each in live] == ["bob-laptop"]
    (cut,) = events(caplog)
    assert (cut.type.name, cut.reason, cut.about, cut.session) == ("cut", "policy_forbids", "office-hours", "aa")
    assert (cut.device, cut.user, cut.services) == ("alice-laptop", "alice", (("web", 0),))


def test_its_end_is_told_with_what_went_through(store: Store, kernel: Kernel, caplog: pytest.LogCaptureFixture) -> None:
    live = sessions_of(store, kernel)
    opened(live, kernel, live_of(key_of(), START, session="aa"))
    live.reconsider(to_all(DISABLED), now := later(START, 7_000))
    live.keep_up(now)
    live.keep_up(now)
    _, ended = events(caplog)
    assert (ended.type.name, ended.reason, ended.session) == ("session-ended", "device_disabled", "aa")
    assert ended.lasted_ms == 7_000
    assert ended.traffic is not None
    assert (ended.traffic.octets_in, ended.traffic.octets_out) == (300, 2_000)
    assert kernel.finals == [key_of()], "it is asked of once"


def test_long_judging_is_no_standing_still(store: Store, kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_module, "ALIVE_EVERY", 2)
    live = sessions_of(store, kernel)
    opened(live, kernel, *(live_of(key_of(f"laptop-{number}"), START) for number in range(6)))
    live.reconsider(to_all(None), START)
    assert kernel.beats == 3


def test_a_fault_in_judging_one_cuts_that_one_off(store: Store, kernel: Kernel) -> None:
    live = sessions_of(store, kernel)
    opened(live, kernel, live_of(key_of(), START), live_of(key_of("bob-laptop"), START))

    def judge(each: Live) -> Refused | None:
        if each.key.label == "alice-laptop":
            raise RuntimeError("a fault in this test")
        return None

    assert live.reconsider(judge, START) == 1
    assert [each.key.label for each in live] == ["bob-laptop"]


def test_what_could_not_be_taken_away_is_taken_the_next_time(store: Store, kernel: Kernel) -> None:
    live = sessions_of(store, kernel)
    opened(live, kernel, live_of(key_of(), START))
    kernel.fails = True
    with pytest.raises(FirewallFailed):
        live.reconsider(to_all(DISABLED), START)
    kernel.fails = False
    assert live.reconsider(to_all(DISABLED), START) == 1
    assert not kernel.is_open(key_of())


def test_an_end_that_could_not_be_asked_of_is_told_the_next_time(
    store: Store, kernel: Kernel, caplog: pytest.LogCaptureFixture
) -> None:
    live = sessions_of(store, kernel)
    opened(live, kernel, live_of(key_of(), START))
    live.reconsider(to_all(DISABLED), START)
    kernel.fails = True
    with pytest.raises(FirewallFailed):
        live.keep_up(START)
    kernel.fails = False
    live.keep_up(START)
    assert [event.type.name for event in events(caplog)] == ["cut", "session-ended"]


def test_a_renewal_goes_on_under_the_first_knocks_id(store: Store, kernel: Kernel) -> None:
    live = sessions_of(store, kernel)
    opened(live, kernel, live_of(key_of(), START, session="first"))
    opened(live, kernel, live_of(key_of(), then := later(START, 30_000), session="second"), now=then)
    (only,) = live
    assert (only.session, only.knock, only.began_ms) == ("first", "second", START.boot_ms)
    assert only.ends_ms == then.boot_ms + 60_000


def test_a_shorter_renewal_ends_nothing_earlier(store: Store, kernel: Kernel) -> None:
    live = sessions_of(store, kernel)
    opened(live, kernel, live_of(key_of(), START, 300))
    opened(live, kernel, live_of(key_of(), START, 10))
    assert next(iter(live)).ends_ms == START.boot_ms + 300_000


def test_what_was_not_opened_is_not_live_and_what_was_before_is(store: Store, kernel: Kernel) -> None:
    live = sessions_of(store, kernel)
    live.granting([live_of(key_of("bob-laptop"), START)])
    live.failed()
    assert len(live) == 0
    opened(live, kernel, live_of(key_of(), START, session="first"))
    live.granting([live_of(key_of(), START, 300, session="second")])
    live.failed()
    live.keep_house()
    for each in (live, sessions_of(store, kernel)):
        assert [(one.knock, one.ends_ms) for one in each] == [("first", START.boot_ms + 60_000)]


def test_beyond_the_most_nothing_is_opened_but_a_renewal_is(
    store: Store, kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is forgotten could not be taken away again."""
    monkeypatch.setattr(live_module, "MOST_LIVE", 1)
    live = sessions_of(store, kernel)
    opened(live, kernel, live_of(key_of(), START))
    with pytest.raises(NotRecorded):
        live.granting([live_of(key_of("bob-laptop"), START)])
    live.granting([live_of(key_of(), START)])


def test_a_process_that_starts_knows_who_is_inside(store: Store, kernel: Kernel) -> None:
    opened(sessions_of(store, kernel), kernel, live_of(key_of(), START), live_of(key_of("bob-laptop"), START))
    live = sessions_of(store, kernel)
    assert {each.key.label for each in live} == {"alice-laptop", "bob-laptop"}
    live.reconsider(to_all(DISABLED), START)
    live.keep_house()
    assert not kernel.is_open(key_of())
    assert len(sessions_of(store, kernel)) == 0


def test_after_another_boot_nobody_is_inside(store: Store, kernel: Kernel) -> None:
    opened(sessions_of(store, kernel), kernel, live_of(key_of(), START))
    assert len(sessions_of(store, kernel, "boot-2")) == 0
    assert len(sessions_of(store, kernel, "boot-1")) == 0


def test_what_another_version_wrote_down_is_taken_away(store: Store, kernel: Kernel) -> None:
    """Nobody can say of it whether the answer is still yes."""
    opened(sessions_of(store, kernel), kernel, live_of(key_of(), START))
    SessionRecord(store, "boot-1").write({key_of(): '{"session":"00"}'})
    live = sessions_of(store, kernel)
    assert len(live) == 0
    live.reconsider(to_all(None), START)
    live.keep_house()
    assert not kernel.is_open(key_of())
    assert SessionRecord(store, "boot-1").read() == {}


def test_a_lease_that_lives_longer_than_reckoned_is_not_forgotten(store: Store, kernel: Kernel) -> None:
    """The kernel's clock ends it: a machine that slept has another one than ours."""
    live = sessions_of(store, kernel)
    opened(live, kernel, live_of(key_of(), START, 60))
    kernel.ends_ms[key_of()] += 5_000
    kernel.now_ms += 60_000
    live.keep_up(later(START, 60_000))
    assert len(live) == 1
    kernel.now_ms += 5_000
    live.keep_up(later(START, 65_000))
    assert len(live) == 0


def test_a_session_that_outlives_its_lease_is_live_until_its_last_flow_ends(store: Store, kernel: Kernel) -> None:
    live = sessions_of(store, kernel)
    opened(live, kernel, live_of(key_of(), START, 60, outlives=True))
    kernel.flows[key_of()] = 1
    kernel.now_ms += 60_000
    live.keep_up(later(START, 60_000))
    assert [each.key for each in live] == [key_of()]
    assert [each.key for each in sessions_of(store, kernel)] == [key_of()], "after a restart, too"
    kernel.flows.clear()
    live.keep_up(later(START, 60_001))
    assert len(live) == 1, "it is looked at only now and then"
    live.keep_up(later(START, 60_000 + LOOK_AGAIN_MS))
    assert len(live) == 0


def test_flows_that_are_left_of_a_service_that_is_cut_at_expiry_hold_nothing_up(store: Store, kernel: Kernel) -> None:
    live = sessions_of(store, kernel)
    opened(live, kernel, live_of(key_of(), START, 60))
    kernel.flows[key_of()] = 1
    kernel.now_ms += 60_000
    live.keep_up(later(START, 60_000))
    assert len(live) == 0


def test_what_somebody_else_ended_is_over_when_it_is_looked_at(
    store: Store, kernel: Kernel, caplog: pytest.LogCaptureFixture
) -> None:
    live = sessions_of(store, kernel)
    opened(live, kernel, live_of(key_of(), START, 60), live_of(key_of("bob-laptop"), START, 60))
    del kernel.ends_ms[key_of()]
    live.keep_up(START)
    assert len(live) == 2
    live.look_again()
    live.keep_up(START)
    assert [each.key.label for each in live] == ["bob-laptop"]
    assert [(event.device, event.reason) for event in events(caplog)] == [("alice-laptop", "revoked")]


def test_what_was_given_back_is_over_but_for_what_outlives_it(
    store: Store, kernel: Kernel, caplog: pytest.LogCaptureFixture
) -> None:
    live = sessions_of(store, kernel)
    cut, kept = live_of(key_of(), START), live_of(key_of(service="kept"), START, outlives=True)
    opened(live, kernel, cut, kept)
    kernel.flows[kept.key] = 1
    for key in (cut.key, kept.key):
        del kernel.ends_ms[key]
    services = [WEB, Service("kept", WEB.tcp, (), WEB.roles)]
    live.closed(Closing(cut.key.source, cut.key.destination, ()), "alice-laptop", services, START)
    live.keep_up(START)
    assert [each.key for each in live] == [kept.key]
    assert [(event.type.name, event.reason) for event in events(caplog)] == [("session-ended", "closed")]


def test_what_is_left_to_somebody_is_not_judged_until_they_knock_again(store: Store, kernel: Kernel) -> None:
    live = sessions_of(store, kernel)
    opened(live, kernel, live_of(key_of(), START), live_of(key_of("alice-laptop+ci"), START))
    opened(live, kernel, live_of(key_of("bob-laptop"), START))
    spare(store, "alice-laptop")
    assert live.reconsider(to_all(DISABLED), START) == 1
    assert {each.key.label for each in live} == {"alice-laptop", "alice-laptop+ci"}
    assert {each.key.label for each in live if each.spared} == {"alice-laptop", "alice-laptop+ci"}
    opened(live, kernel, live_of(key_of(), START))
    assert live.reconsider(to_all(DISABLED), START) == 1
    assert kernel.is_open(key_of("alice-laptop+ci"))


SICK = Posture(disk_encrypted=Fact.NO)
WELL = Posture(disk_encrypted=Fact.YES, age_s=60, uptime_s=5)


def encrypted(each: Live) -> Refused | None:
    """A policy that demands an encrypted disk."""
    is_well = each.context.posture is not None and each.context.posture.disk_encrypted is Fact.YES
    return None if is_well else Refused(Refusal.POLICY_FORBIDS, "encrypted")


def with_posture(live: Live, posture: Posture | None) -> Live:
    return replace(
        live, context=replace(live.context, posture=posture, posture_age_s=None if posture is None else posture.age_s)
    )


@pytest.mark.parametrize("posture", [SICK, None], ids=["worse", "not known any more"])
def test_a_devices_newest_word_of_itself_is_what_it_is_judged_by(
    store: Store, kernel: Kernel, posture: Posture | None
) -> None:
    live = sessions_of(store, kernel)
    opened(
        live, kernel, *(with_posture(live_of(key_of(label), START), WELL) for label in ("alice-laptop", "bob-laptop"))
    )
    live.heard("alice-laptop", posture, later(START, 1_000))
    assert live.has_news
    assert {each.context.posture for each in sessions_of(store, kernel)} == {posture, WELL}, "over a restart, too"
    assert live.reconsider(encrypted, START, news_only=True) == 1
    assert not live.has_news
    assert [each.key.label for each in live] == ["bob-laptop"]


def test_the_same_word_again_is_no_news(store: Store, kernel: Kernel) -> None:
    live = sessions_of(store, kernel)
    opened(live, kernel, with_posture(live_of(key_of(), START), WELL))
    live.heard("alice-laptop", replace(WELL, age_s=0, uptime_s=99), START)
    assert not live.has_news


def test_what_is_judged_for_its_news_is_not_all(store: Store, kernel: Kernel) -> None:
    live = sessions_of(store, kernel)
    opened(live, kernel, *(live_of(key_of(label), START) for label in ("alice-laptop", "bob-laptop")))
    live.heard("alice-laptop", WELL, START)
    judged: list[str] = []
    live.reconsider(lambda each: judged.append(each.key.label), START, news_only=True)
    assert judged == ["alice-laptop"]


def test_a_word_from_who_is_left_what_they_have_takes_nothing_from_them(store: Store, kernel: Kernel) -> None:
    live = sessions_of(store, kernel)
    opened(live, kernel, with_posture(live_of(key_of(), START), WELL))
    spare(store, "alice-laptop")
    live.reconsider(to_all(None), START)
    live.heard("alice-laptop", SICK, START)
    for each in (live, sessions_of(store, kernel)):
        assert each.reconsider(encrypted, START) == 0


def test_it_says_when_time_alone_may_change_the_answer(store: Store, kernel: Kernel) -> None:
    due = {"alice-laptop": START.wall_ms + 5_000, "bob-laptop": START.wall_ms + 3_000}
    live = LiveSessions(SessionRecord(store, "boot-1"), kernel, lambda each, _: due.get(each.key.label))
    assert live.next_due(START) is None
    for label in ("alice-laptop", "bob-laptop", "carol-laptop"):
        opened(live, kernel, live_of(key_of(label), START))
    assert live.next_due(START) == 3_000
    assert live.next_due(later(START, 4_000)) == 0
    live.reconsider(lambda each: DISABLED if each.key.label == "bob-laptop" else None, START)
    assert live.next_due(START) == 5_000


@given(lives)
def test_a_session_is_remembered_as_it_was(each: Live) -> None:
    assert of_text(each.key, to_text(each)) == each


@given(lives, st.data())
def test_a_text_without_any_one_of_its_facts_is_unreadable(each: Live, data: st.DataObject) -> None:
    told = json.loads(to_text(each))
    place = data.draw(st.sampled_from([told, told["context"]]))
    del place[data.draw(st.sampled_from(sorted(place)))]
    with pytest.raises(Unreadable):
        of_text(each.key, json.dumps(told))


LABELS = ("alice-laptop", "alice-laptop+ci", "bob-laptop")
SERVICES = ("web", "kept")
keys = st.builds(key_of, st.sampled_from(LABELS), st.sampled_from(SERVICES))


class AnyHistory(RuleBasedStateMachine):
    """Knocks, ends, faults, restarts and decisions in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.store = open_store(Path(self.folder.name), create=True)
        self.kernel = Kernel(START.boot_ms)
        self.now = START
        self.banned: frozenset[str] = frozenset()
        self.spared: set[SessionKey] = set()
        self.live = sessions_of(self.store, self.kernel)

    def teardown(self) -> None:
        self.store.close()
        self.folder.cleanup()

    @rule(key=keys, lease_s=st.integers(1, 90), flows=st.integers(0, 1))
    def knock(self, key: SessionKey, lease_s: int, flows: int) -> None:
        wanted = live_of(key, self.now, lease_s, outlives=key.service == "kept")
        if key.label not in self.banned:
            opened(self.live, self.kernel, wanted, now=self.now)
            self.kernel.flows[key] = flows
            self.spared.discard(key)

    @rule(key=keys)
    def knock_that_fails(self, key: SessionKey) -> None:
        before = self.live.get(key)
        self.live.granting([live_of(key, self.now, outlives=key.service == "kept")])
        self.live.failed()
        assert self.live.get(key) == before

    @rule(ms=st.integers(1, 60_000))
    def time_passes(self, ms: int) -> None:
        self.now = later(self.now, ms)
        self.kernel.now_ms += ms

    @rule(key=keys)
    def flow_ends(self, key: SessionKey) -> None:
        self.kernel.flows.pop(key, None)

    @rule()
    def turn(self) -> None:
        self.live.keep_up(self.now)
        self.live.keep_house()

    @rule(banned=st.frozensets(st.sampled_from(LABELS)), fails=st.booleans())
    def decisions_change(self, banned: frozenset[str], fails: bool) -> None:
        self.banned = banned
        judge: live_module.Judge = lambda each: DISABLED if each.key.label in banned else None  # noqa: E731
        if fails:
            self.kernel.fails = True
            with pytest.raises(FirewallFailed):
                self.live.reconsider(judge, self.now)
            self.kernel.fails = False
        self.live.reconsider(judge, self.now)
        for key in self.reachable():
            assert key.label not in banned or key in self.spared, f"{key} is still open"

    @rule()
    def alice_keeps_what_she_has(self) -> None:
        spare(self.store, "alice-laptop")
        self.spared |= {each.key for each in self.live if each.key.label.startswith("alice-laptop")}

    @rule()
    def process_ends_and_starts(self) -> None:
        self.live = sessions_of(self.store, self.kernel)

    def reachable(self) -> set[SessionKey]:
        kept = {key for key, flows in self.kernel.flows.items() if flows and key.service == "kept"}
        return {key for key in self.kernel.ends_ms if self.kernel.is_open(key)} | kept

    @invariant()
    def nothing_that_is_open_is_forgotten(self) -> None:
        known = {each.key for each in self.live}
        assert self.reachable() <= known


AnyHistory.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestAnyHistory = AnyHistory.TestCase
