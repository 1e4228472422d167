"""`spa-server perimeter`: the closed ruleset, with or without the server.

What one command alone needs is imported in it: `keep`, the firewall process, has to start fast.
"""

from __future__ import annotations

import json
import sys
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import click

from spa_server.commands.exits import EXIT_CODES, Exit, Stop, need_root, plain_errors
from spa_server.commands.options import config_option, json_option, log_format_option
from spa_server.config import (
    DEFAULT_CONTROL_SOCKET,
    DEFAULT_PATH,
    ConfigError,
    ServerConfig,
    control_socket_of,
    load,
)
from spa_server.keeper.trial import LONGEST_S, SHORTEST_S
from spa_server.tell.printable import printable


@click.group(epilog=EXIT_CODES)
def perimeter() -> None:
    """Put up, print or take down the closed ruleset; no server is needed."""


@perimeter.command(epilog=EXIT_CODES, short_help="Close every service in the kernel.")
@click.option(
    "--confirm",
    "confirm_s",
    type=click.IntRange(SHORTEST_S, LONGEST_S),
    metavar="SECONDS",
    help="Put the old state back unless a knock succeeds, or `perimeter confirm` is run, within that time.",
)
@click.option("--yes", is_flag=True, help="Do not ask, even if this closes the port of your own ssh session.")
@config_option
def apply(confirm_s: int | None, yes: bool, config_path: Path) -> None:
    """Close every configured service in the kernel, in one transaction; live leases stay.

    Where a firewall process runs it does that, and keeps it so; otherwise this command does it.

    \b
    Examples:
      spa-server perimeter apply
      spa-server perimeter apply --confirm 120
    """
    from spa_server.commands.recording import Edit, recorded
    from spa_server.examine import obstacles
    from spa_server.tell.event_types import PERIMETER_APPLIED

    need_root("closing ports in the kernel")
    with plain_errors():
        config = load(config_path)
        _ask_about_own_session(config, yes=yes)
        with recorded(config, Edit(PERIMETER_APPLIED, f"apply the perimeter of {config_path}", gives=False)):
            warnings, kept_by = _applied(config, confirm_s)
        if not kept_by:
            warnings += obstacles.foreign_obstacles(config.knock_ports, config.services)
    for warning in warnings:
        click.echo(f"spa-server: warning: {printable(warning)}", err=True)
    names = ", ".join(service.name for service in config.services)
    ports = ", ".join(f"udp/{port}" for port in config.knock_ports)
    click.echo(f"closed: {names}; knocks are taken on {ports}")
    if confirm_s:
        click.echo(f"on trial for {confirm_s} s; it stays if a knock succeeds, or after: spa-server perimeter confirm")


def _applied(config: ServerConfig, confirm_s: int | None) -> tuple[tuple[str, ...], bool]:
    """Apply, through the keeper if one runs; the warnings, and whether one does."""
    from spa_server.keeper import guard, owner
    from spa_server.tell.control import NotRunning, ask

    try:
        warnings = owner.apply(config, confirm_s)
    except owner.NoKeeper:
        if confirm_s is not None:
            guard.start(config, confirm_s)
        return owner.apply_directly(config, is_on_trial=confirm_s is not None), False
    # A network process that goes by the old file would ask for services that are there no more.
    try:
        reply = ask(config.control_socket, "reload")
    except NotRunning:
        return warnings, True
    if "error" in reply:
        reasons = reply["error"] if isinstance(reply["error"], list) else [reply["error"]]
        warnings += tuple(f"the running server did not take the configuration over: {reason}" for reason in reasons)
    return warnings, True


def _ask_about_own_session(config: ServerConfig, *, yes: bool) -> None:
    """Make sure that nobody closes the way they came in by without knowing it."""
    from spa_server.enforce import sessions

    closed = sessions.closed_by(config.services)
    if not closed:
        return
    for session in closed:
        click.echo(f"spa-server: warning: {session}", err=True)
    if yes:
        return
    advice = "enrol a device that may knock for it first, then: spa-server perimeter apply --confirm 120 --yes"
    if not sys.stdin.isatty():
        raise Stop(Exit.REFUSED, f"this would close the port of a live ssh session; {advice}")
    click.confirm("New ssh sessions will need a knock, and this one may be cut. Go on?", abort=True)


