"""`spa-server invite`: the one line that enrols a device."""

from __future__ import annotations

import json
import os
from pathlib import Path

import click

from spa_protocol import invite as invite_text
from spa_protocol.keys import KEY_SIZE, exchange_public
from spa_server.commands.completion import device_labels
from spa_server.commands.duration import Duration
from spa_server.commands.exits import EXIT_CODES, Exit, Stop, plain_errors
from spa_server.commands.options import config_option, json_option
from spa_server.commands.recording import Edit
from spa_server.commands.state import now_s, own_identity, registry_to_edit
from spa_server.config import load
from spa_server.remember.registry import Registry
from spa_server.tell.event_types import INVITED, INVITES_WITHDRAWN
from spa_server.tell.table import utc


@click.command(epilog=EXIT_CODES)
@click.argument("label", shell_complete=device_labels)
@click.option("--user", metavar="U", help="Who will use the device. An existing device keeps its user.")
@click.option("--role", "roles", metavar="R", multiple=True, help="A role the device gets; may be repeated.")
@click.option("--expires", type=Duration(), default="1h", show_default=True, help="How long the invite can be used.")
@click.option(
    "--overlap",
    type=Duration(),
    default="1d",
    show_default=True,
    help="For a device that exists: how long its old key still works after the new one is enrolled.",
)
@click.option("--address", "addresses", multiple=True, help="Tell clients this host instead of server.addresses.")
@click.option("--cancel", is_flag=True, help="Instead, make every unused invite for LABEL void.")
@click.option("--qr", is_flag=True, help="Also draw it as a QR code on the terminal.")
@json_option
@config_option
def invite(
    label: str,
    user: str | None,
    roles: tuple[str, ...],
    expires: int,
    overlap: int,
    addresses: tuple[str, ...],
    cancel: bool,
    qr: bool,
    as_json: bool,
    config_path: Path,
) -> None:
    """Make a one-time invite for the device LABEL.

    Whoever has the text first can enrol with it, once, until it expires: send it over a channel you trust. For a label
    that exists it rotates the device's key: the old key works on for the overlap, then no more.

    \b
    Examples:
      spa-server invite alice-laptop --user alice --role admin
      spa-server invite alice-laptop --overlap 2h --qr
      spa-server invite alice-laptop --cancel
    """
    if cancel:
        _cancel(label, config_path)
        return
    with plain_errors():
        made_s = now_s()
        identity = own_identity(load(config_path))
        edit = Edit(INVITED, f"invite {label}", gives=True, device=label, user=user or "")
        with registry_to_edit(config_path, edit) as (config, registry):
            user, roles = _who(registry, label, user, roles)
            secret, exchange_key = os.urandom(KEY_SIZE), os.urandom(KEY_SIZE)
            text = _text(
                secret,
                identity.public,
                exchange_key,
                made_s + expires,
                config.knock_ports,
                addresses or config.addresses,
            )
            registry.add_invite(label, user, roles, secret, exchange_key, made_s, made_s + expires, overlap)
    if as_json:
        click.echo(
            json.dumps(
                {"label": label, "user": user, "roles": sorted(roles), "invite": text, "expires_s": made_s + expires}
            )
        )
        return
    click.echo(f"Invite for {label} ({user}); works once, until {utc(made_s + expires)}. On the device:", err=True)
    click.echo("  spa-client join INVITE        (INVITE is the line below)", err=True)
    click.echo(text)
    if qr:
        import segno

        segno.make(text.upper(), error="l").terminal(compact=True)


def _cancel(label: str, config_path: Path) -> None:
    edit = Edit(INVITES_WITHDRAWN, f"withdraw the unused invites for {label}", gives=False, device=label)
    with plain_errors(), registry_to_edit(config_path, edit) as (_, registry):
        count = registry.withdraw_invites(label)
    if count == 0:
        raise Stop(Exit.REFUSED, f"there is no unused invite for {label}")
    click.echo(f"{count} invite{'' if count == 1 else 's'} for {label} void")


def _who(registry: Registry, label: str, user: str | None, roles: tuple[str, ...]) -> tuple[str, tuple[str, ...]]:
    known = registry.device(label)
    user = user or (known.user if known else None)
    roles = roles or (tuple(sorted(known.roles)) if known else ())
    if user is None or not roles:
        raise Stop(Exit.USAGE, f"{label} is a new device: say whose and with what role: --user NAME --role ROLE")
    return user, roles


def _text(
    secret: bytes, identity: bytes, exchange_key: bytes, expires_s: int, ports: tuple[int, ...], hosts: tuple[str, ...]
) -> str:
    try:
        return invite_text.Invite(secret, identity, exchange_public(exchange_key), expires_s, ports, hosts).text()
    except ValueError as error:
        raise Stop(Exit.USAGE, f"{error}; see --address") from error
