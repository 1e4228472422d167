"""`spa-client approve`."""

from __future__ import annotations

import click

from spa_client.approving import MAX_REQUEST, Wish
from spa_client.commands import EXIT_CODES
from spa_client.commands.completing import perimeter_names
from spa_client.commands.deciding import decide_on
from spa_client.commands.duration import Duration
from spa_client.commands.options import code_option, passphrase_option, timeout_option
from spa_client.second_factor import CodeSource
from spa_protocol.knock import Action


@click.command("approve", epilog=EXIT_CODES, short_help="Let somebody have what they asked for.")
@click.argument("name", shell_complete=perimeter_names)
@click.argument("number", type=click.IntRange(1, MAX_REQUEST))
@click.option("--for", "for_s", type=Duration(), default=0, help="How long it holds: 30m, 2h. Default: the server's.")
@click.option("--yes", "-y", is_flag=True, help="Do not ask; needed where there is no terminal to ask at.")
@timeout_option
@code_option
@passphrase_option
@click.option("--json", "as_json", is_flag=True, help="Print what was done as JSON.")
def command(name: str, number: int, for_s: int, yes: bool, timeout_s: float, code: CodeSource, as_json: bool) -> None:
    """Approve the request NUMBER at the perimeter NAME, by a knock of this device: whoever asked may then open it.

    The number is in the refusal that they got, which names this command. The server's policy says who may approve, and
    nobody approves what their own user asked for. Where no answer comes it may be approved all the same.

    \b
    Examples:
      spa-client approve office 4711
      spa-client approve office 4711 --for 30m --yes
    """
    wish = Wish(number, Action.APPROVE, for_s)
    decide_on(name, wish, timeout_s=timeout_s, code=code, yes=yes, as_json=as_json)
