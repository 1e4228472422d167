"""What the live view shows, as values: gathered once a second, and set on the screen as often as its size changes.

It must not know where any of it comes from, nor how it looks.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Inside:
    """Somebody inside a service now. `since_ms` is 0 where no record tells it; `is_older`: it may be longer since."""

    device: str
    delegate: str
    user: str
    service: str
    source: str
    left_ms: int
    since_ms: int = 0
    is_older: bool = False
    risk: int | None = None


@dataclass(frozen=True, slots=True)
class Turned:
    """A refusal, its reason as a sentence."""

    time_ms: int
    device: str
    source: str
    sentence: str


@dataclass(frozen=True, slots=True)
class Counted:
    """Packets that a door let in and did not: the gate's datagrams, or a service's packets."""

    name: str
    admitted: int
    dropped: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All of it at one time. `perimeter`: whether it stands, None where that is not known. `inside` and `refusals` are
    None where whoever looks may not know them; `missing` says what is not shown, and why.
    """

    time_ms: int
    monotonic_s: float
    perimeter: bool | None
    is_running: bool
    up_s: int
    processes: tuple[str, ...]
    holders: int
    tags_armed: int
    faults: tuple[str, ...]
    results: Mapping[str, int]
    doors: tuple[Counted, ...]
    inside: tuple[Inside, ...] | None
    refusals: tuple[Turned, ...] | None
    missing: tuple[str, ...]


RATES_OVER_S = 10.0


@dataclass(slots=True)
class Rates:
    """Packets a second at each door, over the last ten seconds."""

    _seen: deque[Snapshot] = field(default_factory=deque)

    def note(self, snapshot: Snapshot) -> None:
        """Take in the newest."""
        self._seen.append(snapshot)
        while len(self._seen) > 2 and snapshot.monotonic_s - self._seen[1].monotonic_s >= RATES_OVER_S:
            self._seen.popleft()

    def of(self, name: str) -> tuple[float, float] | None:
        """Admitted and dropped a second; None before there are two looks, and where the counts began anew."""
        if len(self._seen) < 2:
            return None
        first, last = (_door(each, name) for each in (self._seen[0], self._seen[-1]))
        between_s = self._seen[-1].monotonic_s - self._seen[0].monotonic_s
        if first is None or last is None or between_s <= 0:
            return None
        admitted, dropped = last.admitted - first.admitted, last.dropped - first.dropped
        return None if admitted < 0 or dropped < 0 else (admitted / between_s, dropped / between_s)


def _door(snapshot: Snapshot, name: str) -> Counted | None:
    return next((door for door in snapshot.doors if door.name == name), None)
