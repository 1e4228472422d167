"""The audit trail as it is read back: every file of it, record by record, in the order in which they were written.

Nothing is held but one line at a time, so that a trail of a million records is read like one of ten. What cannot be
read is counted and passed over: whoever looks at a trail wants what is there, and to be told what is not. It knows the
fields that every record may have, not what an event means; a field that is missing or of another type is empty.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

LONGEST_LINE = 1 << 20
"""A line beyond that is no record; its pieces are counted as damaged, and memory stays as it is."""
_TIME_HEAD = b'{"@timestamp":"'
_TIME_BYTES = len("2026-03-01T09:30:12.345Z")
_MOST_COUNT = 1_000_000
"""No one record stands for more: a number beyond that is no count."""
_HOW = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK


class Record(NamedTuple):
    """One record. Texts are "" where nothing is said; they came from outside and may hold anything.

    `user` and `device` are whom it concerns, `actor` the login that ran the command, where it was a command. `risk` is
    the score, 0 to 100, or None. `stands_for` is how many, where it is a sum of several. `is_checkpoint` is
    whether it is a signed mark in the trail's chain.
    """

    seq: int
    time_ms: int
    action: str
    outcome: str
    reason: str
    about: str
    message: str
    kind: str
    category: str
    type: str
    user: str
    actor: str
    device: str
    delegate: str
    source: str
    session: str
    services: tuple[tuple[str, int], ...]
    risk: int | None
    is_checkpoint: bool
    stands_for: int = 1


@dataclass(slots=True)
class Passed:
    """What a reading met. `missing`: how many numbers were left out between records, `gaps`: at how many places."""

    records: int = 0
    damaged: int = 0
    missing: int = 0
    gaps: int = 0
    repeated: int = 0
    files: int = 0


@dataclass(slots=True)
class Trail:
    """The trail at `path`, its older files included. `on_bytes`: told how many bytes were read since the last time."""

    path: Path
    on_bytes: Callable[[int], None] = lambda _count: None
    passed: Passed = field(default_factory=Passed)

    def size(self) -> int:
        """Bytes in all files, as they are now. Raises OSError."""
        return sum(path.stat().st_size for path in self._files() if path.exists())

    def oldest(self) -> Record | None:
        """The oldest record that is kept, or None. Raises OSError."""
        for path in self._files():
            with contextlib.suppress(FileNotFoundError), self._opened(path) as handle:
                for line in _lines(handle, lambda _count: None):
                    record = parsed(line)
                    if record is not None:
                        return record
        return None

    def records(self, since_ms: int, until_ms: int) -> Iterator[Record]:
        """Those whose time is from `since_ms` on and before `until_ms`; `passed` counts as they come. Raises OSError.

        A file whose newest record and last change are both older than that is not read.
        """
        first, last = _stamp(since_ms), _stamp(until_ms)
        before: int | None = None
        # The newest file is opened first: should it be put aside meanwhile, it is still the one that is read last.
        with contextlib.ExitStack() as stack:
            newest = -1
            with contextlib.suppress(FileNotFoundError):
                newest = stack.enter_context(self._opened(self.path))
            held = os.fstat(newest).st_ino if newest >= 0 else -1
            for path in self._files():
                with contextlib.ExitStack() as inner:
                    if path == self.path:
                        if newest < 0:
                            continue
                        handle = newest
                    else:
                        try:
                            handle = inner.enter_context(self._opened(path))
                        except FileNotFoundError:  # deleted since, as the oldest: its numbers are missing
                            continue
                        if os.fstat(handle).st_ino == held:
                            continue
                        if _is_older(handle, since_ms):
                            self.on_bytes(os.fstat(handle).st_size)
                            before = None
                            continue
                    self.passed.files += 1
                    for line in _lines(handle, self.on_bytes):
                        stamp = line[len(_TIME_HEAD) : len(_TIME_HEAD) + _TIME_BYTES]
                        if line.startswith(_TIME_HEAD) and len(stamp) == _TIME_BYTES and not first <= stamp < last:
                            before = None
                            continue
                        record = parsed(line)
                        if record is None:
                            self.passed.damaged += 1
                            continue
                        if not since_ms <= record.time_ms < until_ms:
                            before = None
                            continue
                        self._follow(before, record.seq)
                        before = record.seq
                        yield record

    def _follow(self, before: int | None, seq: int) -> None:
        self.passed.records += 1
        if before is None or seq == before + 1:
            return
        if seq > before:
            self.passed.gaps += 1
            self.passed.missing += seq - before - 1
        else:
            self.passed.repeated += 1

    def _files(self) -> list[Path]:
        """The oldest first; the one that is being written to last."""
        older = []
        for entry in os.scandir(self.path.parent):
            number = entry.name.removeprefix(f"{self.path.name}.")
            if number != entry.name and number.isdecimal() and number.isascii():
                older.append((int(number), Path(entry.path)))
        return [*(path for _, path in sorted(older)), self.path]

    @contextlib.contextmanager
    def _opened(self, path: Path) -> Iterator[int]:
        handle = os.open(path, _HOW)
        try:
            yield handle
        finally:
            os.close(handle)


def parsed(line: bytes) -> Record | None:
    """The record in a line, or None where there is none: no object of JSON, no number, or no time."""
    try:
        told = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(told, dict):
        return None
    seq, stamp = told.get("seq"), told.get("@timestamp")
    if type(seq) is not int or seq < 0 or not isinstance(stamp, str):
        return None
    try:
        time_ms = round(datetime.datetime.fromisoformat(stamp).timestamp() * 1000)
    except (ValueError, OverflowError):
        return None
    event, user, own = _object(told, "event"), _object(told, "user"), _object(told, "spa")
    effective, target = _object(user, "effective"), _object(user, "target")
    action, name = _text(event, "action"), _text(user, "name")
    return Record(
        seq,
        time_ms,
        action,
        _text(event, "outcome"),
        _text(event, "reason"),
        _text(own, "about"),
        _text(told, "message"),
        _text(event, "kind"),
        _first(event, "category"),
        _first(event, "type"),
        _text(target, "name") if effective else name,
        name if effective else "",
        _text(_object(told, "device"), "id"),
        _text(own, "delegate"),
        _text(_object(told, "source"), "ip"),
        _text(_object(told, "session"), "id"),
        _services(own.get("services")),
        _score(event.get("risk_score")),
        action == "checkpoint" or "checkpoint" in own,
        _count(own.get("count")),
    )


def lines_from(handle: int, start: int) -> tuple[list[bytes], int]:
    """The whole lines of a file from a place on, at most a MiB of them, and the place after them. Raises OSError."""
    data = os.pread(handle, LONGEST_LINE, start)
    whole, newline, _ = data.rpartition(b"\n")
    if not newline:
        return [], start + (len(data) if len(data) == LONGEST_LINE else 0)
    return whole.split(b"\n"), start + len(whole) + 1


def _lines(handle: int, on_bytes: Callable[[int], None]) -> Iterator[bytes]:
    """Every line; the last one also where its end is missing."""
    place, rest = 0, b""
    while piece := os.pread(handle, LONGEST_LINE, place):
        place += len(piece)
        on_bytes(len(piece))
        *whole, rest = (rest + piece).split(b"\n")
        yield from (line for line in whole if line)
        if len(rest) > LONGEST_LINE:
            yield rest
            rest = b""
    if rest:
        yield rest


def _is_older(handle: int, since_ms: int) -> bool:
    """Whether a file's last record, and its last change, are both before that time."""
    found = os.fstat(handle)
    if found.st_mtime * 1000 >= since_ms:
        return False
    tail = os.pread(handle, LONGEST_LINE, max(0, found.st_size - LONGEST_LINE)).rstrip(b"\n").rpartition(b"\n")[2]
    last = parsed(tail)
    return last is not None and last.time_ms < since_ms


