"""`spa-server user`: people, whatever their devices: kept out or let in, and their second factor."""

from __future__ import annotations

import json
import os
import sys
from base64 import b32encode
from dataclasses import asdict
from pathlib import Path

import click

from spa_server.commands.completion import user_names
from spa_server.commands.exits import EXIT_CODES, Exit, Stop, need_root, plain_errors
from spa_server.commands.options import config_option, json_option
from spa_server.commands.recording import Edit
from spa_server.commands.shut_out import shut_out
from spa_server.commands.state import now_s, opened_store, store_to_edit
from spa_server.remember import one_time
from spa_server.remember.sources import SourcesOfDevices
from spa_server.remember.users import User, Users
from spa_server.tell.event_types import SECOND_FACTOR_REMOVED, SECOND_FACTOR_SET, USER_DISABLED, USER_ENABLED
from spa_server.tell.table import table


@click.group(epilog=EXIT_CODES)
def user() -> None:
    """The people whose devices may knock. A running server knows of a change before the command returns."""


@user.command("list", epilog=EXIT_CODES, short_help="Everybody who has a device.")
@json_option
@config_option
def list_(as_json: bool, config_path: Path) -> None:
    """Everybody who has a device, or of whom something is said.

    \b
    Example:
      spa-server user list --json
    """
    with plain_errors(), opened_store(config_path) as (_, store):
        found = Users(store).users()
    if as_json:
        click.echo(json.dumps([asdict(each) for each in found]))
    elif not found:
        click.echo("nobody yet; make an invite: spa-server invite LABEL --user USER --role ROLE")
    else:
        click.echo(table(("USER", "STATE", "SECOND FACTOR", "DEVICES"), [_row(each) for each in found]))


@user.command(epilog=EXIT_CODES, short_help="One user and their devices.")
@click.argument("name", shell_complete=user_names)
@json_option
@config_option
def show(name: str, as_json: bool, config_path: Path) -> None:
    """One user and their devices; never a secret.

    \b
    Example:
      spa-server user show alice
    """
    with plain_errors(), opened_store(config_path) as (_, store):
        found = Users(store).user(name)
    if as_json:
        click.echo(json.dumps(asdict(found)))
        return
    for title, value in zip(("user", "state", "second factor", "devices"), _row(found), strict=True):
        click.echo(f"{title:<14} {value}")


@user.command(epilog=EXIT_CODES, short_help="Keep a user out; end what their devices have open.")
@click.argument("name", shell_complete=user_names)
@config_option
def disable(name: str, config_path: Path) -> None:
    """Keep a user out with all of their devices, and end what those have open. Their unused invites are void.

    Neighbours who share an address with them, behind one NAT, are cut off too, and knock again.

    \b
    Example:
      spa-server user disable alice
    """
    with plain_errors():
        edit = Edit(USER_DISABLED, f"disable user {name}", gives=False, user=name)
        with store_to_edit(config_path, edit) as (config, store):
            users = Users(store)
            users.set_enabled(name, False)
            labels = users.user(name).devices
            sources = {label: SourcesOfDevices(store).of(label) for label in labels}
        click.echo(f"disabled {name}")
        for label in labels:
            click.echo(f"{label}: {shut_out(config, label, sources[label], edit)}")


@user.command(epilog=EXIT_CODES, short_help="Let a disabled user in again.")
@click.argument("name", shell_complete=user_names)
@config_option
def enable(name: str, config_path: Path) -> None:
    """Let a disabled user in again, with those of their devices that are not disabled themselves.

    \b
    Example:
      spa-server user enable alice
    """
    edit = Edit(USER_ENABLED, f"enable user {name}", gives=True, user=name)
    with plain_errors(), store_to_edit(config_path, edit) as (_, store):
        Users(store).set_enabled(name, True)
    click.echo(f"enabled {name}")


@user.command(epilog=EXIT_CODES, short_help="Give a user one-time codes as a second factor.")
@click.argument("name", shell_complete=user_names)
@click.option("--remove", is_flag=True, help="Take no codes of this user any more.")
@click.option("--no-check", is_flag=True, help="Do not ask for a code to see that it works.")
@config_option
def totp(name: str, remove: bool, no_check: bool, config_path: Path) -> None:
    """Make a secret for an authenticator app, in the place of any other; a code of it is then asked for, to be sure.

    It is shown once, as a picture at a terminal, and as text. When the policy or the risk asks for a second factor, the
    user's client asks for a code.

    \b
    Examples:
      spa-server user totp alice
      spa-server user totp alice --remove
    """
    need_root("changing a second factor")
    if remove:
        edit = Edit(SECOND_FACTOR_REMOVED, f"take no codes of {name} any more", gives=False, user=name)
        with plain_errors(), store_to_edit(config_path, edit) as (_, store):
            Users(store).user(name)
            Users(store).set_totp(name, None)
        click.echo(f"no codes are taken of {name} any more")
        return
    secret = os.urandom(one_time.SECRET_BYTES)
    with plain_errors(), opened_store(config_path) as (config, store):
        Users(store).user(name)
    _show(secret, name, config.addresses[0])
    used_step = -1 if no_check else _asked_for(secret, name)
    edit = Edit(SECOND_FACTOR_SET, f"take one-time codes of {name}", gives=True, user=name)
    with plain_errors(), store_to_edit(config_path, edit) as (_, store):
        Users(store).set_totp(name, secret, used_step)
    click.echo(f"codes are taken of {name} from now on", err=True)


def _show(secret: bytes, name: str, issuer: str) -> None:
    text = one_time.uri(secret, name, issuer)
    if sys.stdout.isatty():
        import segno

        segno.make(text, error="l").terminal(compact=True)
    click.echo(text)
    click.echo(f"to be typed: {b32encode(secret).decode()}   (time-based, 6 digits, 30 seconds)", err=True)


def _asked_for(secret: bytes, name: str) -> int:
    """Ask for a code of it; the step of time that it is of. Raises Stop where it is none."""
    code = click.prompt("A code that it shows now", err=True)
    step = one_time.step_of(secret, str(code).strip(), now_s(), -1)
    if step is None:
        said = f"that is no code of this secret now, so nothing was changed for {name}; are both clocks right?"
        raise Stop(Exit.REFUSED, said)
    return step


def _row(each: User) -> tuple[str, str, str, str]:
    factor = "one-time codes" if each.has_totp else "none"
    return each.name, "enabled" if each.enabled else "disabled", factor, ", ".join(each.devices) or "none"
