"""The score: each signal's points under its name, the bands, and what no combination of signals can do."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spa_server.decide.risk import HALF_LIFE_S, MOST, OLD_KEY_S, Band, Risk, Signals, Weights, score

DEFAULT = Weights()
NAMES = (
    "new_network",
    "impossible_travel",
    "invalid_knocks",
    "used_tag",
    "unusual_hour",
    "clock_skew",
    "old_key",
    "first_use",
    "block_list",
    "two_sources",
    "posture_worse",
)

agos = st.none() | st.floats(0, 10 * HALF_LIFE_S)
signals = st.builds(
    Signals,
    new_network_ago_s=agos,
    impossible_travel_ago_s=agos,
    invalid_knocks=st.integers(0, 100_000),
    used_tag_ago_s=agos,
    unusual_hour=st.booleans(),
    skew_ms=st.integers(-600_000, 600_000),
    key_age_s=st.integers(-(1 << 31), 1 << 31),
    first_use=st.booleans(),
    block_list=st.booleans(),
    two_sources_ago_s=agos,
    posture_worse_ago_s=agos,
)


@st.composite
def all_weights(draw: st.DrawFn) -> Weights:
    """Any that the configuration takes."""
    points = st.integers(0, MOST)
    step_up_from = draw(st.integers(1, MOST))
    given = {
        each.name: draw(points)
        for each in fields(Weights)
        if each.name not in ("step_up_from", "refuse_from", "invalid_knocks_most")
    }
    return Weights(
        **given,
        invalid_knocks_most=draw(st.integers(0, step_up_from - 1)),
        step_up_from=step_up_from,
        refuse_from=draw(st.integers(step_up_from, MOST)),
    )


@pytest.mark.parametrize(
    ("found", "parts"),
    [
        (Signals(), ()),
        (Signals(new_network_ago_s=0), (("new_network", 15),)),
        (Signals(new_network_ago_s=3600), (("new_network", 8),)),
        (Signals(new_network_ago_s=-7200), (("new_network", 15),)),
        (Signals(new_network_ago_s=7200), (("new_network", 4),)),
        (Signals(new_network_ago_s=8 * 3600), ()),
        (Signals(impossible_travel_ago_s=0), (("impossible_travel", 35),)),
        (Signals(impossible_travel_ago_s=1800), (("impossible_travel", 25),)),
        (Signals(invalid_knocks=1), (("invalid_knocks", 5),)),
        (Signals(invalid_knocks=3), (("invalid_knocks", 15),)),
        (Signals(invalid_knocks=4), (("invalid_knocks", 20),)),
        (Signals(invalid_knocks=100_000), (("invalid_knocks", 20),)),
        (Signals(used_tag_ago_s=0), (("used_tag", 40),)),
        (Signals(used_tag_ago_s=3600), (("used_tag", 20),)),
        (Signals(used_tag_ago_s=2 * 3600), (("used_tag", 10),)),
        (Signals(unusual_hour=True), (("unusual_hour", 10),)),
        (Signals(skew_ms=10_000), ()),
        (Signals(skew_ms=10_001), (("clock_skew", 5),)),
        (Signals(skew_ms=-10_001), (("clock_skew", 5),)),
        (Signals(skew_ms=-30_000), (("clock_skew", 5),)),
        (Signals(skew_ms=30_001), (("clock_skew", 15),)),
        (Signals(skew_ms=-30_001), (("clock_skew", 15),)),
        (Signals(key_age_s=15_552_000), ()),
        (Signals(key_age_s=15_552_001), (("old_key", 10),)),
        (Signals(key_age_s=-1), ()),
        (Signals(first_use=True), (("first_use", 20),)),
        (Signals(block_list=True), (("block_list", 50),)),
        (Signals(two_sources_ago_s=0), (("two_sources", 30),)),
        (Signals(posture_worse_ago_s=0), (("posture_worse", 20),)),
        (Signals(posture_worse_ago_s=3600), (("posture_worse", 10),)),
        (Signals(first_use=True, new_network_ago_s=0), (("new_network", 15), ("first_use", 20))),
        (Signals(block_list=True, used_tag_ago_s=0), (("used_tag", 40), ("block_list", 50))),
        # Strangers' points stop short of a refusal, and are whole where there is one.
        (Signals(used_tag_ago_s=0, posture_worse_ago_s=0, invalid_knocks=9),
         (("invalid_knocks", 20), ("used_tag", 40), ("posture_worse", 20))),
        (Signals(block_list=True, invalid_knocks=9), (("invalid_knocks", 9), ("block_list", 50))),
        (Signals(used_tag_ago_s=0, two_sources_ago_s=0, invalid_knocks=9),
         (("invalid_knocks", 20), ("used_tag", 40), ("two_sources", 30))),
    ],
)  # fmt: skip
def test_each_signal_has_its_points_under_its_name(found: Signals, parts: tuple[tuple[str, int], ...]) -> None:
    assert score(found) == Risk(sum(points for _, points in parts), parts)


EVERYTHING = Signals(0, 0, 9, 0, True, 60_000, OLD_KEY_S + 1, True, True, 0, 0)


def test_the_score_ends_at_100_and_the_parts_tell_all_of_it() -> None:
    risk = score(EVERYTHING)
    assert risk.score == 100
    assert dict(risk.parts) == {
        "new_network": 15,
        "impossible_travel": 35,
        "invalid_knocks": 20,
        "used_tag": 40,
        "unusual_hour": 10,
        "clock_skew": 15,
        "old_key": 10,
        "first_use": 20,
        "block_list": 50,
        "two_sources": 30,
        "posture_worse": 20,
    }


def test_it_reads_as_a_sum() -> None:
    assert str(score(Signals(first_use=True, skew_ms=12_000))) == "25 (clock_skew 5, first_use 20)"
    assert str(Risk()) == "0"


@pytest.mark.parametrize(
    ("points", "band"),
    [
        (0, Band.ALLOW), (29, Band.ALLOW), (30, Band.STEP_UP), (59, Band.STEP_UP), (60, Band.REFUSE),
        (100, Band.REFUSE),
    ],
)  # fmt: skip
def test_the_bands_begin_where_the_thresholds_are(points: int, band: Band) -> None:
    assert DEFAULT.band(points) is band


def test_thresholds_that_are_one_leave_no_band_between() -> None:
    weights = Weights(step_up_from=60)
    assert (weights.band(59), weights.band(60)) == (Band.ALLOW, Band.REFUSE)


@given(signals, all_weights())
def test_the_parts_are_in_one_order_each_once_and_add_up_to_the_score(found: Signals, weights: Weights) -> None:
    risk = score(found, weights)
    names = [name for name, _ in risk.parts]
    assert names == [name for name in NAMES if name in names]
    assert all(points > 0 for _, points in risk.parts)
    assert risk.score == min(sum(points for _, points in risk.parts), MOST)


@given(signals, signals, all_weights())
def test_another_signal_or_more_of_one_never_lowers_the_score(one: Signals, other: Signals, weights: Weights) -> None:
    risk = score(one, weights).score
    for each in fields(Signals):
        changed: dict[str, Any] = {each.name: _worse(getattr(one, each.name), getattr(other, each.name), each.name)}
        assert score(replace(one, **changed), weights).score >= risk, each.name


def _worse(one: object, other: object, name: str) -> object:
    if name.endswith("_ago_s"):
        return min((each for each in (one, other) if isinstance(each, int | float)), default=None)
    if name == "skew_ms":
        assert isinstance(one, int)
        assert isinstance(other, int)
        return max(one, other, key=abs)
    assert isinstance(one, int)
    assert isinstance(other, int)
    return max(one, other)


@given(signals, st.floats(0, 5 * HALF_LIFE_S), all_weights())
def test_time_alone_never_raises_it(found: Signals, passed_s: float, weights: Weights) -> None:
    later = {
        each.name: getattr(found, each.name) + passed_s
        for each in fields(Signals)
        if each.name.endswith("_ago_s") and getattr(found, each.name) is not None
    }
    assert score(replace(found, **later), weights).score <= score(found, weights).score


@given(st.sampled_from([each.name for each in fields(Signals) if each.name.endswith("_ago_s")]), all_weights())
def test_what_has_happened_halves_with_every_hour(name: str, weights: Weights) -> None:
    first = score(_happened(name, 0), weights).score
    for hours in range(8):
        assert abs(score(_happened(name, hours * HALF_LIFE_S), weights).score - first / 2**hours) <= 0.5


def _happened(name: str, ago_s: float) -> Signals:
    changed: dict[str, Any] = {name: ago_s}
    return replace(Signals(), **changed)


@given(signals, st.integers(0, 1 << 40), all_weights())
def test_strangers_can_make_of_no_knock_a_refused_one_and_of_a_clean_one_nothing(
    found: Signals, invalid: int, weights: Weights
) -> None:
    alone = score(replace(found, invalid_knocks=0), weights)
    disturbed = score(replace(found, invalid_knocks=invalid), weights)
    if weights.band(alone.score) is not Band.REFUSE:
        assert weights.band(disturbed.score) is not Band.REFUSE
    assert weights.band(score(Signals(invalid_knocks=invalid), weights).score) is Band.ALLOW
