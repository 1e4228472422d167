"""Whether the end of the audit trail is as it was written: the newest records only, which is done at once.

All of it is `spa-server log verify`'s. It changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from spa_server.examine.findings import Finding, Severity
from spa_server.tell import trail_files
from spa_server.tell.trail_check import Known, check

LOOKED_AT_BYTES = 1 << 20


def trail_findings(path: Path) -> Iterator[Finding]:
    """By its newest records, and by how far the lock file says that it has come."""
    try:
        lines = trail_files.tail(path, LOOKED_AT_BYTES)
        note = _note_within(path, lines)
    except FileNotFoundError:
        return
    except OSError as error:
        yield Finding("trail-unseen", Severity.NOTE, "the audit trail was not looked at", str(error), "run it as root")
        return
    report = check(lines, known=note, is_all=False)
    if report.findings:
        first = report.findings[0]
        record = "" if first.seq is None else f"record {first.seq}: "
        yield Finding(
            "trail-broken",
            Severity.WARNING,
            "the end of the audit trail is not as it was written",
            f"{path}: {record}{first.what}",
            "spa-server log verify",
        )
    elif report.last is not None:
        yield Finding(
            "trail", Severity.OK, "the end of the audit trail is as it was written", f"{report.records} records"
        )


def _note_within(path: Path, lines: list[trail_files.Line]) -> list[Known]:
    """What the lock file notes, unless more was written since the lines were read."""
    note = trail_files.note_of(path)
    if note is None or trail_files.tail(path, LOOKED_AT_BYTES) != lines:
        return []
    return [Known(*note, "the lock file")]
