"""`spa-client keep`."""

from __future__ import annotations

import click

from spa_client.commands import EXIT_CODES
from spa_client.commands.changes import Changes
from spa_client.commands.completing import perimeter_names, service_names
from spa_client.commands.options import code_option, passphrase_option, source_option, timeout_option
from spa_client.commands.touch_option import touch_option
from spa_client.ending import Ending
from spa_client.holding import Holding
from spa_client.knocking import Request
from spa_client.second_factor import CodeSource
from spa_client.session_key import Session
from spa_client.storage import Store


@click.command("keep", epilog=EXIT_CODES, short_help="Hold a lease, wherever this computer goes.")
@click.argument("name", required=False, shell_complete=perimeter_names)
@click.argument("services", metavar="[SERVICE]...", nargs=-1, shell_complete=service_names)
@click.option("--for", "lease_s", type=click.IntRange(1), metavar="SECONDS", help="Lease wanted; it is renewed.")
@source_option
@timeout_option
@code_option
@passphrase_option
@touch_option
@click.option("--json", "as_json", is_flag=True, help="Print each change as one line of JSON, renewals too.")
@click.option("--quiet", "-q", is_flag=True, help="Print failures only.")
def command(
    name: str | None,
    services: tuple[str, ...],
    lease_s: int | None,
    source: str | None,
    timeout_s: float,
    code: CodeSource,
    touch_every_s: int,
    as_json: bool,
    quiet: bool,
) -> int:
    """Open services and keep them open until interrupted (Ctrl-C, SIGTERM, SIGHUP); then give them back.

    The lease is renewed at half its life, and at once when this computer's address changes or it wakes from sleep. A
    failure is told once and tried again. Ends with 0 when interrupted, and as `knock` does when it never opened.

    Without NAME the default perimeter is meant (`spa-client default`).

    \b
    Examples:
      spa-client keep office
      spa-client keep office web --for 120
      spa-client keep office web --json
    """
    store = Store.default()
    request = Request(services, lease_s or 0, source, timeout_s, code=code)
    perimeter = store.load(name)
    changes = Changes(perimeter.name, as_json, quiet)
    session = Session(store, perimeter, services, touch_every_s)
    with Ending() as ending, Holding(store, perimeter, request, report=changes.tell, session=session):
        ending.wait()
    return 0
