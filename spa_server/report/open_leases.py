"""How many leases were open at a time, of each service, from the records of their grants and their ends.

A lease is a device (or a delegate of it) at one source, inside one service. It ends with its seconds, or earlier when
it is given back or ended. Memory is bounded by the leases that are open at one time, and the steps of the period.
"""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict

from spa_server.lease_label import is_of, lease_label
from spa_server.report.period import Period
from spa_server.tell.reading import Record

_Key = tuple[str, str, str]
"""Service, whose, source."""
_SET_BACK_MS = 60_000
"""Records of several writers may be out of order by less than that; more is a clock that was set back."""


class OpenLeases:
    """Fed with records in the order of the trail; then `peaks` holds the most at once in each step, by service."""

    def __init__(self, period: Period) -> None:
        self.peaks: dict[str, list[int]] = defaultdict(lambda: [0] * period.steps)
        self.most = 0
        """The most at one time, of all services together."""
        self._period = period
        self._step_ms, self._first_ms, self._steps = period.step_ms, period.first_ms, period.steps
        self._ends: dict[_Key, int] = {}
        self._order: list[tuple[int, _Key]] = []
        self._open: Counter[str] = Counter()
        self._now_ms: int | None = None

    def note(self, record: Record) -> None:
        """Take in a grant, or an end of some; all other records only tell the time."""
        now_ms = self._go_to(record.time_ms)
        whose = lease_label(record.device, record.delegate)
        if record.action == "granted":
            for service, seconds in record.services:
                if seconds > 0:
                    self._begin((service, whose, record.source), now_ms, record.time_ms + seconds * 1000)
        elif record.action == "closed":
            for service, _ in record.services:
                self._drop((service, whose, record.source))
        elif record.action in ("revoked", "cut") and record.outcome == "success":
            self._end(record, whose)

    def finish(self) -> None:
        """Take the leases that are still open to their own end, or the period's."""
        self._go_to(self._period.until_ms)

    def _begin(self, key: _Key, now_ms: int, end_ms: int) -> None:
        known = self._ends.get(key)
        if known is None:
            self._open[key[0]] += 1
            if now_ms >= self._period.since_ms:
                self.most = max(self.most, self._open.total())
        self._mark(key[0], self._step_of(now_ms))
        if known is None or end_ms > known:
            self._ends[key] = end_ms
            heapq.heappush(self._order, (end_ms, key))

    def _end(self, record: Record, whose: str) -> None:
        """An operator, or the server itself, ended what a device or a source had open."""
        names = {name for name, _ in record.services}
        for key in list(self._ends):
            service, held_by, source = key
            is_meant = is_of(held_by, whose) if whose else bool(record.source)
            if is_meant and (not names or service in names) and (not record.source or source == record.source):
                self._drop(key)

    def _drop(self, key: _Key) -> None:
        if self._ends.pop(key, None) is not None:
            self._open[key[0]] -= 1

    def _go_to(self, time_ms: int) -> int:
        """Go on to that time, ending what ends until then; the time that it is now."""
        now_ms = time_ms if self._now_ms is None else self._now_ms
        if now_ms - time_ms > _SET_BACK_MS:
            self._set_back(now_ms - time_ms)
            now_ms = time_ms
        while self._order and self._order[0][0] <= time_ms:
            end_ms, key = heapq.heappop(self._order)
            if self._ends.get(key) == end_ms:  # else it was renewed since, or has ended
                now_ms = self._carry(now_ms, end_ms)
                self._drop(key)
        self._now_ms = self._carry(now_ms, time_ms)
        return self._now_ms

    def _set_back(self, by_ms: int) -> None:
        """The clock was set back, and what is open ends as much earlier by it."""
        self._ends = {key: end_ms - by_ms for key, end_ms in self._ends.items()}
        self._order = sorted((end_ms, key) for key, end_ms in self._ends.items())

    def _carry(self, now_ms: int, until_ms: int) -> int:
        """What is open stays so until then, and counts in every step that this time touches."""
        if until_ms <= now_ms:
            return now_ms
        first, last = max(self._step_of(now_ms), 0), min(self._step_of(until_ms - 1), self._steps - 1)
        if first <= last:
            for service, count in self._open.items():
                if count:
                    for step in range(first, last + 1):
                        self._mark(service, step)
        if now_ms < self._period.since_ms <= until_ms:
            self.most = max(self.most, self._open.total())
        return until_ms

    def _mark(self, service: str, step: int) -> None:
        if 0 <= step < self._steps:
            peaks = self.peaks[service]
            peaks[step] = max(peaks[step], self._open[service])

    def _step_of(self, time_ms: int) -> int:
        return (time_ms - self._first_ms) // self._step_ms
