"""Snapshots to show, and what a terminal then holds."""

from __future__ import annotations

import io
from typing import Any

from rich.console import Console, Group

from spa_server.watch.screen import screen
from spa_server.watch.snapshot import Counted, Inside, Rates, Snapshot, Turned

NOW_MS = 1_772_366_400_000
"""2026-03-01T12:00:00Z."""
ALICE = Inside("alice-laptop", "", "alice", "web", "192.0.2.7", 28_000, NOW_MS - 60_000, False, 12)
BOB = Inside("bob-laptop", "ci", "bob", "ssh", "2001:db8::7", 4_000, NOW_MS - 3_600_000, True, 62)
STALE = Turned(NOW_MS - 5000, "carol-laptop", "192.0.2.9", "stale by 71 s: set its clock")


def snapshot(**other: Any) -> Snapshot:
    values: dict[str, Any] = {
        "time_ms": NOW_MS,
        "monotonic_s": 100.0,
        "perimeter": True,
        "is_running": True,
        "up_s": 3723,
        "processes": ("network process 812", "firewall process 790"),
        "holders": 42,
        "tags_armed": 2016,
        "faults": (),
        "results": {"granted": 20, "stale": 3},
        "doors": (Counted("", 25, 1000), Counted("web", 400, 2), Counted("ssh", 90, 0)),
        "inside": (ALICE, BOB),
        "refusals": (STALE,),
        "missing": (),
        **other,
    }
    return Snapshot(**values)


def shown(
    told: Snapshot, width: int = 120, height: int = 40, *, rates: Rates | None = None, colours: bool = False
) -> list[str]:
    """The lines of a terminal of that size; where it has colours, with the escapes that make them."""
    file = io.StringIO()
    system: Any = "standard" if colours else None
    console = Console(file=file, width=width, height=height, force_terminal=colours, color_system=system)
    lines = screen(told, rates or Rates(), width, height)
    assert len(lines) <= height
    console.print(Group(*lines))
    return file.getvalue().splitlines()
