"""Events to tell, and what a trail then holds."""

from __future__ import annotations

import json
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from spa_server.tell import event_types
from spa_server.tell.events import Event, Outcome

TIME_MS = 1_700_000_000_123


def granted(session: str = "a1", **other: Any) -> Event:
    values: dict[str, Any] = {
        "source": ip_address("192.0.2.7"),
        "destination": ip_address("198.51.100.1"),
        "user": "alice",
        "device": "alice-laptop",
        "services": (("web", 30),),
        "session": session,
        "skew_ms": -5,
        **other,
    }
    return Event(event_types.GRANTED, "granted alice-laptop (alice) from 192.0.2.7: web 30 s; skew -5 ms", **values)


def granting(session: str) -> Event:
    return Event(event_types.GRANTING, "about to open web", Outcome.UNKNOWN, device="alice-laptop", session=session)


def files(path: Path) -> list[Path]:
    """The files of a trail, the oldest first."""
    return [*sorted(path.parent.glob(f"{path.name}.[0-9]*")), path]


def records(path: Path) -> list[dict[str, Any]]:
    """Every record of a trail, the oldest first; fails on a line that is none."""
    lines = [line for file in files(path) if file.exists() for line in file.read_bytes().split(b"\n")[:-1]]
    return [json.loads(line) for line in lines]


def numbers(path: Path) -> list[int]:
    return [record["seq"] for record in records(path)]


def assert_no_gap(path: Path) -> None:
    """The trail holds every number from 1 on, in order. It may be growing meanwhile, so it is read once."""
    found = numbers(path)
    assert found == list(range(1, len(found) + 1))
