"""`spa-server lease`: who is inside now, and putting them out."""

from __future__ import annotations

import json
from ipaddress import ip_address
from pathlib import Path

import click

from spa_server.commands.completion import device_labels
from spa_server.commands.exits import EXIT_CODES, Exit, Stop, need_root, plain_errors
from spa_server.commands.options import config_option, json_option
from spa_server.commands.recording import Edit, recorded
from spa_server.commands.shut_out import end_leases, told
from spa_server.commands.state import opened_store, tell_server
from spa_server.config import load
from spa_server.enforce.leases import Lease, list_leases
from spa_server.enforce.nftset import NftSocket
from spa_server.lease_label import is_lease_label
from spa_server.remember.sources import SourcesOfDevices
from spa_server.service import Address
from spa_server.tell.event_types import REVOKED
from spa_server.tell.table import table


@click.group(epilog=EXIT_CODES)
def lease() -> None:
    """Show or end the leases that are open in the kernel; works without a running server too."""


@lease.command("list", epilog=EXIT_CODES, short_help="Who is inside now.")
@json_option
@config_option
def list_(as_json: bool, config_path: Path) -> None:
    """Who is inside now, with seconds left.

    \b
    Example:
      spa-server lease list --json
    """
    need_root("reading the leases")
    with plain_errors():
        load(config_path)
        with NftSocket() as nft:
            leases = list_leases(nft)
    if as_json:
        click.echo(json.dumps([_as_json(item) for item in leases]))
        return
    if not leases:
        click.echo("nobody is inside")
        return
    rows = [
        (
            item.label,
            item.service or "-",
            item.source,
            f"{item.destination}",
            f"{item.protocol}/{item.port}",
            f"{item.left_ms / 1000:.0f}",
        )
        for item in leases
    ]
    click.echo(table(("DEVICE", "SERVICE", "SOURCE", "TO", "PORT", "SECONDS LEFT"), rows))


@lease.command("revoke", epilog=EXIT_CODES, short_help="End the leases of a device or an address.")
@click.argument("who", metavar="DEVICE|ADDRESS", shell_complete=device_labels)
@config_option
def revoke_(who: str, config_path: Path) -> None:
    """End every lease of a device (its delegates' too), of one delegate (LABEL+NAME), or of a source address, live
    connections included.

    For a device that means every address it was let in from: neighbours behind one NAT are cut off too, and knock
    again. It does not keep the device from knocking: for that, `spa-server device disable`.

    \b
    Examples:
      spa-server lease revoke alice-laptop
      spa-server lease revoke alice-laptop+ci
      spa-server lease revoke 192.0.2.7
    """
    need_root("ending a lease")
    address = _address(who)
    if address is None and not is_lease_label(who):
        raise Stop(Exit.USAGE, f"{who!r} is neither a device's label, nor LABEL+DELEGATE, nor an IP address")
    with plain_errors():
        config = load(config_path)
        label, sources = None if address else who, frozenset([address] if address else ())
        if label is not None:
            with opened_store(config_path) as (_, store):
                sources = frozenset(SourcesOfDevices(store).of(label))
        message = f"end what {who} has open"
        edit = Edit(REVOKED, message, gives=False, device=label or "", source=address, reason="operator")
        with recorded(config, edit):
            ended = end_leases(config, label, sources)
        tell_server(config)
    if not ended.leases and not ended.flows:
        raise Stop(Exit.REFUSED, f"{who} has nothing open; see: spa-server lease list")
    click.echo(f"{who}: {told(ended)}")


def _address(text: str) -> Address | None:
    try:
        return ip_address(text)
    except ValueError:
        return None


def _as_json(item: Lease) -> dict[str, object]:
    return {
        "device": item.label,
        "service": item.service,
        "source": str(item.source),
        "destination": str(item.destination),
        "protocol": item.protocol,
        "port": item.port,
        "left_ms": item.left_ms,
    }
