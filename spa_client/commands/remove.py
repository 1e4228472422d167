"""`spa-client remove`."""

from __future__ import annotations

import sys

import click

from spa_client.commands import EXIT_CODES
from spa_client.errors import BadUsage
from spa_client.storage import Store


@click.command("remove", epilog=EXIT_CODES, short_help="Forget a perimeter, its key included.")
@click.argument("name")
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
def command(name: str, yes: bool) -> None:
    """Forget a perimeter: its key and gate secret are deleted here, and only a new invite brings it back.

    The server still knows the device; `spa-server device remove` there ends that.

    \b
    Examples:
      spa-client remove office
      spa-client remove office --yes
    """
    store = Store.default()
    store.path(name)
    if not yes and not (sys.stdin is not None and sys.stdin.isatty()):
        raise BadUsage("nothing was removed: give --yes, for there is no terminal to ask on")
    if not yes and not _agreed(name):
        raise BadUsage("nothing was removed: answer y, or give --yes")
    store.remove(name)
    click.echo(f"removed: {name}")


def _agreed(name: str) -> bool:
    try:
        return click.confirm(f"Delete the key of {name}?", err=True)
    except click.Abort:
        # The input ended, or Ctrl-C; the prompt's line is still open.
        click.echo(err=True)
        return False
