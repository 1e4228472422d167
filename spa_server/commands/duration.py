"""An option that takes a length of time."""

from __future__ import annotations

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
