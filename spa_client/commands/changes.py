"""What happens to a lease while a command holds it, told as it happens: a line each, for people or for scripts."""

from __future__ import annotations

import json

import click

from spa_client.commands.knock import as_json_value, lines
from spa_client.holding import Cause, Change, GivenBack, Held, Missed


class Changes:
    """Says each change in a line; renewals that change nothing only to scripts."""

    def __init__(self, name: str, as_json: bool, quiet: bool) -> None:
        self._name = name
        self._as_json = as_json
        self._quiet = quiet

    def tell(self, change: Change) -> None:
        """One change, written at once also into a pipe or a file."""
        if self._as_json:
            click.echo(json.dumps(_as_object(self._name, change)))
            return
        if isinstance(change, Missed):
            click.echo(f"spa-client: not renewed: {change.error.sentence}", err=True)
        elif not self._quiet:
            self.say(*_lines(self._name, change))

    @staticmethod
    def say(*sentences: str) -> None:
        """Print lines."""
        for sentence in sentences:
            click.echo(sentence)


def _lines(name: str, change: Held | GivenBack) -> list[str]:
    if isinstance(change, Held):
        why = {Cause.MOVED: "moved", Cause.WOKEN: "woken", Cause.AGAIN: "again"}.get(change.cause, "")
        said = [] if change.cause is Cause.DUE else lines(change.opened)
        return [f"{why}: {line}" if why else line for line in said]
    if change.shut:
        return [f"given back: {name}"]
    if change.error is not None:
        return [f"not given back, it ends by itself: {change.error.sentence}"]
    return [f"left open: {name}; another process of yours holds it"]


def _as_object(name: str, change: Change) -> dict[str, object]:
    if isinstance(change, Held):
        return {"event": change.cause.value, **as_json_value(change.opened)}
    if isinstance(change, Missed):
        return {
            "event": "missed",
            "perimeter": name,
            "error": change.error.sentence,
            "exit_code": change.error.exit_code,
            "retry_s": round(change.retry_s, 1),
        }
    event = "given_back" if change.shut else "left_open"
    return {"event": event, "perimeter": name, "error": change.error.sentence if change.error else None}
