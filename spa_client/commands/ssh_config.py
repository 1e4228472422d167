"""`spa-client ssh-config`."""

from __future__ import annotations

import click

from spa_client.commands import EXIT_CODES
from spa_client.commands.completing import perimeter_names
from spa_client.errors import BadConfiguration
from spa_client.ssh_stanza import own_program, stanza
from spa_client.storage import Store


@click.command("ssh-config", epilog=EXIT_CODES, short_help="Print the lines that send ssh through a perimeter.")
@click.argument("name", required=False, shell_complete=perimeter_names)
def command(name: str | None) -> None:
    """Print the stanza for ~/.ssh/config that makes ssh, scp and sftp knock first; without NAME for every perimeter.

    \b
    Examples:
      spa-client ssh-config office
      spa-client ssh-config >>~/.ssh/config
    """
    store = Store.default()
    names = store.names() if name is None else (name,)
    if not names:
        raise BadConfiguration("no perimeter is joined yet: spa-client join INVITE")
    program = own_program()
    click.echo("\n".join(stanza(store.load(each), program) for each in names), nl=False)
