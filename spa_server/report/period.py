"""The time that a report is of, and the equal steps into which its plots cut it. UTC throughout; it reads no clock."""

from __future__ import annotations

import datetime
from dataclasses import dataclass

from spa_protocol.duration import seconds_of

MOST_STEPS = 100
_MINUTE_S, _HOUR_S, _DAY_S = 60, 3600, 86_400
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_STEPS_S = (
    *(_MINUTE_S * number for number in (1, 2, 5, 10, 15, 30)),
    *(_HOUR_S * number for number in (1, 2, 3, 6, 12)),
    *(_DAY_S * number for number in (1, 2, 7, 14, 28, 91, 364)),
)
"""Lengths that people count in. All but weeks begin with the day."""


class BadTime(ValueError):
    """Not a time; the message says how one is written."""


@dataclass(frozen=True, slots=True)
class Period:
    """From `since_ms` on and before `until_ms`, UTC since 1970, in steps that begin at whole minutes, hours or days."""

    since_ms: int
    until_ms: int

    @property
    def step_ms(self) -> int:
        """The length of a step: the shortest of which there are not too many."""
        for step_s in _STEPS_S:
            if self._count(step_s * 1000) <= MOST_STEPS:
                return step_s * 1000
        return _STEPS_S[-1] * 1000 * (1 + self._count(_STEPS_S[-1] * 1000) // MOST_STEPS)

    @property
    def first_ms(self) -> int:
        """Where the first step begins; it may be before the period does."""
        return self.since_ms // self.step_ms * self.step_ms

    @property
    def steps(self) -> int:
        """How many there are."""
        return self._count(self.step_ms)

    def _count(self, step_ms: int) -> int:
        return (self.until_ms - 1) // step_ms - self.since_ms // step_ms + 1


def time_of(text: str, now_ms: int) -> int:
    """A time as people write it, in ms: `7d` (that long ago), `2026-03-01`, `2026-03-01T09:30`, `now`. Raises BadTime.

    UTC, unless an offset says otherwise.
    """
    if text == "now":
        return now_ms
    try:
        return now_ms - seconds_of(text) * 1000
    except ValueError:
        pass
    try:
        at = datetime.datetime.fromisoformat(text)
        at = at if at.tzinfo is not None else at.replace(tzinfo=datetime.UTC)
        found = round(at.timestamp() * 1000)
    except (ValueError, OverflowError):
        found = -1
    if found < 0:
        raise BadTime(f"{text!r} is no time; write it as 7d (that long ago), 2026-03-01 or 2026-03-01T09:30 (UTC)")
    return found


def day(time_ms: int) -> str:
    """The date."""
    return f"{_at(time_ms):%Y-%m-%d}"


def short_day(time_ms: int) -> str:
    """The date without its year, as nobody misreads it."""
    at = _at(time_ms)
    return f"{at.day} {_MONTHS[at.month - 1]}"


def minute(time_ms: int) -> str:
    """Date and time to the minute."""
    return f"{_at(time_ms):%Y-%m-%d %H:%M}"


def second(time_ms: int) -> str:
    """Date and time to the second."""
    return f"{_at(time_ms):%Y-%m-%d %H:%M:%S}"


def length(ms: int) -> str:
    """A length of time, in the largest unit that says it whole."""
    seconds = ms // 1000
    for unit_s, name in ((_DAY_S, "day"), (_HOUR_S, "hour"), (_MINUTE_S, "minute")):
        if seconds >= unit_s and seconds % unit_s == 0:
            number = seconds // unit_s
            return f"{number} {name}" + ("" if number == 1 else "s")
    return f"{seconds} s"


def _at(time_ms: int) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(time_ms // 1000, datetime.UTC)
