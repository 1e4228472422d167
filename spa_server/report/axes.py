"""Where a plot's axes have their marks: round numbers upwards, round times along. Pure arithmetic."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from spa_server.report import period as times
from spa_server.report.period import Period

_DAY_MS = 86_400_000
_SPACINGS_MS = tuple(
    1000 * seconds
    for seconds in (
        60,
        120,
        300,
        600,
        900,
        1800,
        3600,
        7200,
        10_800,
        21_600,
        43_200,
        86_400,
        172_800,
        604_800,
        1_209_600,
    )
)
_MOST_TIMES = 8


@dataclass(frozen=True, slots=True)
class Mark:
    """A place on an axis, from 0 to 1, and what stands there."""

    place: float
    text: str


def up(most: float, at_least: int = 4) -> tuple[int, list[Mark]]:
    """The top of an axis of whole numbers that begins at 0 and holds `most`, and its marks."""
    most = max(most, at_least)
    power = 10 ** int(math.log10(most / 4))
    steps = (factor * power // 2 for factor in (2, 4, 5, 10, 20) if factor * power % 2 == 0)
    step = next(step for step in steps if 4 * step >= most)
    top = step * math.ceil(most / step)
    return top, [Mark(value / top, f"{value:,}") for value in range(0, top + 1, step)]


def along(period: Period) -> list[Mark]:
    """Times along the period's steps, at round ones."""
    begin, end = period.first_ms, period.first_ms + period.steps * period.step_ms
    spacing = next((each for each in _SPACINGS_MS if (end - begin) / each <= _MOST_TIMES), 0)
    if not spacing:
        spacing = _DAY_MS * math.ceil((end - begin) / _DAY_MS / _MOST_TIMES)
    marks = []
    for time_ms in range(-(-begin // spacing) * spacing, end + 1, spacing):
        is_day = time_ms % _DAY_MS == 0
        text = times.short_day(time_ms) if is_day else times.minute(time_ms)[11:]
        marks.append(Mark((time_ms - begin) / (end - begin), text))
    return marks


def highest(rows: Sequence[Sequence[int | None]]) -> int:
    """The highest of the values; 0 where there is none."""
    return max((value for row in rows for value in row if value is not None), default=0)
