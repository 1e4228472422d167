"""`spa-client remove`."""

from __future__ import annotations

import click

from spa_client.commands import EXIT_CODES
from spa_client.commands.completing import perimeter_names
from spa_client.commands.terminal import at_terminal, print_json
from spa_client.errors import BadUsage
from spa_client.storage import Store


@click.command("remove", epilog=EXIT_CODES, short_help="Forget a perimeter, its key included.")
@click.argument("name", shell_complete=perimeter_names)
@click.option("--yes", "-y", is_flag=True, help="Do not ask; needed where there is no terminal to ask at.")
@click.option("--json", "as_json", is_flag=True, help="Print what was done as JSON.")
def command(name: str, yes: bool, as_json: bool) -> None:
    """Forget a perimeter: its key and gate secret are deleted here, and only a new invite brings it back.

    A key that you had before, in a file or in ssh-agent, stays where it is. The server still knows the device;
    `spa-server device remove` there ends that.

    \b
    Examples:
      spa-client remove office
      spa-client remove office --yes
    """
    store = Store.default()
    store.path(name)
    if not yes:
        if not at_terminal():
            raise BadUsage("nothing was removed: give --yes, for there is no terminal to ask on")
        if not _agreed(name):
            raise BadUsage("nothing was removed: answer y, or give --yes")
    store.remove(name)
    if as_json:
        print_json({"removed": name})
    else:
        click.echo(f"removed: {name}")


def _agreed(name: str) -> bool:
    try:
        return click.confirm(f"Delete the key of {name}?", err=True)
    except click.Abort:
        # The input ended, or Ctrl-C; the prompt's line is still open.
        click.echo(err=True)
        return False
