"""Lengths of time as people write them: 90s, 15m, 1h, 7d."""

from __future__ import annotations

import re

import click

_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


class Duration(click.ParamType[int]):
    """A length of time, in seconds once read."""

    name = "duration"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Seconds, from a number and one of the units s, m, h, d."""
        if isinstance(value, int):
            return value
        match = re.fullmatch(r"(\d{1,6})([smhd])", str(value))
        if match is None:
            self.fail(f"{value!r} is not a length of time; write it as 90s, 15m, 1h or 7d", param, ctx)
        return int(match[1]) * _UNITS_S[match[2]]
