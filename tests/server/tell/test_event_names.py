"""Code that must not know the events names their types alone: every name that is written out is one."""

from __future__ import annotations

import re
from pathlib import Path

import spa_server
from spa_server.tell.event_types import TYPES

SOURCES = sorted(Path(spa_server.__file__).parent.rglob("*.py"))
NAMED = re.compile(r'\{"event": "([^"]*)"\}')
TABLE = Path(spa_server.__file__).parent.parent / "docs" / "observability.md"


def test_every_name_that_is_logged_is_a_type() -> None:
    named = {name for path in SOURCES if path.name != "events.py" for name in NAMED.findall(path.read_text())}
    assert {"perimeter-restored", "perimeter-tampered", "clock-stepped", "state-corrupted"} <= named
    assert named <= set(TYPES)


def test_the_documentation_lists_every_type_with_its_id_and_meaning() -> None:
    page = TABLE.read_text()
    for kind in TYPES.values():
        assert f"| `{kind.name}` |" in page
        assert f"| {kind.means} | `{kind.message_id}` |" in page
