"""`spa-server install` and `spa-server uninstall`: the server as a service of systemd."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable
from pathlib import Path

import click

from spa_server.commands.exits import EXIT_CODES, Exit, Stop, need_root, plain_errors
from spa_server.commands.options import json_option
from spa_server.commands.setup import make_server
from spa_server.config import DEFAULT_CONTROL_SOCKET, DEFAULT_KNOCK_PORT, DEFAULT_STATE_FOLDER, load
from spa_server.enforce import perimeter as kernel
from spa_server.enforce import sessions
from spa_server.enforce.ruleset import HOLD_TABLES, TABLE
from spa_server.enforce.table import TableSocket
from spa_server.install import layout
from spa_server.install.plan import Served, install_steps, uninstall_steps
from spa_server.install.program import check_place, running_program
from spa_server.install.step import Outcome, Step, StepFailed, find

dry_run_option = click.option("--dry-run", is_flag=True, help="Print every step and change nothing.")


@click.command(epilog=EXIT_CODES)
@click.option(
    "--address",
    "addresses",
    multiple=True,
    help="How clients reach this host, for a new configuration: a name or an IP address; up to four. Default: this "
    "host's full name.",
)
@click.option("--start/--no-start", default=True, show_default=True, help="Start the service, not only at boot.")
@click.option(
    "--program",
    type=click.Path(path_type=Path),
    help="What the units start: the absolute path of spa-server. Default: the one that is running.",
)
@click.option("--yes", is_flag=True, help="Do not ask, even if this closes the port of your own ssh session.")
@dry_run_option
@json_option
def install(
    addresses: tuple[str, ...], start: bool, program: Path | None, yes: bool, dry_run: bool, as_json: bool
) -> None:
    """Make this host close its ports at boot and serve knocks: units, users, folders, configuration and perimeter.

    What is there already is left alone, so that it can be run again, as after an upgrade.

    \b
    Examples:
      spa-server install --address gw.example.org --dry-run
      spa-server install --address gw.example.org
    """
    need_root("installing a service")
    for needed in ("systemctl", "nft"):
        if find(needed) is None:
            raise Stop(Exit.FAULT, f"this host has no {needed}; install systemd and nftables first")
    with plain_errors():
        try:
            executable = Path(os.path.realpath(program)) if program else running_program()
            check_place(executable)
        except StepFailed as error:
            raise Stop(Exit.CONFIGURATION, str(error)) from error
        _check_configuration()
        if not (yes or dry_run):
            _ask_about_own_session()
        steps = install_steps(
            executable, lambda: make_server(addresses, Path(DEFAULT_STATE_FOLDER)), _served, start=start
        )
        _carry_out(steps, dry_run=dry_run, as_json=as_json)
    if not (dry_run or as_json):
        click.echo("next  spa-server status, then spa-server invite LABEL --user USER --role ROLE")


@click.command(epilog=EXIT_CODES)
@click.option("--yes", is_flag=True, help="Do not ask whether to go on.")
@click.option(
    "--keep-state/--purge",
    "keep_state",
    default=None,
    help="Whether the configuration, the keys and the registry stay. Asked for at a terminal; kept otherwise.",
)
@dry_run_option
@json_option
def uninstall(yes: bool, keep_state: bool | None, dry_run: bool, as_json: bool) -> None:
    """Take the service off this host: its ports are then as open as the rest of the firewall leaves them.

    The program itself stays; remove it the way it was installed.

    \b
    Examples:
      spa-server uninstall --dry-run
      spa-server uninstall --yes --keep-state
    """
    need_root("removing a service")
    if not (yes or dry_run):
        click.confirm("Every protected port becomes reachable. Take the service off this host?", abort=True)
    if keep_state is None and not (yes or dry_run):
        keep_state = not click.confirm(
            "Remove the configuration, the server's key and the registry of devices, too? Nothing brings them back."
        )
    with plain_errors():
        down = Step("take the perimeter down", _no_table_stands, kernel.remove)
        _carry_out(uninstall_steps(down, purge=keep_state is False), dry_run=dry_run, as_json=as_json)


def _no_table_stands() -> bool:
    for name in (TABLE, *HOLD_TABLES):
        with TableSocket(name) as nft:
            if nft.state() is not None:
                return False
    return True


def _check_configuration() -> None:
    """An existing configuration has to be good, and to name what the units serve."""
    if not os.path.lexists(layout.CONFIG):
        return
    config = load(layout.CONFIG)
    for key, value, served in (
        ("state_folder", str(config.state_folder), DEFAULT_STATE_FOLDER),
        ("control_socket", str(config.control_socket), DEFAULT_CONTROL_SOCKET),
        ("user", config.user, layout.SERVER_USER),
    ):
        if value != served:
            raise Stop(
                Exit.CONFIGURATION,
                f"{layout.CONFIG}: {key} is {value}, and the service can only have {served}: take the line out, and "
                "move what is there",
            )


def _ask_about_own_session() -> None:
    """Make sure that nobody closes the way they came in by without knowing it. A new configuration closes tcp/8443."""
    closed = sessions.closed_by(load(layout.CONFIG).services) if layout.CONFIG.exists() else ()
    for session in closed:
        click.echo(f"spa-server: warning: {session}", err=True)
    if closed and not sys.stdin.isatty():
        raise Stop(
            Exit.REFUSED, "this would close the port of a live ssh session; enrol a device first, then add --yes"
        )
    if closed:
        click.confirm("New ssh sessions will need a knock, and this one may be cut. Go on?", abort=True)


def _served() -> Served:
    if not layout.CONFIG.exists():
        return Served((DEFAULT_KNOCK_PORT,))
    config = load(layout.CONFIG)
    return Served(config.knock_ports, tells=bool(config.approval.hook or config.approval.webhook))


def _carry_out(steps: Iterable[Step], *, dry_run: bool, as_json: bool) -> None:
    """Do the steps, each with a line as it is done; as JSON all at the end."""
    outcomes: list[tuple[str, Outcome]] = []
    for step in steps:
        try:
            outcome = step.carry_out(dry_run=dry_run)
        except StepFailed as error:
            raise Stop(Exit.FAULT, f"{error}\nstopped at: {step.what}; run it again when that is mended") from error
        outcomes.append((step.what, outcome))
        if not as_json:
            click.echo(f"{outcome:9}  {step.what}")
    if as_json:
        click.echo(json.dumps([{"step": what, "outcome": outcome} for what, outcome in outcomes]))
