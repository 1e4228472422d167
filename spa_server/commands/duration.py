"""Options that take a length of time, or a point in time."""

from __future__ import annotations

import datetime
import time

import click

from spa_protocol.duration import seconds_of


class Duration(click.ParamType[int]):
    """A length of time, in seconds once read."""

    name = "duration"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Seconds, from a number and one of the units s, m, h, d."""
        if isinstance(value, int):
            return value
        try:
            return seconds_of(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


class Moment(click.ParamType[int]):
    """A point in time, in milliseconds UTC since 1970 once read: so long ago, or a date with or without a time."""

    name = "time"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Milliseconds, from 90s, 15m, 1h, 7d (ago), 2026-03-01, 2026-03-01T09:30 (UTC) or with an offset from UTC."""
        if isinstance(value, int):
            return value
        try:
            return time.time_ns() // 1_000_000 - 1000 * seconds_of(str(value))
        except ValueError:
            pass
        try:
            moment = datetime.datetime.fromisoformat(str(value))
        except ValueError:
            forms = "1h (ago), 2026-03-01 or 2026-03-01T09:30 (UTC)"
            self.fail(f"{str(value)!r} is no point in time; write it as {forms}", param, ctx)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=datetime.UTC)
        return int(moment.timestamp() * 1000)
