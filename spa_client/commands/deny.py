"""`spa-client deny`."""

from __future__ import annotations

import click

from spa_client.approving import MAX_REQUEST, Wish
from spa_client.commands import EXIT_CODES
from spa_client.commands.completing import perimeter_names
from spa_client.commands.deciding import decide_on
from spa_client.commands.options import code_option, passphrase_option, timeout_option
from spa_client.second_factor import CodeSource
from spa_protocol.knock import Action


@click.command("deny", epilog=EXIT_CODES, short_help="Do not let somebody have what they asked for.")
@click.argument("name", shell_complete=perimeter_names)
@click.argument("number", type=click.IntRange(1, MAX_REQUEST))
@click.option("--yes", "-y", is_flag=True, help="Do not ask; needed where there is no terminal to ask at.")
@timeout_option
@code_option
@passphrase_option
@click.option("--json", "as_json", is_flag=True, help="Print what was done as JSON.")
def command(name: str, number: int, yes: bool, timeout_s: float, code: CodeSource, as_json: bool) -> None:
    """Deny the request NUMBER at the perimeter NAME, by a knock of this device. Who may approve it may deny it.

    \b
    Examples:
      spa-client deny office 4711
      spa-client deny office 4711 --yes
    """
    decide_on(name, Wish(number, Action.DENY), timeout_s=timeout_s, code=code, yes=yes, as_json=as_json)
