"""Tags, windows and derived keys."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spa_protocol.keys import Channel, derive
from spa_protocol.limits import MAX_SLOTS
from spa_protocol.tag import CLOCK_SKEW_MS, TagKind, TagPosition, compute_tag
from tests.protocol import world


def test_no_key_derived_for_one_use_or_channel_serves_another() -> None:
    keys = [key for channel in Channel for key in _all_keys(derive(world.GATE_SECRET, channel))]
    assert len(set(keys)) == len(keys) == 15


def _all_keys(keys: object) -> list[bytes]:
    return [getattr(keys, name) for name in ("tag", "clock_tag", "request_seal", "answer_tag", "answer_seal")]


def test_a_secret_of_another_size_derives_nothing() -> None:
    for size in (0, 31, 33, 64):
        with pytest.raises(ValueError, match="32 bytes"):
            derive(bytes(size), Channel.DEVICE)


def test_no_two_positions_of_a_day_share_a_tag() -> None:
    minutes = TagKind.KNOCK.covering(world.TIME_MS, CLOCK_SKEW_MS // 2)
    positions = [
        *itertools.starmap(TagPosition, itertools.product([TagKind.KNOCK], minutes, range(MAX_SLOTS))),
        *itertools.starmap(TagPosition, itertools.product([TagKind.CLOCK], range(100), range(MAX_SLOTS))),
    ]
    for keys in (world.DEVICE_KEYS, world.INVITE_KEYS):
        assert len({compute_tag(keys, position) for position in positions}) == len(positions)


@pytest.mark.parametrize(("window", "slot"), [(-1, 0), (2**64, 0), (0, -1), (0, MAX_SLOTS)])
def test_a_position_that_does_not_exist_has_no_tag(window: int, slot: int) -> None:
    with pytest.raises(ValueError, match=r".+"):
        compute_tag(world.DEVICE_KEYS, TagPosition(TagKind.KNOCK, window, slot))


@given(st.sampled_from(TagKind), st.integers(0, 2**63), st.integers(0, 10**9), st.integers(-(10**9), 10**9))
def test_the_windows_that_are_covered_are_those_of_every_clock_within_the_skew(
    kind: TagKind, now_ms: int, skew_ms: int, error_ms: int
) -> None:
    device_ms = now_ms + error_ms
    covered = kind.covering(now_ms, skew_ms)
    if device_ms >= 0 and abs(error_ms) <= skew_ms:
        assert kind.window(device_ms) in covered
    assert kind.window(max(0, now_ms - skew_ms)) == covered[0]
    assert kind.window(now_ms + skew_ms) == covered[-1]


@given(st.sampled_from(TagKind), st.integers(0, 2**64 - 1))
def test_a_window_ends_after_every_time_in_it(kind: TagKind, time_ms: int) -> None:
    window = kind.window(time_ms)
    assert kind.ends_ms(window - 1) <= time_ms < kind.ends_ms(window)
