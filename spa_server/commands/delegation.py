"""`spa-server delegation`: what devices have delegated, and taking it back."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click

from spa_protocol.names import is_delegate_name
from spa_server.commands.completion import device_labels
from spa_server.commands.exits import EXIT_CODES, Exit, Stop, need_root, plain_errors
from spa_server.commands.options import config_option, json_option
from spa_server.commands.recording import Edit
from spa_server.commands.shut_out import shut_out
from spa_server.commands.state import now_s, opened_store, store_to_edit
from spa_server.lease_label import lease_label
from spa_server.remember.delegations import Delegations
from spa_server.remember.sources import SourcesOfDevices
from spa_server.tell.event_types import DELEGATION_REVOKED
from spa_server.tell.table import table, utc


@click.group(epilog=EXIT_CODES)
def delegation() -> None:
    """What devices have delegated: keys that may open some of a device's services for a while.

    A delegation needs nothing from the server: its certificate, signed by the device, travels in each of its knocks.
    """


@delegation.command("list", epilog=EXIT_CODES, short_help="Every delegation that was used.")
@click.argument("device", required=False, shell_complete=device_labels)
@json_option
@config_option
def list_(device: str | None, as_json: bool, config_path: Path) -> None:
    """Every delegation that was used, or those of one device. One that was never used is not known here.

    \b
    Examples:
      spa-server delegation list
      spa-server delegation list alice-laptop --json
    """
    with plain_errors(), opened_store(config_path) as (_, store):
        seen = Delegations(store).seen(device)
    if as_json:
        click.echo(json.dumps([asdict(each) for each in seen]))
        return
    if not seen:
        click.echo("no delegation was used yet")
        return
    now = now_s()
    rows = [
        (
            each.name,
            each.device,
            ", ".join(each.services),
            "revoked" if each.revoked else "expired" if each.expires_s <= now else f"until {utc(each.expires_s)}",
            utc(each.last_s),
        )
        for each in seen
    ]
    click.echo(table(("BY", "FOR", "SERVICES", "STATE", "LAST USED"), rows))


@delegation.command(epilog=EXIT_CODES, short_help="Take back what a device delegated.")
@click.argument("device", shell_complete=device_labels)
@click.argument("delegate", required=False)
@config_option
def revoke(device: str, delegate: str | None, config_path: Path) -> None:
    """Take back what DEVICE has delegated to DELEGATE, or to anybody, up to now, and end what is open by it.

    Neighbours who share one of its addresses, behind one NAT, are cut off too, and knock again. The device may delegate
    anew, with effect from when the greatest clock skew has passed (max_skew_s); to stop that, set server.delegate_slots
    to 0, or disable the device.

    \b
    Examples:
      spa-server delegation revoke alice-laptop ci
      spa-server delegation revoke alice-laptop
    """
    need_root("ending a delegation")
    if delegate is not None and not is_delegate_name(delegate):
        raise Stop(Exit.USAGE, f"{delegate!r} cannot name a delegate; see: spa-server delegation list")
    whom = delegate or "anybody"
    edit = Edit(DELEGATION_REVOKED, f"take back what {device} delegated to {whom}", gives=False, device=device)
    with plain_errors():
        with store_to_edit(config_path, edit) as (config, store):
            delegations = Delegations(store)
            # The clock of who issued it may be ahead of this one, by no more than is allowed.
            delegations.revoke(device, delegate or "", now_s() + config.max_skew_s)
            names = [delegate] if delegate else sorted({each.name for each in delegations.seen(device)})
            labels = [lease_label(device, name) for name in names]
            sources = {label: SourcesOfDevices(store).of(label) for label in labels}
        for label in labels:
            click.echo(f"{label}: {shut_out(config, label, sources[label], edit)}")
    click.echo(f"what {device} delegated to {whom} is void")
