"""The gate's own side: which tags are armed when, for whom, and that none is armed twice."""

from __future__ import annotations

from itertools import chain

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spa_protocol.keys import Channel, ChannelKeys, derive
from spa_protocol.tag import CLOCK_SKEW_MS, CLOCK_SLOTS, TagKind, TagPosition, compute_tag
from spa_server.enforce.client import FirewallFailed
from spa_server.listen.gate import LEAD_MS, Gate, HolderId, Slots
from tests.server.listen.world import SKEW_MS, SLOTS, RecordingFirewall, secret

NOW_MS = 1_767_225_600_000 + 30_000
"""Half a minute into a minute, and into a day."""
MINUTE_MS, DAY_MS = 60_000, 86_400_000
WINDOW = TagKind.KNOCK.window(NOW_MS)
ALICE, BOB = HolderId(Channel.DEVICE, 1), HolderId(Channel.INVITE, 1)
KEYS = {ALICE: derive(secret("alice"), Channel.DEVICE), BOB: derive(secret("bob"), Channel.INVITE)}
Uses = tuple[tuple[int, int], ...]
times_ms = st.integers(10 * DAY_MS, 1 << 42)
near_midnight_ms = st.builds(lambda day, off: day * DAY_MS + off, st.integers(10, 40_000), st.integers(-5000, 5000))


def tag(keys: ChannelKeys, window: int, slot: int = 0, kind: TagKind = TagKind.KNOCK) -> bytes:
    return compute_tag(keys, TagPosition(kind, window, slot))


def knock_tags(keys: ChannelKeys, windows: range) -> set[bytes]:
    return {tag(keys, window, slot) for window in windows for slot in range(SLOTS)}


def new_gate(
    firewall: RecordingFirewall, *holders: HolderId, now_ms: int = NOW_MS, first_window: int = 0, used: Uses = ()
) -> Gate:
    gate = Gate(firewall, slots=Slots(SLOTS, 0), max_skew_ms=SKEW_MS, used=lambda window: used)
    gate.set_holders({holder: KEYS[holder] for holder in holders}, now_ms, first_window)
    return gate


@pytest.fixture
def firewall() -> RecordingFirewall:
    return RecordingFirewall()


def test_the_windows_that_the_skew_covers_are_armed_and_no_others(firewall: RecordingFirewall) -> None:
    new_gate(firewall, ALICE)
    days = range(TagKind.CLOCK.window(NOW_MS) - 1, TagKind.CLOCK.window(NOW_MS) + 2)
    clock_tags = {tag(KEYS[ALICE], day, slot, TagKind.CLOCK) for day in days for slot in range(CLOCK_SLOTS)}
    assert firewall.armed == knock_tags(KEYS[ALICE], range(WINDOW - 1, WINDOW + 2)) | clock_tags


@given(now_ms=times_ms, skew_ms=st.integers(1, 600).map(lambda seconds: seconds * 1000), slots=st.integers(16, 64))
def test_no_more_slots_are_live_at_any_time_than_the_gate_says_it_can_hold(
    now_ms: int, skew_ms: int, slots: int
) -> None:
    firewall = RecordingFirewall()
    gate = Gate(firewall, slots=Slots(slots, 0), max_skew_ms=skew_ms, used=lambda window: ())
    gate.set_holders({ALICE: KEYS[ALICE]}, now_ms)
    days = len(TagKind.CLOCK.covering(now_ms, CLOCK_SKEW_MS + LEAD_MS))
    live = len(gate) - days * CLOCK_SLOTS
    assert live <= gate.capacity <= live + slots


def test_a_tag_is_known_once_and_tells_whose_it_is_and_where_it_stands(firewall: RecordingFirewall) -> None:
    gate = new_gate(firewall, ALICE, BOB)
    before = len(gate)
    taken = gate.take(tag(KEYS[BOB], WINDOW, 3))
    assert taken is not None
    assert (taken.holder, taken.position) == (BOB, TagPosition(TagKind.KNOCK, WINDOW, 3))
    assert gate.take(tag(KEYS[BOB], WINDOW, 3)) is None
    assert len(gate) == before - 1


def test_a_strangers_tag_and_one_of_another_time_are_not_known(firewall: RecordingFirewall) -> None:
    gate = new_gate(firewall, ALICE)
    for unknown in (bytes(8), tag(KEYS[BOB], WINDOW), tag(KEYS[ALICE], WINDOW + 2), tag(KEYS[ALICE], WINDOW, SLOTS)):
        assert gate.take(unknown) is None


