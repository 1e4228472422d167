"""`spa-server device`: the registry of who may knock."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TextIO

import click

from spa_protocol.keys import KEY_SIZE
from spa_protocol.openssh import fingerprint
from spa_protocol.place import Place
from spa_protocol.provision import Provision
from spa_protocol.tag import TagKind
from spa_protocol.text import BadText, TextKind, decode_key
from spa_server.commands.completion import device_labels
from spa_server.commands.described import describe, keys_by_device, keys_of, row
from spa_server.commands.device_key import read_device_key
from spa_server.commands.exits import EXIT_CODES, Exit, Stop, need_root, plain_errors
from spa_server.commands.options import config_option, json_option
from spa_server.commands.recording import Edit, recorded
from spa_server.commands.shut_out import shut_out
from spa_server.commands.state import now_s, opened_store, own_identity, registry_to_edit, store_to_edit
from spa_server.config import load
from spa_server.remember.registry import Registry
from spa_server.remember.sessions import spare
from spa_server.remember.sources import SourcesOfDevices
from spa_server.tell.event_types import (
    DEVICE_ADDED,
    DEVICE_DISABLED,
    DEVICE_ENABLED,
    DEVICE_REMOVED,
    DEVICE_ROLES,
    DEVICES_EXPORTED,
    DEVICES_IMPORTED,
)
from spa_server.tell.table import table


@click.group(epilog=EXIT_CODES)
def device() -> None:
    """The devices that may knock. A running server knows of a change before the command returns."""


@device.command(epilog=EXIT_CODES, short_help="Register a device whose key is known.")
@click.argument("label")
@click.option("--user", required=True, help="Who uses the device.")
@click.option("--role", "roles", multiple=True, required=True, help="A role; may be repeated.")
@click.option(
    "--key",
    "key_text",
    required=True,
    metavar="KEY",
    help="Its public key: a line as in authorized_keys, spa-device1..., or @FILE with either.",
)
@click.option(
    "--gate-secret", help="The gate secret, SPA-GATE-SECRET-1...; '-' reads it from standard input. Default: a new one."
)
@click.option("--address", "addresses", multiple=True, help="Tell the device this host instead of server.addresses.")
@json_option
@config_option
def add(
    label: str,
    user: str,
    roles: tuple[str, ...],
    key_text: str,
    gate_secret: str | None,
    addresses: tuple[str, ...],
    as_json: bool,
    config_path: Path,
) -> None:
    """Register a device whose key is known already: a key of OpenSSH's, or for provisioning by other tools.

    It prints one line, a secret, for `spa-client join -` on the device. Ed25519 keys can knock, and those
    of security keys (ed25519-sk). To enrol a laptop, `spa-server invite` is simpler: nothing is copied but the invite.

    \b
    Examples:
      spa-server device add build-1 --user ci --role admin --key 'ssh-ed25519 AAAA... ci@build-1'
      spa-server device add alice-key --user alice --role admin --key @alice.pub
      spa-server device add build-1 --user ci --role admin --key spa-device1...
    """
    if gate_secret == "-":  # noqa: S105 - the usual sign for standard input
        gate_secret = sys.stdin.readline()
    try:
        key, ignored = read_device_key(key_text)
        secret = decode_key(TextKind.GATE_SECRET, gate_secret) if gate_secret else os.urandom(KEY_SIZE)
    except BadText as error:
        raise Stop(Exit.USAGE, str(error)) from error
    edit = Edit(
        DEVICE_ADDED, f"add device {label} for {user}: {', '.join(sorted(roles))}", gives=True, device=label, user=user
    )
    with plain_errors():
        identity = own_identity(load(config_path))
        with registry_to_edit(config_path, edit) as (config, registry):
            place = Place(config.knock_ports, addresses or config.addresses)
            provision = Provision(label, key, None if gate_secret else secret, identity.public, place)
            text = _provision_text(provision)
            registry.add_device(label, user, roles, key.to_bytes(), secret, now_s())
    if ignored:
        click.echo(f"spa-server: not honoured, being about SSH sessions: {', '.join(ignored)}", err=True)
    if not as_json:
        click.echo(f"added {label}, with the key {fingerprint(key)}. On the device:", err=True)
        click.echo(
            "  spa-client join - --key FILE        (or --agent; and there the line below, which is a secret)", err=True
        )
    click.echo(text)


def _provision_text(provision: Provision) -> str:
    try:
        return provision.text()
    except ValueError as error:
        raise Stop(Exit.USAGE, f"{error}; see --address") from error


@device.command("list", epilog=EXIT_CODES, short_help="Every device.")
@json_option
@config_option
def list_(as_json: bool, config_path: Path) -> None:
    """Every device.

    \b
    Example:
      spa-server device list --json
    """
    with plain_errors(), opened_store(config_path) as (_, store):
        registry = Registry(store)
        keys = keys_by_device(registry)
        described = [describe(item, keys.get(item.id, [])) for item in registry.devices()]
    if as_json:
        click.echo(json.dumps(described))
    elif not described:
        click.echo("no device yet; make an invite: spa-server invite LABEL --user USER --role ROLE")
    else:
        head = ("DEVICE", "USER", "ROLES", "STATE", "KEYS", "ENROLLED")
        click.echo(table(head, [row(item) for item in described]))


@device.command(epilog=EXIT_CODES, short_help="One device and its public keys.")
@click.argument("label", shell_complete=device_labels)
@json_option
@config_option
def show(label: str, as_json: bool, config_path: Path) -> None:
    """One device and its public keys; never a secret.

    \b
    Example:
      spa-server device show alice-laptop
    """
    with plain_errors(), opened_store(config_path) as (_, store):
        registry = Registry(store)
        found = registry.device(label)
        if found is None:
            raise Stop(Exit.REFUSED, f"there is no device {label}; see: spa-server device list")
        described = describe(found, keys_by_device(registry).get(found.id, []))
    if as_json:
        click.echo(json.dumps(described))
        return
    for name in ("label", "user", "roles", "enabled", "enrolled"):
        value = described[name]
        click.echo(f"{name:<9} {', '.join(value) if isinstance(value, list) else value}")
    for key in keys_of(described):
        until = f"   works until {key['retires']}" if key["retires"] else ""
        click.echo(f"key       {key['public']}{until}")
        click.echo(f"          {key['openssh']}   {key['fingerprint']}")


@device.command(epilog=EXIT_CODES, short_help="Keep a device out; end what it has open.")
@click.argument("label", shell_complete=device_labels)
@click.option("--keep-leases", is_flag=True, help="Let what is open now run to its end.")
@config_option
def disable(label: str, keep_leases: bool, config_path: Path) -> None:
    """Keep a device out, and end its leases and connections; it is told so when it knocks. Its invites are void.

    Neighbours who share one of its addresses, behind one NAT, are cut off too, and knock again.

    \b
    Example:
      spa-server device disable alice-laptop
    """
    with plain_errors():
        edit = Edit(DEVICE_DISABLED, f"disable device {label}", gives=False, device=label)
        with store_to_edit(config_path, edit) as (config, store):
            if keep_leases:
                spare(store, label)
            Registry(store).set_enabled(label, False)
            sources = SourcesOfDevices(store).of(label)
        ended = "its leases stay" if keep_leases else shut_out(config, label, sources, edit)
    click.echo(f"disabled {label}; {ended}")


@device.command(epilog=EXIT_CODES, short_help="Let a disabled device in again.")
@click.argument("label", shell_complete=device_labels)
@config_option
def enable(label: str, config_path: Path) -> None:
    """Let a disabled device in again.

    \b
    Example:
      spa-server device enable alice-laptop
    """
    edit = Edit(DEVICE_ENABLED, f"enable device {label}", gives=True, device=label)
    with plain_errors(), registry_to_edit(config_path, edit) as (_, registry):
        registry.set_enabled(label, True)
    click.echo(f"enabled {label}")


@device.command(epilog=EXIT_CODES, short_help="Give a device other roles.")
@click.argument("label", shell_complete=device_labels)
@click.argument("roles", nargs=-1, required=True)
@click.option("--add", "how", flag_value="add", help="Besides those that it has.")
@click.option("--remove", "how", flag_value="remove", help="Take these away instead.")
@config_option
def roles(label: str, roles: tuple[str, ...], how: str | None, config_path: Path) -> None:
    """Give a device these roles instead of those that it has. Where one is taken away, what it has open is ended.

    Its unused invites, which are for the old roles, are void.

    \b
    Examples:
      spa-server device roles alice-laptop admin dev
      spa-server device roles alice-laptop approver --add
      spa-server device roles alice-laptop admin --remove
    """
    with plain_errors():
        with opened_store(config_path) as (_, store):
            found = Registry(store).device(label)
        if found is None:
            raise Stop(Exit.REFUSED, f"there is no device {label}; see: spa-server device list")
        named = frozenset(roles)
        after = {"add": found.roles | named, "remove": found.roles - named}.get(how or "", named)
        message = f"give device {label} the roles {', '.join(sorted(after)) or 'none'}"
        edit = Edit(DEVICE_ROLES, message, gives=bool(after - found.roles), device=label, user=found.user)
        with store_to_edit(config_path, edit) as (config, store):
            changed = Registry(store).set_roles(label, after)
            sources = SourcesOfDevices(store).of(label)
        ended = f"; {shut_out(config, label, sources, edit)}" if found.roles - after else ""
    click.echo(f"{label}: {', '.join(sorted(changed.roles))}{ended}")


@device.command(epilog=EXIT_CODES, short_help="Forget a device; end what it has open.")
@click.argument("label", shell_complete=device_labels)
@click.option("--keep-leases", is_flag=True, help="Let what is open now run to its end.")
@config_option
def remove(label: str, keep_leases: bool, config_path: Path) -> None:
    """Forget a device and its invites, and end its leases and connections.

    Neighbours who share one of its addresses, behind one NAT, are cut off too, and knock again.

    \b
    Example:
      spa-server device remove alice-laptop
    """
    with plain_errors():
        edit = Edit(DEVICE_REMOVED, f"remove device {label}", gives=False, device=label)
        with store_to_edit(config_path, edit) as (config, store):
            if keep_leases:
                spare(store, label)
            Registry(store).remove(label)
            sources = SourcesOfDevices(store).of(label)
        ended = "its leases stay" if keep_leases else shut_out(config, label, sources, edit)
    click.echo(f"removed {label}; {ended}")


@device.command(epilog=EXIT_CODES, short_help="Print every device, secrets included.")
@config_option
def export(config_path: Path) -> None:
    """Print every device as JSON, gate secrets included: keep it as a secret.

    \b
    Example:
      (umask 077; spa-server device export > devices.json)
    """
    need_root("printing secrets")
    edit = Edit(DEVICES_EXPORTED, "export every device, gate secrets included", gives=True)
    with plain_errors(), recorded(load(config_path), edit), opened_store(config_path) as (_, store):
        records = Registry(store).export()
    if sys.stdout.isatty():
        click.echo("spa-server: this shows gate secrets on the screen", err=True)
    click.echo(json.dumps(records, indent=1))


@device.command("import", epilog=EXIT_CODES, short_help="Add every device of an export.")
@click.argument("file", type=click.File("r"))
@config_option
def import_(file: TextIO, config_path: Path) -> None:
    """Add every device of an export, or none if one cannot be added.

    The devices can knock from the next minutes on: not within windows they may have used elsewhere.

    \b
    Example:
      spa-server device import devices.json
    """
    try:
        records = json.load(file)
    except ValueError as error:
        raise Stop(Exit.USAGE, f"{file.name} is not JSON: {error}") from error
    edit = Edit(DEVICES_IMPORTED, f"import the devices of {file.name}", gives=True)
    with plain_errors(), registry_to_edit(config_path, edit) as (config, registry):
        first_window = TagKind.KNOCK.window((now_s() + config.max_skew_s) * 1000) + 1
        devices = registry.import_(records, first_window)
    click.echo(f"imported {len(devices)} devices")
