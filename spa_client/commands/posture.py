"""`spa-client posture`."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import click

from spa_client.commands import EXIT_CODES
from spa_client.commands.completing import perimeter_names
from spa_client.commands.terminal import print_json
from spa_client.posture.collecting import INTERVAL_S
from spa_client.posture.telling import Telling
from spa_client.storage import Store

if TYPE_CHECKING:
    from spa_client.perimeter import Perimeter
    from spa_client.posture.cache import Looked
    from spa_client.posture.findings import Finding, Findings, Name, Number

WHY = {
    "disk_encrypted": "whoever finds the disk cannot read it",
    "screen_lock": "nobody sits down at it while you are away",
    "firewall": "others on its network do not reach it",
    "secure_boot": "it started what its maker signed",
    "patch_age_days": "known holes are closed soon",
    "uptime_s": "updates that want a restart have had one",
    "system": "a system that is too old shows",
}
"""Each fact that is told, and what a policy that asks for it wants to be sure of."""


@click.command("posture", epilog=EXIT_CODES, short_help="Show what a server is told of this device's health.")
@click.argument("name", required=False, shell_complete=perimeter_names)
@click.option("--send", type=click.Choice([each.value for each in Telling]), help="Choose what that server is told.")
@click.option("--fresh", is_flag=True, help="Look anew, and tell that from now on.")
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
def command(name: str | None, send: str | None, fresh: bool, as_json: bool) -> None:
    """Show what the perimeter NAME is told of this device's health, how it was found, and why it is told.

    The facts go with every knock that opens something, signed and sealed. A fact is yes, no or unknown, and a policy
    takes unknown for no. A look serves for ten minutes; --fresh looks at once, after something was put right. With
    --send on (the default) the client looks for itself, without root; with osquery an installed osquery is asked; with
    off nothing is told, and what a policy asks for is then unknown.

    \b
    Examples:
      spa-client posture office
      spa-client posture office --fresh
      spa-client posture office --send off
    """
    store = Store.default()
    perimeter = store.load(name)
    if send is not None:
        perimeter = replace(perimeter, posture=Telling(send))
        store.save(perimeter)
    looked = store.memory(perimeter.name).health.looked(perimeter.posture, 0 if fresh else INTERVAL_S)
    if as_json:
        print_json(_as_object(perimeter, looked))
        return
    click.echo(f"{_head(perimeter)}\n")
    findings = _by_name(looked.findings)
    shown = {name: _shown(name, looked) for name in findings}
    width = max(map(len, shown.values()))
    click.echo(f"{'FACT':<15} {'VALUE':<{width}}  {'WHY IT IS TOLD':<42} HOW IT WAS FOUND")
    for each, finding in findings.items():
        click.echo(f"{each:<15} {shown[each]:<{width}}  {WHY[each]:<42} {finding.how}")
    click.echo()
    for each, finding in findings.items():
        if finding.unknown:
            remedy = f"; {finding.remedy}" if finding.remedy else ""
            click.echo(f"{each} is unknown: {finding.unknown}{remedy}")
    click.echo(
        f"\nLooked {looked.age_s} s ago. The server can tell that this device says so, and not whether it is so."
    )


def _head(perimeter: Perimeter) -> str:
    if not _is_told(perimeter):
        reason = "a delegate cannot speak for the device" if perimeter.certificate else "posture is off"
        return f"{perimeter.name} is told nothing of this device's health: {reason}. It would be:"
    by = "by this client" if perimeter.posture is Telling.ON else "by osquery"
    return f"{perimeter.name} is told this of this device's health, as found {by}:"


def _is_told(perimeter: Perimeter) -> bool:
    return perimeter.certificate is None and perimeter.posture is not Telling.OFF


def _by_name(findings: Findings) -> dict[str, Finding | Number | Name]:
    return {name: getattr(findings, name) for name in WHY}


def _value(name: str, looked: Looked) -> str | int | None:
    """A fact as a policy reads it; None for a number that is not known."""
    value = getattr(looked.findings.posture(looked.age_s), name)
    return value if isinstance(value, str | int | None) else str(value.name).lower()


def _shown(name: str, looked: Looked) -> str:
    value = _value(name, looked)
    return "unknown" if value in (None, "") else str(value)


def _as_object(perimeter: Perimeter, looked: Looked) -> dict[str, object]:
    return {
        "perimeter": perimeter.name,
        "send": perimeter.posture.value,
        "told": _is_told(perimeter),
        "source": looked.findings.source.name.lower(),
        "age_s": looked.age_s,
        "facts": {
            name: {
                "value": _value(name, looked),
                "why": WHY[name],
                "how": finding.how,
                "unknown": finding.unknown or None,
                "remedy": finding.remedy or None,
            }
            for name, finding in _by_name(looked.findings).items()
        },
    }
