"""What has been used last, noted outside of the state file: whether that file is the newest, or an older copy put back.

A copy of the state made and put back within one boot knows nothing of the slots used in between, and the boot fence
sees no other boot. So each use is noted here, too, before anything is granted for it: a few bytes in a file of the
runtime folder, which lasts for the boot and is no part of a backup. A state that does not know the use noted here is
older than it, and is fenced as after a crash of the machine (`fence.enter_boot`).

Uses that the state could not take, on a full disk, are kept here as well, over a restart, until it can.

Knows slots as three numbers, no table and no clock. It needs no fsync: what ends the boot ends what it is for.
"""

from __future__ import annotations

import errno
import os
import pwd
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple, Self

from spa_server.remember.store import StateError

MOST_OWED = 10_000
"""Uses kept that the state could not take; of more, all windows up to theirs are void while this process lives."""
_HEAD = struct.Struct("=4q")
_SLOT = struct.Struct("=3q")
_HOW = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW


class Slot(NamedTuple):
    """One use of one credential."""

    credential_id: int
    window: int
    number: int


class Witness:
    """The note in one file: the highest window used, the newest use, and the uses that are owed to the state."""

    def __init__(self, descriptor: int, path: Path) -> None:
        """Take the descriptor over. Raises StateError."""
        self._descriptor = descriptor
        self._path = path
        head = self._read(_HEAD.size, 0)
        self.has_begun = len(head) == _HEAD.size
        """Whether a server has noted anything in this file yet."""
        self.highest_window, *newest = _HEAD.unpack(head) if self.has_begun else (-1, 0, 0, 0)
        self.newest = Slot(*newest) if newest[0] else None
        kept = self._read(MOST_OWED * _SLOT.size, _HEAD.size)
        self._owing = len(kept) // _SLOT.size
        self.owed = frozenset(Slot(*each) for each in _SLOT.iter_unpack(kept[: self._owing * _SLOT.size]))
        """What the state could not take before this process started."""

    @classmethod
    def open(cls, path: Path) -> Self:
        """The note at the path; an empty one is made where there is none. Raises StateError."""
        with _faults(path):
            descriptor = os.open(path, _HOW | os.O_CREAT, 0o600)
        return cls(descriptor, path)

    def begin(self) -> None:
        """From here on the state is the newest there is. Raises StateError."""
        self._write(_HEAD.pack(self.highest_window, 0, 0, 0), 0)
        self.has_begun, self.newest = True, None

    def note(self, slot: Slot) -> None:
        """The state has taken this use. Raises StateError."""
        self.highest_window = max(self.highest_window, slot.window)
        self._write(_HEAD.pack(self.highest_window, *slot), 0)
        self.newest = slot

    def owe(self, slot: Slot) -> None:
        """The state could not take this use. Raises StateError."""
        self._write(_SLOT.pack(*slot), _HEAD.size + self._owing * _SLOT.size)
        self._owing += 1

    def settle(self) -> None:
        """The state has taken all that was owed. Raises StateError."""
        with _faults(self._path):
            os.ftruncate(self._descriptor, _HEAD.size)
        self._owing = 0

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)

    def _read(self, size: int, start: int) -> bytes:
        with _faults(self._path):
            return os.pread(self._descriptor, size, start)

    def _write(self, data: bytes, start: int) -> None:
        with _faults(self._path):
            if os.pwrite(self._descriptor, data, start) != len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def make_witness(path: Path, account: pwd.struct_passwd) -> None:
    """As root, make the file for a user who may not make it there. One that is there stays. Raises OSError."""
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    with suppress(FileExistsError):
        descriptor = os.open(path, _HOW | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            os.fchown(descriptor, account.pw_uid, account.pw_gid)
        finally:
            os.close(descriptor)


@contextmanager
def _faults(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StateError(f"{path}: {error.strerror}; without it nothing is opened") from error
