"""`spa-client doctor`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import click

from spa_client.commands import EXIT_CODES
from spa_client.commands.completing import perimeter_names
from spa_client.commands.options import passphrase_option, timeout_option
from spa_client.storage import Store

if TYPE_CHECKING:
    from spa_client.examine.findings import Finding

WRONG = 8
_CODES = f"{EXIT_CODES}  {WRONG}  doctor: something does not work, or not everywhere, or not for long\n"


@click.command("doctor", epilog=_CODES, short_help="Find what keeps this device out.")
@click.argument("name", required=False, shell_complete=perimeter_names)
@click.option("--all", "show_all", is_flag=True, help="Also print what is as it should be.")
@timeout_option
@passphrase_option
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
def command(name: str | None, show_all: bool, timeout_s: float, as_json: bool) -> int:
    """Look for what keeps this device out of a perimeter, the worst first, each with what mends it.

    It looks at files, key, name, clock, both address families, address translation and the services' ports. For that it
    knocks, twice or more, and connects: what may open is open afterwards. Without NAME every perimeter is looked at.

    \b
    Examples:
      spa-client doctor
      spa-client doctor office --all
      spa-client doctor office --json
    """
    from spa_client.examine.examination import examine
    from spa_client.examine.findings import Severity, worst

    store = Store.default()
    names = [name] if name is not None else store.names() or [store.load().name]
    found = {each: examine(store, each, timeout_s) for each in names}
    everything = [finding for findings in found.values() for finding in findings]
    click.echo(_json(found, worst(everything).word) if as_json else for_people(found, show_all=show_all))
    return WRONG if worst(everything) >= Severity.WARNING else 0


def for_people(found: Mapping[str, Sequence[Finding]], *, show_all: bool) -> str:
    """A paragraph for each finding: severity and sentence, then what it rests on, then the remedy."""
    from spa_client.examine.findings import Severity

    lines: list[str] = []
    for name, findings in found.items():
        if len(found) > 1:
            lines.append(f"{name}:")
        for each in findings:
            if each.severity is Severity.OK and not show_all:
                continue
            lines.append(f"{each.severity.word.upper():<8} {each.what}  [{each.id}]")
            lines += [f"         seen: {each.evidence}"] if each.evidence else []
            lines += [f"         mend: {each.remedy}"] if each.remedy else []
    every = [each.severity for findings in found.values() for each in findings]
    counts = ", ".join(f"{every.count(severity)} {severity.word}" for severity in reversed(Severity))
    return "\n".join([*lines, counts])


def _json(found: Mapping[str, Sequence[Finding]], word: str) -> str:
    import json

    findings = [_plain(name, finding) for name, each in found.items() for finding in each]
    return json.dumps({"worst": word, "findings": findings})


def _plain(name: str, finding: Finding) -> dict[str, str]:
    return {
        "perimeter": name,
        "id": finding.id,
        "severity": finding.severity.word,
        "what": finding.what,
        "evidence": finding.evidence,
        "remedy": finding.remedy,
    }
