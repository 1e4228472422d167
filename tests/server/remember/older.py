"""A state file as an older version of the program left it: without the tables that came later."""

from __future__ import annotations

import re
import sqlite3
from pathlib import Path

from spa_server.remember import schema

_TABLE = re.compile(r"\s*CREATE TABLE (\w+)")


def make_older(path: Path, version: int) -> None:
    """Make of the file, which nobody has open, one of that version. What else it holds stays."""
    later = [statement for since, step in schema.UPGRADES.items() if since >= version for statement in step]
    with sqlite3.connect(path) as older:
        for found in filter(None, map(_TABLE.match, reversed(later))):
            older.execute(f"DROP TABLE {found[1]}")
        older.execute(f"PRAGMA user_version={version}")
    older.close()
