"""Since when each lease has been open, and at what risk: from the newest records of the audit trail, as it grows.

A lease that is renewed before it ends is one stay; the trail has a record of each renewal. Only the end of the trail is
read at first, so a stay may have begun before what was read, and then says so.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

from spa_server.lease_label import is_of, lease_label
from spa_server.tell.reading import LONGEST_LINE, Record, lines_from, parsed

FIRST_READ = 4 << 20
"""Bytes of the trail's end that are read at first: some ten thousand records."""
MOST_AT_ONCE = 8 << 20
"""Bytes taken in at one look; what is more waits for the next."""
MOST_STAYS = 10_000
SLACK_MS = 2_000
"""A renewal that is that late was still in time: the kernel's clock and the record's are not the same."""


@dataclass(frozen=True, slots=True)
class Stay:
    """Since when somebody has been inside without a break, until when as far as is known, and the last risk."""

    since_ms: int
    until_ms: int
    is_older: bool
    user: str
    risk: int | None


class Newest:
    """The end of the trail at `path`; `look` takes in what has come since. Not for threads."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stays: dict[tuple[str, str, str], Stay] = {}
        self._file = -1
        self._place = 0
        self._first: Record | None = None

    def look(self) -> None:
        """Take in what was written since the last look, over a rotation too. Raises OSError."""
        if self._file < 0:
            self._open(FIRST_READ)
        left = MOST_AT_ONCE
        while left > 0:
            before = self._place
            lines, self._place = lines_from(self._file, self._place)
            if self._place == before:
                if not self._has_moved():
                    return
                self._open(None)
                continue
            left -= self._place - before
            for line in lines:
                record = parsed(line)
                if record is not None:
                    self._note(record)

    def stay(self, whose: str, service: str, source: str) -> Stay | None:
        """What is known of a lease's."""
        return self._stays.get((whose, service, source))

    def close(self) -> None:
        """Close the file."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _open(self, at_most: int | None) -> None:
        self.close()
        self._file = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        size = os.fstat(self._file).st_size
        self._place = 0
        if at_most is not None and size > at_most:
            # Begun in the midst of a line, whose rest is no record.
            self._place = size - at_most
            self._place += os.pread(self._file, LONGEST_LINE, self._place).find(b"\n") + 1

    def _has_moved(self) -> bool:
        """Whether the file at the path is another one by now, or was cut."""
        try:
            found, mine = self._path.stat(follow_symlinks=False), os.fstat(self._file)
        except FileNotFoundError:
            return False
        return (found.st_dev, found.st_ino) != (mine.st_dev, mine.st_ino) or mine.st_size < self._place

    def _note(self, record: Record) -> None:
        if self._first is None:
            self._first = record
        whose = lease_label(record.device, record.delegate)
        if record.action == "granted":
            for service, seconds in record.services:
                self._granted((whose, service, record.source), record, record.time_ms + seconds * 1000)
        elif record.action == "closed":
            for service, _ in record.services:
                self._stays.pop((whose, service, record.source), None)
        elif record.action in ("revoked", "cut") and record.outcome == "success" and (whose or record.source):
            self._ended(record, whose)

    def _granted(self, key: tuple[str, str, str], record: Record, until_ms: int) -> None:
        known = self._stays.pop(key, None)
        if known is not None and known.since_ms - SLACK_MS <= record.time_ms <= known.until_ms + SLACK_MS:
            risk = known.risk if record.risk is None else record.risk
            stay = replace(known, until_ms=max(known.until_ms, until_ms), user=record.user, risk=risk)
        else:
            is_older = known is None and self._may_be_a_renewal(record, until_ms)
            stay = Stay(record.time_ms, until_ms, is_older, record.user, record.risk)
        self._stays[key] = stay
        if len(self._stays) > MOST_STAYS:
            del self._stays[next(iter(self._stays))]

    def _may_be_a_renewal(self, record: Record, until_ms: int) -> bool:
        """Whether a lease as long as this one could have been granted before the first record that was read."""
        first, length_ms = self._first or record, until_ms - record.time_ms
        return first.seq > 1 and record.time_ms - first.time_ms <= length_ms + SLACK_MS

    def _ended(self, record: Record, whose: str) -> None:
        """An operator, or the server itself, ended what a device or a source had open."""
        names = {name for name, _ in record.services}
        for key in list(self._stays):
            held_by, service, source = key
            is_meant = is_of(held_by, whose) if whose else True
            if is_meant and (not names or service in names) and (not record.source or source == record.source):
                del self._stays[key]
