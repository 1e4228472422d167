"""`spa-client remove`."""

from __future__ import annotations

import click

from spa_client.commands import EXIT_CODES
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
    if not yes:
        click.confirm(f"Delete the key of {name}?", abort=True, err=True)
    store.remove(name)
    click.echo(f"removed: {name}")
