"""`spa-server doctor`: find what is wrong, and say the command that mends it."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from spa_server.commands.exits import EXIT_CODES, Exit, plain_errors
from spa_server.commands.options import config_option, json_option
from spa_server.config import ConfigError, ConfigForbidden, load
from spa_server.examine.findings import Finding, Severity, worst

DOCTOR_CODES = (
    EXIT_CODES
    + """
  8  doctor: something does not work, or will stop to (warning)
  9  doctor: somebody gets in who should not, or could (danger)"""
)


@click.command(epilog=DOCTOR_CODES)
@click.option("--all", "show_all", is_flag=True, help="Also print what is as it should be.")
@json_option
@config_option
def doctor(show_all: bool, as_json: bool, config_path: Path) -> None:
    """Look for whatever keeps clients out or lets strangers in, the worst first, each with the command that mends it.

    It changes nothing. As root it sees everything; others are told what could not be looked at. It judges
    from this host only: whether networks on the way let knocks through, a client can tell.

    \b
    Examples:
      spa-server doctor
      spa-server doctor --json
    """
    with plain_errors():
        found = _examined(config_path)
    if as_json:
        click.echo(json.dumps({"worst": worst(found).word, "findings": [_plain(each) for each in found]}, indent=2))
    else:
        click.echo(for_people(found, show_all=show_all))
    sys.exit(exit_code(found))


def exit_code(found: Sequence[Finding]) -> Exit:
    """0 where nothing is worse than a note."""
    return {Severity.DANGER: Exit.DANGER, Severity.WARNING: Exit.WARNING}.get(worst(found), Exit.DONE)


def for_people(found: Sequence[Finding], *, show_all: bool) -> str:
    """A paragraph for each finding: severity and sentence, then what it rests on, then the remedy."""
    lines: list[str] = []
    for each in found:
        if each.severity is Severity.OK and not show_all:
            continue
        lines.append(f"{each.severity.word.upper():<8} {each.what}  [{each.id}]")
        if each.evidence:
            lines.append(f"         seen: {each.evidence}")
        if each.remedy:
            lines.append(f"         mend: {each.remedy}")
    counts = [f"{sum(each.severity is severity for each in found)} {severity.word}" for severity in reversed(Severity)]
    lines.append(("" if not lines else "\n") + ", ".join(counts))
    return "\n".join(lines)


def _examined(config_path: Path) -> tuple[Finding, ...]:
    try:
        config = load(config_path)
    except ConfigForbidden:
        raise
    except ConfigError as error:
        return tuple(
            Finding("config-bad", Severity.WARNING, str(problem), str(config_path), f"mend {config_path}, then again")
            for problem in error.problems
        )
    from spa_server.examine.examination import examine

    return examine(config)


def _plain(finding: Finding) -> dict[str, str]:
    return {
        "id": finding.id,
        "severity": finding.severity.word,
        "what": finding.what,
        "evidence": finding.evidence,
        "remedy": finding.remedy,
    }
