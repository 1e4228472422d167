"""`spa-server why`: the reason of each recent refusal, in a sentence."""

from __future__ import annotations

import json
from ipaddress import ip_address
from pathlib import Path

import click

from spa_protocol.refusal import Refusal
from spa_server.commands.completion import device_labels
from spa_server.commands.exits import EXIT_CODES, Exit, Stop, plain_errors
from spa_server.commands.options import config_option, json_option
from spa_server.commands.state import opened_store
from spa_server.lease_label import is_lease_label
from spa_server.remember.refusals import RefusalRing, Refused
from spa_server.remember.registry import Registry
from spa_server.service import Address
from spa_server.tell.table import table, utc


@click.command(epilog=EXIT_CODES)
@click.argument("who", metavar="[DEVICE|ADDRESS]", required=False, shell_complete=device_labels)
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1, 1000), help="Most refusals to show.")
@json_option
@config_option
def why(who: str | None, limit: int, as_json: bool, config_path: Path) -> None:
    """Why a device or an address was refused lately, newest first.

    Only knocks that passed the kernel's gate appear, each under the device whose tag it bore. Strangers have no such
    tag: they are numbers in `spa-server status`, nothing more.

    \b
    Examples:
      spa-server why alice-laptop
      spa-server why alice-laptop+ci
      spa-server why 192.0.2.7
    """
    label, address = _target(who)
    with plain_errors(), opened_store(config_path) as (_, store):
        refused = RefusalRing(store).recent(label, address, limit)
        unknown = label is not None and not refused and Registry(store).device(label.partition("+")[0]) is None
    if as_json:
        click.echo(json.dumps([_as_json(item) for item in refused]))
    elif refused:
        rows = [(utc(item.time_ms / 1000), item.label or "-", item.source, sentence(item)) for item in refused]
        click.echo(table(("TIME", "DEVICE", "SOURCE", "REASON"), rows))
    elif unknown:
        raise Stop(
            Exit.REFUSED, f"there is no device {label} and none of that name was refused; see: spa-server device list"
        )
    else:
        click.echo(f"no refusal of {who} is on record" if who else "no refusal is on record")
        click.echo(
            "A knock that is not on record never passed the kernel's gate: another clock (over a day off), another "
            "server's key, a lost datagram, or a firewall on the way.",
            err=True,
        )


def sentence(item: Refused) -> str:
    """The reason as people read it."""
    try:
        return Refusal[item.reason].sentence(item.about, item.skew_ms)
    except KeyError:
        return item.reason


def _target(who: str | None) -> tuple[str | None, Address | None]:
    if who is None:
        return None, None
    try:
        return None, ip_address(who)
    except ValueError:
        if not is_lease_label(who):
            sentence = f"{who!r} is neither a device's label, nor LABEL+DELEGATE, nor an IP address"
            raise Stop(Exit.USAGE, sentence) from None
        return who, None


def _as_json(item: Refused) -> dict[str, object]:
    return {
        "time_ms": item.time_ms,
        "device": item.label,
        "source": str(item.source),
        "reason": item.reason.lower(),
        "about": item.about,
        "skew_ms": item.skew_ms,
        "sentence": sentence(item),
    }
