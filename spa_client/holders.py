"""Which processes of this user hold a perimeter open, so that only the last one to leave shuts the door.

Each holder has a file with the services it needs, and a lock on it that the system takes back when its process ends,
however it ends. A knock that nobody holds leaves a note until when it was to be open, which counts as a holder. All
changes are made under one more lock, the guard, and it is held while a door is being shut: so nobody can come in
between and be shut out. Like the claims on slots this is a courtesy to oneself: where the folder cannot be written,
nobody is asked, and nothing is given back before its time. It must not know what a lease is.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from spa_client.file_lock import try_lock

_GUARD = "guard"
_PATIENCE_S = 5.0
"""How long another process may take to leave; it needs one answer from the server at most."""
_PAUSE_S = 0.02
_LONGEST = 4096
_NOTE = "until-"


def unneeded(own: tuple[str, ...], others: Iterable[tuple[str, ...]]) -> tuple[str, ...] | None:
    """What may be shut when a holder leaves: some services, () for all of the perimeter, or None for nothing.

    A holder without names needs all that its device may open.
    """
    taken = list(others)
    if not own:
        return None if taken else ()
    if () in taken:
        return None
    return tuple(name for name in own if not any(name in other for other in taken)) or None


class Holders:
    """The holders of one perimeter. `folder` is made when it is first needed; `None` keeps no account."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder

    def enter(self, services: tuple[str, ...]) -> Holder:
        """Become a holder of these services; waits while another process shuts the door."""
        if self._folder is not None:
            with contextlib.suppress(OSError):
                return Holder(services, _entry(self._folder, services))
        return Holder(services, None)

    def left_open(self, services: tuple[str, ...], until_s: float) -> None:
        """Note that these are to stay open until that time (UTC, s since 1970), though nobody holds them."""
        if self._folder is not None:
            with contextlib.suppress(OSError):
                self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                note = self._folder / f"{_NOTE}{int(until_s)}-{os.urandom(4).hex()}"
                note.write_text(" ".join(services), "ascii")


@dataclass(frozen=True, slots=True)
class _Entry:
    """A holder's file, open and locked."""

    path: Path
    file: IO[bytes]


class Holder:
    """One that holds; its lock lasts until it leaves, or its process ends."""

    def __init__(self, services: tuple[str, ...], entry: _Entry | None) -> None:
        self._services = services
        self._entry = entry

    @contextlib.contextmanager
    def leave(self) -> Iterator[tuple[str, ...] | None]:
        """Cease to be a holder; while the block runs nobody comes or goes. It gets what `unneeded` says."""
        entry, self._entry = self._entry, None
        if entry is None:
            yield None
            return
        with contextlib.ExitStack() as stack:
            may_be_shut = None
            with contextlib.suppress(OSError):
                if stack.enter_context(_guarded(entry.path.parent)):
                    may_be_shut = unneeded(self._services, _others(entry))
            entry.file.close()
            with contextlib.suppress(OSError):
                entry.path.unlink()
            yield may_be_shut


def _entry(folder: Path, services: tuple[str, ...]) -> _Entry:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _guarded(folder):
        path = folder / f"{os.getpid()}-{os.urandom(4).hex()}"
        file = path.open("xb", buffering=0)
        try:
            file.write(" ".join(services).encode("ascii"))
            try_lock(file)
        except OSError:
            file.close()
            raise
        return _Entry(path, file)


@contextlib.contextmanager
def _guarded(folder: Path) -> Iterator[bool]:
    """Whether the guard could be had in the time there is."""
    end_s = time.monotonic() + _PATIENCE_S
    with (folder / _GUARD).open("ab", buffering=0) as guard:
        while not (locked := try_lock(guard)) and time.monotonic() < end_s:
            time.sleep(_PAUSE_S)
        yield locked


def _others(own: _Entry) -> list[tuple[str, ...]]:
    """What the others need; the files of those that ended without leaving are removed."""
    found: list[tuple[str, ...]] = []
    for path in own.path.parent.iterdir():
        if path.name == _GUARD or path == own.path:
            continue
        if path.name.startswith(_NOTE):
            found += _noted(path)
            continue
        with contextlib.suppress(FileNotFoundError):
            with path.open("r+b", buffering=0) as file:
                live = not try_lock(file)
                if live:
                    found.append(tuple(file.read(_LONGEST).decode("ascii", "replace").split()))
            if not live:
                path.unlink()
    return found


def _noted(path: Path) -> list[tuple[str, ...]]:
    """What a note keeps open; one whose time is over is removed."""
    until = path.name.removeprefix(_NOTE).partition("-")[0]
    with contextlib.suppress(FileNotFoundError):
        if until.isdigit() and time.time() < int(until):
            return [tuple(path.read_text("ascii", "replace").split())]
        path.unlink()
    return []
