"""`spa-client default`."""

from __future__ import annotations

import click

from spa_client.commands import EXIT_CODES
from spa_client.commands.completing import perimeter_names
from spa_client.commands.terminal import print_json
from spa_client.errors import BadUsage
from spa_client.storage import Store


@click.command("default", epilog=EXIT_CODES, short_help="Show or choose the perimeter meant where none is named.")
@click.argument("name", required=False, shell_complete=perimeter_names)
@click.option("--none", "forget", is_flag=True, help="Choose none: with several joined, each command has to name one.")
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
def command(name: str | None, forget: bool, as_json: bool) -> None:
    """Say which perimeter a command means that is given no NAME, or choose it.

    While only one is joined, it is meant without being chosen.

    \b
    Examples:
      spa-client default
      spa-client default office
      spa-client default --none
    """
    store = Store.default()
    if forget and name is not None:
        raise BadUsage("give a NAME or --none, not both")
    if forget or name is not None:
        store.choose_default(name)
    meant = None if forget else store.default_name()
    if as_json:
        print_json({"default": meant})
    else:
        click.echo(meant or "none is chosen")
