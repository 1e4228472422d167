"""What `spa-client approve` and `spa-client deny` share: one knock, and what the server says of it."""

from __future__ import annotations

import click

from spa_client.approving import Wish, decide
from spa_client.commands.terminal import at_terminal, print_json
from spa_client.errors import BadUsage
from spa_client.second_factor import CodeSource
from spa_client.storage import Store
from spa_protocol.knock import Action


def decide_on(name: str, wish: Wish, *, timeout_s: float, code: CodeSource, yes: bool, as_json: bool) -> None:
    """Do as the wish says, after asking the person at the terminal unless they said yes already."""
    verb = wish.action.name.lower()
    store = Store.default()
    perimeter = store.load(name)
    if not yes:
        if not at_terminal():
            raise BadUsage(f"nothing was decided: give --yes, for there is no terminal to {verb} at")
        if not click.confirm(f"{verb.capitalize()} request {wish.number} at {perimeter.name}?", err=True):
            raise BadUsage("nothing was decided: answer y, or give --yes")
    memory = store.memory(perimeter.name, perimeter.slots)
    said = decide(perimeter, wish, memory, timeout_s=timeout_s, code=code)
    done = "approved" if wish.action is Action.APPROVE else "denied"
    if as_json:
        print_json({done: wish.number, "perimeter": perimeter.name, "said": said})
    else:
        click.echo(f"{done}: request {wish.number} at {perimeter.name} ({said})")
    if warning := memory.checkpoint.warn():
        click.echo(f"spa-client: warning: {warning}", err=True)
