"""Which refusals are recorded one by one, and which are summed, so that no device can push all else out of the trail.

Whoever has a device's gate secret can have so many refused knocks a minute as the device has tags. The first few are
recorded each, what follows within the minute is one record that says how many there were. It must not know files;
time is an argument.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from spa_server.tell.event_types import ENROLMENT_REFUSED, REFUSALS_SUMMED, REFUSED
from spa_server.tell.events import Event, Outcome

EACH = 12
"""Refusals of one device or invite that are recorded each, within `WINDOW_S`."""
WINDOW_S = 60.0


@dataclass(slots=True)
class _Minute:
    begun_s: float
    taken: int = 0
    user: str = ""
    summed: Counter[str] = field(default_factory=Counter)


class Sampling:
    """Counts refusals by the device or invite that they are of."""

    def __init__(self) -> None:
        self._minutes: dict[str, _Minute] = {}

    def takes(self, event: Event, now_s: float) -> bool:
        """Whether this one is to be recorded; else it is counted."""
        if event.type not in (REFUSED, ENROLMENT_REFUSED):
            return True
        minute = self._minutes.setdefault(event.device, _Minute(now_s))
        if minute.taken < EACH:
            minute.taken += 1
            return True
        minute.user = event.user
        minute.summed[event.reason] += 1
        return False

    def summed(self, now_s: float) -> Iterator[Event]:
        """What is to be recorded of the minutes that are over; they are forgotten."""
        for device, minute in list(self._minutes.items()):
            if now_s - minute.begun_s < WINDOW_S:
                continue
            del self._minutes[device]
            if minute.summed:
                reasons = ", ".join(f"{reason} {count}" for reason, count in minute.summed.most_common())
                count = minute.summed.total()
                yield Event(
                    REFUSALS_SUMMED,
                    f"{count} more refusals of {device} within a minute: {reasons}",
                    Outcome.FAILURE,
                    about=reasons,
                    user=minute.user,
                    device=device,
                    count=count,
                )
