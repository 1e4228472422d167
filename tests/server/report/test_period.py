"""Times as people write them, and the steps into which a plot cuts a period."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spa_server.report import axes
from spa_server.report.period import MOST_STEPS, BadTime, Period, length, time_of
from tests.server.report.trails import DAY_MS, HOUR_MS, START_MS

TIMES = st.integers(0, 4_000_000_000_000)


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("now", START_MS),
        ("7d", START_MS - 7 * DAY_MS),
        ("90m", START_MS - 90 * 60_000),
        ("2026-02-28", START_MS - DAY_MS),
        ("2026-02-28T09:30", START_MS - DAY_MS + 9 * HOUR_MS + 30 * 60_000),
        ("2026-02-28 09:30:05", START_MS - DAY_MS + 9 * HOUR_MS + 30 * 60_000 + 5000),
        ("2026-02-28T09:30+02:00", START_MS - DAY_MS + 7 * HOUR_MS + 30 * 60_000),
        ("2026-03-01T00:00:00.000Z", START_MS),
    ],
)
def test_a_time_is_a_length_ago_or_a_date_of_utc(text: str, ms: int) -> None:
    assert time_of(text, START_MS) == ms


@pytest.mark.parametrize(
    "text", ["", "yesterday", "7", "7y", "-7d", "2026-13-01", "1066-10-14", "2026-03-01T25:00", "\0"]
)
def test_what_is_no_time_is_refused_with_how_to_write_one(text: str) -> None:
    with pytest.raises(BadTime, match="write it as 7d"):
        time_of(text, START_MS)


@given(TIMES, st.integers(1, 4_000_000_000_000))
def test_the_steps_cover_the_period_and_are_few(since_ms: int, span_ms: int) -> None:
    period = Period(since_ms, since_ms + span_ms)
    assert 1 <= period.steps <= MOST_STEPS
    assert period.first_ms <= since_ms < period.first_ms + period.step_ms
    end_ms = period.first_ms + period.steps * period.step_ms
    assert end_ms - period.step_ms < period.until_ms <= end_ms


@given(TIMES, st.integers(1, 4_000_000_000_000))
def test_marks_along_lie_on_the_axis_in_order_and_are_few(since_ms: int, span_ms: int) -> None:
    places = [mark.place for mark in axes.along(Period(since_ms, since_ms + span_ms))]
    assert places == sorted(set(places))
    assert all(0 <= place <= 1 for place in places)
    assert len(places) <= 10


@given(st.integers(0, 10**12))
def test_marks_upwards_are_whole_numbers_in_equal_steps_up_to_one_not_below_the_most(most: int) -> None:
    top, marks = axes.up(most)
    numbers = [int(mark.text.replace(",", "")) for mark in marks]
    assert numbers[0] == 0
    assert numbers[-1] == top >= most
    assert len({after - before for before, after in itertools.pairwise(numbers)}) == 1
    assert 2 <= len(marks) <= 6
    assert top <= 2 * max(most, 4)


@pytest.mark.parametrize(
    ("ms", "said"), [(60_000, "1 minute"), (12 * HOUR_MS, "12 hours"), (7 * DAY_MS, "7 days"), (90_000, "90 s")]
)
def test_a_length_is_said_in_the_unit_that_holds_it_whole(ms: int, said: str) -> None:
    assert length(ms) == said