def test_each_window_is_armed_before_a_clock_that_is_fast_reaches_it(firewall: RecordingFirewall) -> None:
    gate = new_gate(firewall, ALICE)
    renewal_ms = gate.next_renewal_ms(NOW_MS)
    assert renewal_ms == (WINDOW + 1) * MINUTE_MS - LEAD_MS
    gate.renew(renewal_ms - 1)
    assert tag(KEYS[ALICE], WINDOW + 2) not in firewall.armed
    gate.renew(renewal_ms)
    assert tag(KEYS[ALICE], WINDOW + 2) in firewall.armed


def test_a_window_that_is_over_is_forgotten(firewall: RecordingFirewall) -> None:
    gate = new_gate(firewall, ALICE)
    gate.renew(NOW_MS + 3 * MINUTE_MS)
    assert gate.take(tag(KEYS[ALICE], WINDOW)) is None
    assert gate.take(tag(KEYS[ALICE], WINDOW + 3)) is not None


@given(times_ms | near_midnight_ms)
def test_nothing_new_is_due_before_the_next_renewal(now_ms: int) -> None:
    firewall = RecordingFirewall()
    gate = new_gate(firewall, ALICE, now_ms=now_ms)
    renewal_ms = gate.next_renewal_ms(now_ms)
    assert now_ms < renewal_ms <= now_ms + MINUTE_MS
    armed = len(firewall.armings)
    gate.renew(renewal_ms - 1)
    assert len(firewall.armings) == armed
    gate.renew(renewal_ms)
    assert len(firewall.armings) > armed


@given(times_ms | near_midnight_ms, st.integers(1000, 600_000))
def test_a_tag_lives_in_the_kernel_until_no_clock_within_the_skew_can_send_it(now_ms: int, skew_ms: int) -> None:
    """RecordingFirewall fails for a time that the firewall process would refuse, such as at midnight."""
    firewall = RecordingFirewall()
    gate = Gate(firewall, slots=Slots(1, 0), max_skew_ms=skew_ms, used=lambda window: ())
    gate.set_holders({ALICE: KEYS[ALICE]}, now_ms)
    for tags, timeout_ms in firewall.armings:
        taken = gate.take(next(iter(tags)))
        assert taken is not None
        kind = taken.position.kind
        allowed_ms = skew_ms if kind is TagKind.KNOCK else CLOCK_SKEW_MS
        assert now_ms + timeout_ms == kind.ends_ms(taken.position.window) + allowed_ms + LEAD_MS


@given(times_ms, st.lists(st.integers(0, 3 * MINUTE_MS), max_size=12))
def test_no_tag_is_armed_twice_as_time_passes(now_ms: int, steps_ms: list[int]) -> None:
    firewall = RecordingFirewall()
    gate = new_gate(firewall, ALICE, now_ms=now_ms)
    for number, step_ms in enumerate(steps_ms):
        now_ms += step_ms
        gate.renew(now_ms)
        holders = [ALICE, BOB] if number % 2 else [ALICE]
        gate.set_holders({holder: KEYS[holder] for holder in holders}, now_ms)
    of_alice = {
        tag(KEYS[ALICE], window, slot, kind)
        for kind in TagKind
        for window in kind.covering(now_ms, 40 * MINUTE_MS)
        for slot in range(SLOTS)
    }
    armed = [each for each in chain.from_iterable(tags for tags, _ in firewall.armings) if each in of_alice]
    assert len(armed) == len(set(armed))


@given(times_ms, st.integers(-600_000, 600_000))
def test_a_knock_of_any_clock_within_the_skew_finds_its_tag_armed(now_ms: int, skew_ms: int) -> None:
    gate = Gate(RecordingFirewall(), slots=Slots(1, 0), max_skew_ms=abs(skew_ms), used=lambda window: ())
    gate.set_holders({ALICE: KEYS[ALICE]}, now_ms)
    assert gate.take(tag(KEYS[ALICE], TagKind.KNOCK.window(now_ms + skew_ms))) is not None


