"""`spa-client exec`."""

from __future__ import annotations

import click

from spa_client.commands.before_dashes import NameBeforeDashes
from spa_client.commands.completing import command_words, perimeter_names, service_names
from spa_client.commands.knock import tell_approval
from spa_client.commands.options import code_option, passphrase_option, source_option, timeout_option
from spa_client.commands.touch_option import touch_option
from spa_client.holding import Change, Holding, Missed
from spa_client.knocking import Request
from spa_client.opening import Wait
from spa_client.running import run_command
from spa_client.second_factor import CodeSource
from spa_client.session_key import Session
from spa_client.storage import Store

_EXIT_CODES = """\b
Exit codes: the command's own; 128 + N when signal N ended it; and
  122  bad usage
  123  refused by the server
  124  no answer, or the port did not open
  125  bad configuration, or no such perimeter
  126  not permitted, a fault of the surroundings, or the command cannot be run
  127  no such command
"""


@click.command(
    "exec",
    cls=NameBeforeDashes,
    epilog=_EXIT_CODES,
    short_help="Knock, run a command, keep the lease while it runs.",
)
@click.argument("name", metavar="[NAME]", shell_complete=perimeter_names)
@click.argument(
    "words", metavar="-- COMMAND...", nargs=-1, required=True, type=click.UNPROCESSED, shell_complete=command_words
)
@click.option(
    "--service",
    "-s",
    "services",
    multiple=True,
    metavar="SERVICE",
    shell_complete=service_names,
    help="Open this one; may be repeated.",
)
@click.option("--for", "lease_s", type=click.IntRange(1), metavar="SECONDS", help="Lease wanted; it is renewed.")
@source_option
@click.option(
    "--wait",
    is_flag=True,
    help="Wait for an approval, if it takes one, and for the TCP port also when the server has confirmed.",
)
@click.option("--port", type=click.IntRange(1, 65535), help="The TCP port to watch where no answer comes.")
@timeout_option
@code_option
@passphrase_option
@touch_option
def command(
    name: str | None,
    words: tuple[str, ...],
    services: tuple[str, ...],
    lease_s: int | None,
    source: str | None,
    wait: bool,
    port: int | None,
    timeout_s: float,
    code: CodeSource,
    touch_every_s: int,
) -> int:
    """Knock, run COMMAND when the door is open, and end with its status. The lease is kept while it runs,
    and given back when it ends.

    Where no answer comes, the service's TCP port is watched until it opens. Without NAME the default perimeter is meant
    (`spa-client default`).

    \b
    Examples:
      spa-client exec office -- ssh bastion.example.com
      spa-client exec office --service web -- curl https://office.example.com:8443/
      spa-client exec -- ssh bastion.example.com
    """
    store = Store.default()
    perimeter = store.load(name)
    request = Request(services, lease_s or 0, source, timeout_s, code=code)
    wanted = Wait(port or 0, always=wait, approval=tell_approval if wait else None)
    session = Session(store, perimeter, services, touch_every_s)
    with Holding(store, perimeter, request, wait=wanted, report=_report, session=session) as held:
        for warning in held.opened.warnings:
            _warn(warning)
        return run_command(words)


def _report(change: Change) -> None:
    if isinstance(change, Missed):
        _warn(f"the lease was not renewed: {change.error.sentence}")


def _warn(sentence: str) -> None:
    click.echo(f"spa-client: warning: {sentence}", err=True)
