"""`spa-client rename`."""

from __future__ import annotations

import click

from spa_client.commands import EXIT_CODES
from spa_client.commands.completing import perimeter_names
from spa_client.commands.terminal import print_json
from spa_client.storage import Store


@click.command("rename", epilog=EXIT_CODES, short_help="Give a perimeter another name.")
@click.argument("old", shell_complete=perimeter_names)
@click.argument("new")
@click.option("--json", "as_json", is_flag=True, help="Print what was done as JSON.")
def command(old: str, new: str, as_json: bool) -> None:
    """Call the perimeter OLD by the name NEW from now on. Only this computer knows the name; the key stays the same.

    \b
    Examples:
      spa-client rename gw office
    """
    Store.default().rename(old, new)
    if as_json:
        print_json({"renamed": old, "name": new})
    else:
        click.echo(f"renamed: {old} is {new} now")