def test_those_who_come_are_armed_at_once_and_those_who_go_are_disarmed(firewall: RecordingFirewall) -> None:
    gate = new_gate(firewall, ALICE)
    gate.set_holders(KEYS, NOW_MS)
    assert tag(KEYS[BOB], WINDOW) in firewall.armed
    gate.set_holders({BOB: KEYS[BOB]}, NOW_MS)
    assert firewall.armed.isdisjoint(knock_tags(KEYS[ALICE], range(WINDOW - 1, WINDOW + 2)))
    assert gate.take(tag(KEYS[ALICE], WINDOW)) is None
    gate.set_holders({}, NOW_MS)
    assert not firewall.armed
    assert len(gate) == 0


def test_behind_the_fence_no_knock_tag_is_armed_and_clock_tags_are(firewall: RecordingFirewall) -> None:
    gate = new_gate(firewall, ALICE, first_window=WINDOW + 1)
    assert firewall.armed & knock_tags(KEYS[ALICE], range(WINDOW - 5, WINDOW + 5)) == knock_tags(
        KEYS[ALICE], range(WINDOW + 1, WINDOW + 2)
    )
    assert gate.take(tag(KEYS[ALICE], TagKind.CLOCK.window(NOW_MS), 0, TagKind.CLOCK)) is not None


def test_a_slot_that_was_used_before_a_start_stays_shut(firewall: RecordingFirewall) -> None:
    """Of the credential that used it: an invite of the same number is another holder."""
    gate = new_gate(firewall, ALICE, BOB, used=((ALICE.number, 2),))
    for used in (tag(KEYS[ALICE], WINDOW, 2), tag(KEYS[ALICE], WINDOW + 1, 2)):
        assert used not in firewall.armed
        assert gate.take(used) is None
    assert gate.take(tag(KEYS[ALICE], WINDOW, 1)) is not None
    assert gate.take(tag(KEYS[BOB], WINDOW, 2)) is not None


@pytest.mark.parametrize("hours", [-30, -1, 1, 30])
def test_after_a_clock_step_the_windows_of_the_new_time_are_armed_and_the_old_are_not(
    firewall: RecordingFirewall, hours: int
) -> None:
    gate = new_gate(firewall, ALICE)
    now_ms = NOW_MS + hours * 60 * MINUTE_MS
    gate.rearm(now_ms)
    assert firewall.armed == new_armed(now_ms)
    assert gate.take(tag(KEYS[ALICE], TagKind.KNOCK.window(now_ms))) is not None


def new_armed(now_ms: int) -> set[bytes]:
    """What a gate that starts at this time arms."""
    firewall = RecordingFirewall()
    new_gate(firewall, ALICE, now_ms=now_ms)
    return firewall.armed


def test_arming_that_failed_is_done_at_the_next_renewal(firewall: RecordingFirewall) -> None:
    gate = new_gate(firewall, ALICE)
    firewall.arming_fails = True
    later_ms = NOW_MS + MINUTE_MS
    with pytest.raises(FirewallFailed):
        gate.renew(later_ms)
    assert gate.take(tag(KEYS[ALICE], WINDOW + 2)) is None, "what the kernel has not confirmed is not armed"
    firewall.arming_fails = False
    gate.renew(later_ms)
    assert gate.take(tag(KEYS[ALICE], WINDOW + 2)) is not None


def test_a_holder_whose_arming_failed_is_armed_when_tried_again(firewall: RecordingFirewall) -> None:
    gate = new_gate(firewall, ALICE)
    firewall.arming_fails = True
    with pytest.raises(FirewallFailed):
        gate.set_holders(KEYS, NOW_MS)
    firewall.arming_fails = False
    gate.set_holders(KEYS, NOW_MS)
    assert gate.take(tag(KEYS[BOB], WINDOW)) is not None
    assert tag(KEYS[BOB], WINDOW) in firewall.armed


def test_one_whose_disarming_failed_is_not_known_any_more_all_the_same(firewall: RecordingFirewall) -> None:
    gate = new_gate(firewall, ALICE, BOB)
    firewall.arming_fails = True
    with pytest.raises(FirewallFailed):
        gate.set_holders({BOB: KEYS[BOB]}, NOW_MS)
    firewall.arming_fails = False
    gate.set_holders({BOB: KEYS[BOB]}, NOW_MS)
    assert all(gate.take(each) is None for each in knock_tags(KEYS[ALICE], range(WINDOW - 1, WINDOW + 2)))
