"""Trails as a server would have written them, made fast: its own events and lines, with times of our choosing."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from spa_server.tell import ecs, event_types
from spa_server.tell.events import Actor, Event, Outcome

START_MS = 1_772_323_200_000
"""2026-03-01T00:00:00Z, a Sunday."""
HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
ROOT = Actor(0, "root", "erin")
_REASONS = ("stale", "service_not_allowed", "code_wrong", "risk_too_high", "step_up_needed", "bad_signature")
_WEIGHTS = (30, 18, 9, 5, 12, 1)


def line(seq: int, event: Event, time_ms: int, risk: int | None = None) -> bytes:
    """The line of one record."""
    told: dict[str, Any] = ecs.record(event, time_ms)
    told["seq"] = seq
    if risk is not None:
        told["event"]["risk_score"] = risk
    return json.dumps(told, ensure_ascii=False, separators=(",", ":"), sort_keys=True).encode() + b"\n"


def knock(
    device: str = "alice-laptop",
    source: str = "192.0.2.7",
    services: tuple[tuple[str, int], ...] = (("web", 30),),
    reason: str = "",
    **other: Any,
) -> Event:
    """A knock that was granted, or refused where a reason is given."""
    values: dict[str, Any] = {"user": device.partition("-")[0], "session": "", **other}
    kind = event_types.REFUSED if reason else event_types.GRANTED
    outcome = Outcome.FAILURE if reason else Outcome.SUCCESS
    message = f"{kind.name} {device} from {source}"
    given = tuple((name, 0) for name, _ in services) if reason else services
    return Event(
        kind, message, outcome, reason=reason, device=device, source=ip_address(source), services=given, **values
    )


def write(path: Path, *told: tuple[Event, int] | tuple[Event, int, int | None], first: int = 1) -> None:
    """A trail of these events, their times and, where there is one, their risk."""
    path.write_bytes(b"".join(line(number, *each) for number, each in enumerate(told, first)))


def month(knocks: int, days: int = 30, seed: int = 7, *, later_ms: int = 0, first: int = 1) -> Iterator[bytes]:
    """The lines of a busy time: working days, refusals, a restart, faults, operators; `later_ms` after START_MS."""
    chance = random.Random(seed)
    people = [
        (f"{name}-{kind}", f"198.51.100.{number}")
        for number, name in enumerate(_NAMES, 10)
        for kind in ("laptop", "phone")
    ]
    services = (("web", 30), ("ssh", 30), ("database", 60), ("wiki", 300), ("git", 120))
    told: list[tuple[int, Event, int | None]] = []
    for _ in range(knocks):
        day = chance.randrange(days)
        if day % 7 in (0, 6) and chance.random() < 0.8:
            day = (day + 3) % days
        hour = chance.gauss(13, 2.5) % 24 if chance.random() < 0.9 else chance.random() * 24
        at = START_MS + day * DAY_MS + int(hour * HOUR_MS) + chance.randrange(60_000)
        device, source = people[min(int(chance.expovariate(0.08)), len(people) - 1)]
        if chance.random() < 0.1:
            source = f"2001:db8:{chance.randrange(16):x}::{chance.randrange(4096):x}"
        risk = min(100, int(chance.expovariate(1 / 9)) + (25 if chance.random() < 0.02 else 0))
        asked = tuple(chance.sample(services, 1 if chance.random() < 0.8 else 2))
        if chance.random() < 0.04:
            reason = chance.choices(_REASONS, _WEIGHTS)[0]
            told.append((at, knock(device, source, asked, reason), max(risk, 62) if "risk" in reason else risk))
        else:
            told.append((at, knock(device, source, asked, skew_ms=chance.randrange(-900, 900)), risk))
            if chance.random() < 0.3:
                gone = Event(
                    event_types.CLOSED,
                    f"closed after {device}",
                    device=device,
                    source=ip_address(source),
                    services=asked,
                )
                told.append((at + 15_000, gone, None))
    told = [each for each in told if days <= 12 or not 9.25 <= (each[0] - START_MS) / DAY_MS < 10.1]
    told += list(_run_of_the_server(days))
    told.sort(key=lambda item: item[0])
    for number, (at, event, score) in enumerate(told, first):
        yield line(number, replace(event, session=event.session or f"{number:016x}"), at + later_ms, score)


def _run_of_the_server(days: int) -> Iterator[tuple[int, Event, None]]:
    def at(day: float) -> int:
        return START_MS + int(day * DAY_MS)

    yield at(0.01), Event(event_types.STARTED, "ready: 40 devices and invites, 1920 tags armed"), None
    for number, name in enumerate(_NAMES[:6]):
        edit = Event(
            event_types.INVITED, f"invite {name}-laptop for {name} (admin)", Outcome.UNKNOWN, actor=ROOT, user=name
        )
        yield at(0.3 + number / 50), edit, None
        yield at(0.3 + number / 50) + 20, replace(edit, outcome=Outcome.SUCCESS), None
        enrolled = Event(event_types.ENROLLED, f"enrolled {name}-laptop", user=name, device=f"{name}-laptop")
        yield at(0.35 + number / 50), enrolled, None
    if days > 12:
        yield at(9.25), Event(event_types.STOPPED, "the network process ends", reason="told"), None
        yield at(10.1), Event(event_types.STARTED, "ready: 41 devices and invites"), None
        revoked = Event(
            event_types.REVOKED, "end what bob-laptop has open", device="bob-laptop", actor=ROOT, reason="operator"
        )
        yield at(11.4), revoked, None
        yield at(11.5), replace(revoked, outcome=Outcome.FAILURE, about="the firewall process did not answer"), None
        fault = Event(event_types.FAULT_BEGUN, "audit trail: the disk is full", Outcome.FAILURE, reason="audit trail")
        yield at(12.0), fault, None
        yield at(12.02), Event(event_types.FAULT_ENDED, "mended: audit trail", reason="audit trail"), None
    if days > 20:
        yield at(20), Event(event_types.PERIMETER_TAMPERED, "somebody else removed the chain knock"), None
        yield at(20) + 40, Event(event_types.PERIMETER_RESTORED, "the perimeter was put back"), None


_NAMES = (
    "alice", "bob", "carol", "dave", "erin", "frank", "grace", "heidi", "ivan", "judy", "mallory", "niaj", "olivia",
    "peggy", "rupert", "sybil", "trent", "victor", "walter", "wendy",
)  # fmt: skip