@perimeter.command(epilog=EXIT_CODES, short_help="Print the ruleset in the kernel.")
@json_option
def show(as_json: bool) -> None:
    """Print the ruleset as it stands in the kernel.

    \b
    Example:
      spa-server perimeter show
    """
    from spa_server.enforce import perimeter as kernel

    need_root("reading the ruleset")
    with plain_errors():
        text = kernel.show()
    if not text:
        raise Stop(Exit.FAULT, "no perimeter stands; put it up with: spa-server perimeter apply")
    click.echo(json.dumps({"ruleset": text}) if as_json else text, nl=as_json)


@perimeter.command(epilog=EXIT_CODES, short_help="Take the ruleset down.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@config_option
def remove(yes: bool, config_path: Path) -> None:
    """Take the perimeter down: every service is then as open as the rest of the firewall leaves it.

    A running firewall process takes it down and leaves it so until `perimeter apply`, or until it is started again.

    \b
    Example:
      spa-server perimeter remove --yes
    """
    from spa_server.keeper import owner

    need_root("removing the ruleset")
    if not yes:
        click.confirm("Every protected port becomes reachable. Take the perimeter down?", abort=True)
    with plain_errors(), _removal_recorded(config_path):
        removed = owner.remove(_folder(config_path))
    click.echo("the perimeter is down" if removed else "there was no perimeter")


@perimeter.command(epilog=EXIT_CODES, short_help="Keep what `apply --confirm` put up.")
@config_option
def confirm(config_path: Path) -> None:
    """Keep what `perimeter apply --confirm` put up, without waiting for a knock.

    \b
    Example:
      spa-server perimeter confirm
    """
    from spa_server.keeper import guard, owner

    need_root("confirming")
    with plain_errors():
        folder = _folder(config_path)
        try:
            confirmed = owner.confirm(folder)
        except owner.NoKeeper:
            confirmed = False
        confirmed = guard.confirm(folder) or confirmed
    if not confirmed:
        raise Stop(Exit.REFUSED, "nothing is on trial")
    click.echo("confirmed: the perimeter stays as it is")


@perimeter.command(epilog=EXIT_CODES, short_help="Put it up and keep it so (what the unit starts).")
@click.option("-v", "--verbose", is_flag=True, help="Log more.")
@click.option("--unowned", is_flag=True, hidden=True, help="Watch the table, as before Linux 6.9.")
@log_format_option
@config_option
def keep(verbose: bool, unowned: bool, log_format: str, config_path: Path) -> None:
    """Put the perimeter up and keep it up in the foreground until SIGTERM; SIGHUP applies the configuration anew.

    This is the firewall process: it opens what `spa-server run`, started as the user of server.user, asks for. It runs
    as root, or as any user that has CAP_NET_ADMIN. Nobody else can change the perimeter while it runs, nor flush it
    away; on Linux before 6.9 changes by others are undone at once. When it ends the perimeter stays closed.

    \b
    Example:
      spa-server perimeter keep --config /etc/spa/server.toml
    """
    from spa_server import notify, privilege
    from spa_server.keeper.applied import starting_config
    from spa_server.keeper.kept import STORED_AS
    from spa_server.keeper.loop import Keeper
    from spa_server.tell.log import LogFormat, start_logging

    start_logging(verbose=verbose, form=LogFormat(log_format))
    stored = notify.stored().get(STORED_AS, [])
    with plain_errors():
        config = starting_config(config_path)
        keeper = Keeper(config_path, config, own=not unowned, stored=stored[-1] if stored else None)
        privilege.keep_only_net_admin()
    keeper.run()


def _removal_recorded(config_path: Path) -> AbstractContextManager[None]:
    """On record, unless the trail cannot be written, or the configuration is what is wrong and names none.

    Root, whom the perimeter may have locked out, takes it down from the console whatever state the host is in.
    """
    from spa_server.commands.recording import Edit, recorded
    from spa_server.tell.event_types import PERIMETER_REMOVED

    try:
        config = load(config_path)
    except ConfigError as error:
        click.echo(f"spa-server: warning: this is not recorded: {error}", err=True)
        return nullcontext()
    return recorded(config, Edit(PERIMETER_REMOVED, "take the perimeter down", gives=False))


def _folder(config_path: Path) -> Path:
    """Where the firewall process listens, also where the configuration is wrong elsewhere. Raises ConfigError."""
    try:
        return load(config_path).perimeter_folder
    except ConfigError:
        path = control_socket_of(config_path) or (Path(DEFAULT_CONTROL_SOCKET) if config_path == DEFAULT_PATH else None)
        if path is None:
            raise
        return path.parent / "perimeter"
