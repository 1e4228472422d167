"""`spa-client open`."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import webbrowser

import click

from spa_client.commands import EXIT_CODES
from spa_client.commands.changes import Changes
from spa_client.commands.completing import perimeter_names, service_names
from spa_client.commands.options import code_option, passphrase_option, source_option, timeout_option
from spa_client.commands.touch_option import touch_option
from spa_client.destination import described
from spa_client.door import Door, Turned
from spa_client.ending import Ending
from spa_client.errors import BadUsage
from spa_client.holding import Change
from spa_client.knocking import Request
from spa_client.local_ports import listen, listen_near, places
from spa_client.perimeter import Perimeter
from spa_client.second_factor import CodeSource
from spa_client.session_key import Session
from spa_client.storage import Store


@click.command("open", epilog=EXIT_CODES, short_help="A local door: connections to this computer knock and go through.")
@click.argument("name", required=False, shell_complete=perimeter_names)
@click.argument("service", required=False, shell_complete=service_names)
@click.option("--listen", "near_port", type=click.IntRange(1, 65535), metavar="PORT", help="The local port.")
@click.option("--port", type=click.IntRange(1, 65535), help="The service's port, where it has several.")
@click.option(
    "--idle",
    "idle_s",
    type=click.FloatRange(0, 86400),
    default=30.0,
    show_default=True,
    metavar="SECONDS",
    help="How long the lease is kept when no connection is left.",
)
@click.option("--scheme", default="https", show_default=True, help="What the printed URL begins with.")
@click.option("--browser", is_flag=True, help="Open the URL in a browser.")
@click.option("--any-user", is_flag=True, help="Let other users of this computer in too.")
@click.option("--for", "lease_s", type=click.IntRange(1), metavar="SECONDS", help="Lease wanted; it is renewed.")
@source_option
@timeout_option
@code_option
@passphrase_option
@touch_option
@click.option("--json", "as_json", is_flag=True, help="Print each event as one line of JSON.")
def command(
    name: str | None,
    service: str | None,
    near_port: int | None,
    port: int | None,
    idle_s: float,
    scheme: str,
    browser: bool,
    any_user: bool,
    lease_s: int | None,
    source: str | None,
    timeout_s: float,
    code: CodeSource,
    touch_every_s: int,
    as_json: bool,
) -> int:
    """Listen at 127.0.0.1 and ::1, and forward each connection to SERVICE, which is opened when the first one comes.

    The lease is renewed while connections live, and given back when none has for a while, or at the end (Ctrl-C). The
    bytes go through as they are: TLS stays between the program and the service. The local port is the service's own, or
    the next free one. On Linux other users of this computer are refused; elsewhere any local process may use it.

    Without NAME the default perimeter is meant (`spa-client default`).

    \b
    Examples:
      spa-client open office web --browser
      spa-client open office web --listen 9000 --idle 300
    """
    store = Store.default()
    perimeter = store.load(name)
    services, far_port = _far_end(perimeter, service, port)
    request = Request(services, lease_s or 0, source, timeout_s, code=code)
    request.check()
    told = _Told(perimeter.name, as_json)
    listeners = listen(near_port) if near_port else listen_near(far_port)
    try:
        url = f"{scheme}://{places(listeners)[0]}/"
        told.ready(url, listeners, f"{' '.join(services) or 'what is'} at tcp/{far_port}")
        if browser:
            webbrowser.open(url)
        session = Session(store, perimeter, services, touch_every_s)
        door = Door(
            store,
            perimeter,
            request,
            far_port,
            idle_s=idle_s,
            everybody=any_user,
            report=told.happened,
            session=session,
        )
        with Ending() as ending:
            asyncio.run(_serve(door, listeners, ending))
    finally:
        for listener in listeners:
            listener.close()
    return 0


async def _serve(door: Door, listeners: list[socket.socket], ending: Ending) -> None:
    loop = asyncio.get_running_loop()

    def end_when_asked() -> None:
        ending.wait()
        loop.call_soon_threadsafe(door.end)

    threading.Thread(target=end_when_asked, daemon=True).start()
    await door.serve(listeners)


def _far_end(perimeter: Perimeter, service: str | None, port: int | None) -> tuple[tuple[str, ...], int]:
    """What to knock for, and the TCP port there. Raises BadUsage where that is not clear."""
    known = [each for each in perimeter.known((service,) if service else ()) if each.tcp_port]
    if service and port:
        return (service,), port
    if port:
        return tuple(each.name for each in known if each.tcp_port == port), port
    if len(known) == 1:
        return (known[0].name,), known[0].tcp_port
    if not known:
        raise BadUsage(
            f"{perimeter.name} has told of no TCP port of {service or 'any service'}: give it with --port; or"
            f" spa-client knock {perimeter.name} asks the server"
        )
    raise BadUsage(f"{perimeter.name} has several services, name one: {described(known)}")


class _Told:
    """Says what happens at the door, in lines."""

    def __init__(self, name: str, as_json: bool) -> None:
        self._name = name
        self._as_json = as_json
        self._changes = Changes(name, as_json, quiet=False)

    def ready(self, url: str, listeners: list[socket.socket], leads_to: str) -> None:
        """The door stands."""
        at = places(listeners)
        if self._as_json:
            self._changes.say(json.dumps({"event": "listening", "perimeter": self._name, "url": url, "at": at}))
        else:
            self._changes.say(f"{url} leads to {leads_to} of {self._name} (at {' and '.join(at)}); Ctrl-C ends it")

    def happened(self, event: Change | Turned) -> None:
        """A change of the lease, or a connection turned away."""
        if not isinstance(event, Turned):
            self._changes.tell(event)
        elif self._as_json:
            turned = {"event": "turned_away", "perimeter": self._name, "error": event.error.sentence}
            self._changes.say(json.dumps(turned))
        else:
            click.echo(f"spa-client: turned away: {event.error.sentence}", err=True)
