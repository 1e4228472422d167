"""The files of an audit trail, and its lines in order over all of them, also while it is written to and put aside.

    audit.jsonl               the newest records
    audit.jsonl.000000004711  older ones, up to number 4711; the oldest files are deleted
    audit.jsonl.lock          what is locked while one process appends; in it, how far the trail has come

It only reads, and must not know what a line means.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

NOTE_SIZE = 20 + 1 + 64 + 1
_HOW = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK


class Line(NamedTuple):
    """A line without its end. `number` counts from 1 in each file; `is_whole`: whether it had an end."""

    file: Path
    number: int
    text: bytes
    is_whole: bool


def older_files(path: Path) -> list[tuple[int, Path]]:
    """Files put aside and the number of the last record in each, the oldest first."""
    found = []
    with os.scandir(path.parent) as entries:
        for entry in entries:
            number = entry.name.removeprefix(f"{path.name}.")
            if number != entry.name and number.isdecimal():
                found.append((int(number), Path(entry.path)))
    return sorted(found)


def lock_file(path: Path) -> Path:
    """What is locked while one process appends."""
    return path.with_name(f"{path.name}.lock")


def noted(seq: int, hash_: str) -> bytes:
    """How far the trail has come, as the lock file has it: always of one size, so that a full disk takes it."""
    return f"{seq:020d} {hash_}\n".encode()


def read_note(note: bytes) -> tuple[int, str] | None:
    """Number and hash of the newest record, by the lock file; None where it says nothing."""
    seq, _, hash_ = note.decode("ascii", "replace").strip().partition(" ")
    return (int(seq), hash_) if len(note) == NOTE_SIZE and seq.isdecimal() and len(hash_) == 64 else None


def note_of(path: Path) -> tuple[int, str] | None:
    """The same from the trail's own lock file; None where there is none or it may not be read."""
    try:
        with _opened(lock_file(path)) as file:
            return read_note(file.read(NOTE_SIZE + 1))
    except OSError:
        return None


def lines(path: Path, wait: Callable[[], bool] = lambda: False) -> Iterator[Line]:
    """Every line, the oldest first. Raises FileNotFoundError where there is no trail, and OSError.

    At the end `wait` is called; where it says True, the reading goes on with what has been written meanwhile, and
    follows when the file is put aside.
    """
    done, current = -1, None
    while True:
        newer = [each for each in older_files(path) if each[0] > done]
        if newer:
            done, file = newer[0]
            with contextlib.suppress(FileNotFoundError), _opened(file) as handle:  # or just deleted
                yield from _whole(file, handle)
            current = file
            continue
        try:
            handle = _opened(path)
        except FileNotFoundError:
            if current is None and not older_files(path):
                raise
            if not wait():
                return
            continue
        with handle:
            # What was put aside between the two looks comes before what was just opened.
            if any(number > done for number, _ in older_files(path)):
                continue
            current = path
            yield from _growing(path, handle, wait)
            if not _is_other(path, handle):
                return
            done = max((number for number, file in older_files(path) if not _is_other(file, handle)), default=done)


def tail(path: Path, size: int) -> list[Line]:
    """The lines within the last `size` bytes of that file, numbered from the first one that is whole; may be none."""
    with _opened(path) as file:
        end = file.seek(0, os.SEEK_END)
        start = file.seek(max(0, end - size))
        text = file.read(size)
    if start:
        text = text.partition(b"\n")[2]
    *whole, rest = text.split(b"\n")
    found = [Line(path, number, line, True) for number, line in enumerate(whole, 1)]
    return [*found, Line(path, len(found) + 1, rest, False)] if rest else found


def _whole(file: Path, handle: BinaryIO) -> Iterator[Line]:
    for number, line in enumerate(handle, 1):
        is_whole = line.endswith(b"\n")
        yield Line(file, number, line[:-1] if is_whole else line, is_whole)


def _growing(path: Path, handle: BinaryIO, wait: Callable[[], bool]) -> Iterator[Line]:
    """The lines of the newest file, until it is another one or nobody waits."""
    number, rest = 0, b""
    while True:
        was_other = _is_other(path, handle)  # asked before reading: what was written until then is read
        for line in handle:
            rest += line
            if rest.endswith(b"\n"):
                number += 1
                yield Line(path, number, rest[:-1], True)
                rest = b""
        if was_other:
            break
        if not wait():
            break
    if rest:
        yield Line(path, number + 1, rest, False)


def _is_other(path: Path, handle: BinaryIO) -> bool:
    """Whether the path is no longer the file that was opened."""
    try:
        return not os.path.samestat(path.stat(follow_symlinks=False), os.fstat(handle.fileno()))
    except FileNotFoundError:
        return True


def _opened(path: Path) -> BinaryIO:
    return os.fdopen(os.open(path, _HOW), "rb")
