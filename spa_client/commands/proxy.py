"""`spa-client proxy`."""

from __future__ import annotations

import socket

import click

from spa_client.commands import EXIT_CODES
from spa_client.commands.completing import perimeter_names, service_names
from spa_client.commands.options import code_option, passphrase_option, source_option, timeout_option
from spa_client.commands.touch_option import touch_option
from spa_client.destination import Destination, find_destination
from spa_client.ending import Ending
from spa_client.errors import BadSurroundings, NeverOpened
from spa_client.holding import Change, Holding, Missed
from spa_client.knocking import Opened, Request
from spa_client.opening import Wait
from spa_client.relay import Relay
from spa_client.second_factor import CodeSource
from spa_client.session_key import Session
from spa_client.storage import Store
from spa_client.waiting import connect

_CONNECT_S = 10.0


@click.command("proxy", epilog=EXIT_CODES, short_help="Knock, connect, relay standard input and output (for ssh).")
@click.argument("name", shell_complete=perimeter_names)
@click.argument("host")
@click.argument("port", type=click.IntRange(1, 65535))
@click.option(
    "--service",
    "-s",
    metavar="SERVICE",
    shell_complete=service_names,
    help="Open this one, where PORT alone does not tell which.",
)
@click.option("--for", "lease_s", type=click.IntRange(1), metavar="SECONDS", help="Lease wanted; it is renewed.")
@source_option
@timeout_option
@code_option
@passphrase_option
@touch_option
def command(
    name: str,
    host: str,
    port: int,
    service: str | None,
    lease_s: int | None,
    source: str | None,
    timeout_s: float,
    code: CodeSource,
    touch_every_s: int,
) -> int:
    """Open the service at HOST and PORT, connect, and relay standard input and output: an OpenSSH ProxyCommand.

    HOST is the server, or a host behind it that it protects. The lease is kept while the connection lasts, and given
    back when it ends. Nothing but the connection's bytes goes to standard output. `spa-client ssh-config` prints the
    lines that make ssh use this.

    \b
    Examples:
      spa-client proxy office gw.example.org 22
      ssh -o ProxyCommand="spa-client proxy office %h %p" admin@gw.example.org
    """
    store = Store.default()
    perimeter = store.load(name)
    destination = find_destination(perimeter, host, port, service)
    request = Request(destination.services, lease_s or 0, source, timeout_s, code=code)
    session = Session(store, perimeter, request.services, touch_every_s)
    with (
        Ending() as ending,
        Holding(store, perimeter, request, wait=Wait(port), report=_report, session=session) as held,
        _connected(destination, held.opened) as connection,
    ):
        relay = Relay(connection, ending.ask)
        relay.start()
        ending.wait()
        if relay.fault is not None:
            raise BadSurroundings(f"the connection to {host} broke: {relay.fault.strerror or relay.fault}")
    return 0


def _connected(destination: Destination, opened: Opened) -> socket.socket:
    addresses = destination.addresses(opened)
    connected = connect(addresses, destination.port, _CONNECT_S)
    if connected.connection is not None:
        return connected.connection
    where = f"tcp/{destination.port} on {' and '.join(map(str, addresses))}"
    if connected.reason:
        raise BadSurroundings(f"it is open, but {where} turns the connection down: {connected.reason}")
    raise NeverOpened(
        f"it was granted, but {where} does not answer; on the server: spa-server doctor", opened.addresses
    )


def _report(change: Change) -> None:
    if isinstance(change, Missed):
        click.echo(f"spa-client: warning: the lease was not renewed: {change.error.sentence}", err=True)