def _stamp(time_ms: int) -> bytes:
    """A time as records have it, which can be compared with theirs as it is."""
    try:
        at = datetime.datetime.fromtimestamp(time_ms // 1000, datetime.UTC)
    except (ValueError, OverflowError, OSError):
        return b"9999"
    return f"{at:%Y-%m-%dT%H:%M:%S}.{time_ms % 1000:03d}Z".encode()


def _object(told: dict[str, object], name: str) -> dict[str, object]:
    value = told.get(name)
    return value if isinstance(value, dict) else {}


def _text(told: dict[str, object], name: str) -> str:
    value = told.get(name)
    return value if isinstance(value, str) else ""


def _first(told: dict[str, object], name: str) -> str:
    value = told.get(name)
    if isinstance(value, list) and value:
        value = value[0]
    return value if isinstance(value, str) else ""


def _score(value: object) -> int | None:
    """0 to 100, or None for what is no number."""
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value:  # NaN
        return None
    return int(min(100, max(0, value)))


def _count(value: object) -> int:
    return value if type(value) is int and 1 <= value <= _MOST_COUNT else 1


def _services(value: object) -> tuple[tuple[str, int], ...]:
    if not isinstance(value, list):
        return ()
    found = []
    for each in value:
        if isinstance(each, dict) and isinstance(each.get("name"), str):
            seconds = each.get("seconds")
            found.append((each["name"], seconds if type(seconds) is int else 0))
    return tuple(found)
