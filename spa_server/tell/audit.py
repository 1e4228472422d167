"""The audit trail: a file of JSON lines to which the server and root's commands append, one record a write.

Its promise: what is about to be granted is in the file before the kernel is asked, so that no kill can leave a grant
without a record; where the record cannot be written, nothing is granted. Each record has the number after the one
before it and its hash, over restarts and over rotation, so that a missing or changed one shows (`chain`). Every append
happens under a lock, and first takes in what another process has appended; how far the trail has come is noted in the
lock file, too, so that a cut end shows to the next writer, who goes on from the note. The files are `trail_files`'s.
It must not know what any event means.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from spa_server.tell import chain, ecs, trail_files
from spa_server.tell.event_types import CHAIN_BEGUN, CHECKPOINT, TRAIL_PRUNED, TRAIL_REPAIRED
from spa_server.tell.events import Event

PATIENCE_S = 0.25
"""How long another process may hold the lock: a knock that waits longer is better refused."""
TAIL_BYTES = 64 << 10
"""More than any record is long."""
_MOST_READ = 1 << 20
_FILE_MODE = 0o640
_HOW = os.O_RDWR | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK

_SENTENCES = {
    errno.ENOSPC: "the disk is full; free some space and it goes on by itself",
    errno.EDQUOT: "the disk quota is used up; free some space and it goes on by itself",
    errno.EFBIG: "writing failed (the file may not grow); raise its size limit",
    errno.EACCES: "it cannot be written; check its owner and mode",
    errno.EPERM: "it cannot be written; check its owner, mode and attributes (lsattr)",
    errno.EROFS: "the file system is read-only",
    errno.ENOENT: "its folder does not exist; make it, owned by the server's user, or change server.audit_file",
    errno.EIO: "writing failed; look for disk errors in: dmesg",
}


class NotWritten(Exception):
    """A record could not be appended; the message is a sentence that says what to do."""


class _Read(NamedTuple):
    """A record's number; its hash, or None where it is not chained; its action and reason where that was done."""

    seq: int
    hash: str | None
    done: tuple[str, str] | None


class AuditTrail:
    """The trail at `path`, opened when first used and again whenever the file is another one. Not for threads."""

    def __init__(
        self,
        path: Path,
        *,
        largest_bytes: int,
        most_files: int,
        wall_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self.path = path
        self.seen: Counter[tuple[str, str]] = Counter()
        """What other processes have recorded as done since the trail was opened, by action and reason."""
        self._largest_bytes = largest_bytes
        self._most_files = most_files
        self._wall_ms = wall_ms
        self._lock = -1
        self._file = -1
        self._identity = (0, 0)
        self._size = 0
        self._seq = 0
        self._tie = chain.NO_HASH
        self._is_chained = True
        self._mended = ""
        self._deleted = 0

    def append(self, event: Event, time_ms: int | None = None) -> int:
        """Append one record; its number. Raises NotWritten, and then the file is as it was.

        `time_ms`: when it happened, where that is not now; UTC, since 1970.
        """
        told = ecs.record(event, self._wall_ms() if time_ms is None else time_ms)
        with self._locked():
            self._take_in()
            self._tell_of_itself()
            return self._write(told)

    def sign(self, signer: chain.Signer) -> int:
        """Append a record in which the server signs how far the trail has come; its number. Raises NotWritten."""
        with self._locked():
            self._take_in()
            self._tell_of_itself()
            at_ms = self._wall_ms()
            checkpoint = chain.Checkpoint.signed(self._seq, self._tie, at_ms, signer)
            said = f"the audit trail had come to record {self._seq}"
            return self._write(ecs.record(Event(CHECKPOINT, said, checkpoint=checkpoint), at_ms))

    def newest(self) -> tuple[int, bytes] | None:
        """Number and hash of the newest record that this process has written or read; None before there is one."""
        return (self._seq, bytes.fromhex(self._tie)) if self._seq and self._is_chained else None

    def take_in(self) -> None:
        """Read what others have appended. Raises NotWritten."""
        with self._locked():
            self._take_in()

    def sync(self) -> None:
        """Force what was appended to the disk, against a loss of power; call when idle. Raises NotWritten."""
        if self._file >= 0:
            try:
                os.fdatasync(self._file)
            except OSError as error:
                raise self._fault(error) from error

    def close(self) -> None:
        """Close the files."""
        self._let_go()
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def _fault(self, error: OSError) -> NotWritten:
        return NotWritten(f"{self.path}: {_SENTENCES.get(error.errno or 0, error.strerror or str(error))}")

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Hold the lock for the block. It is a file of its own, which only its owner can open: whoever may read the
        trail must not be able to hold it up.
        """
        try:
            if self._lock >= 0 and os.fstat(self._lock).st_nlink == 0:  # it was deleted: others lock another one
                os.close(self._lock)
                self._lock = -1
            if self._lock < 0:
                name = trail_files.lock_file(self.path)
                self._lock = os.open(name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            end_s = time.monotonic() + PATIENCE_S
            while not _locks(self._lock):
                if time.monotonic() > end_s:
                    raise NotWritten(f"{self.path}: another process holds it; find it with: fuser {self.path}.lock")
                time.sleep(0.001)
            try:
                yield
            finally:
                fcntl.flock(self._lock, fcntl.LOCK_UN)
        except OSError as error:
            raise self._fault(error) from error

    def _take_in(self) -> None:
        """Come to the end of the file as it is now, whoever wrote, moved or cut it."""
        try:
            found = self.path.stat(follow_symlinks=False)
        except FileNotFoundError:
            found = None
        if found is None or (found.st_dev, found.st_ino) != self._identity or self._file < 0:
            known = self._file >= 0
            self._open()
            self._read_on(0, count=known)
            if not known:
                self._heed_note()
        elif found.st_size > self._size:
            self._read_on(self._size, count=True)
        elif found.st_size < self._size:
            self._mended = f"it had been cut from {self._size} to {found.st_size} bytes"
            self._size = 0
            self._read_on(0, count=False)

    def _open(self) -> None:
        self._let_go()
        try:
            handle = os.open(self.path, _HOW)
        except FileNotFoundError:
            handle = os.open(self.path, _HOW | os.O_CREAT | os.O_EXCL, _FILE_MODE)
            os.fchmod(handle, _FILE_MODE)
        found = os.fstat(handle)
        if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1:
            os.close(handle)
            raise NotWritten(f"{self.path}: not a plain file of its own; move it away")
        self._file, self._identity, self._size = handle, (found.st_dev, found.st_ino), 0
        older = trail_files.older_files(self.path)
        if older and older[-1][0] > self._seq:
            self._seq, self._is_chained, self._tie = older[-1][0], False, chain.NO_HASH
            for line in trail_files.tail(older[-1][1], TAIL_BYTES):
                self._go_by(line.text, least=self._seq)

    def _heed_note(self) -> None:
        """Where the lock file says that the trail had come further, go on from there: what is missing must show."""
        note = trail_files.read_note(os.pread(self._lock, trail_files.NOTE_SIZE + 1, 0))
        if note is not None and note[0] > self._seq:
            lost = f"records {self._seq + 1} to {note[0]} are missing at its end"
            self._mended = f"{self._mended}; {lost}" if self._mended else lost
            (self._seq, self._tie), self._is_chained = note, True

    def _go_by(self, line: bytes, *, least: int) -> _Read | None:
        """Go on from the record that the line is, if it is one and of that number at least."""
        said = _parsed(line)
        if said is not None and said.seq >= least:
            self._seq, self._is_chained = said.seq, said.hash is not None
            self._tie = said.hash or chain.digest(line)
        return said

    def _let_go(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _read_on(self, start: int, *, count: bool) -> None:
        """Read from `start`, where a line begins, to the end, and mend the end; of a long file the end alone."""
        size = os.fstat(self._file).st_size
        skipped = max(0, size - start - TAIL_BYTES) if not count or size - start > _MOST_READ else 0
        start += skipped
        text = os.pread(self._file, size - start, start)
        whole, newline, rest = text.rpartition(b"\n")
        for line in whole.split(b"\n") if newline else ():
            said = self._go_by(line, least=self._seq + 1)
            if count and said is not None and said.done is not None:
                self.seen[said.done] += 1
        if rest:
            size = self._mend(size, rest, whole_line=bool(newline) or not skipped)
        self._size = size

    def _mend(self, size: int, rest: bytes, *, whole_line: bool) -> int:
        """The file ends without a line's end: somebody was stopped while writing, or the disk was full. Its size then.

        `whole_line`: whether `rest` is all of that line, and not only its last TAIL_BYTES.
        """
        said = self._go_by(rest, least=self._seq + 1)
        if said is not None:
            self._mended = f"record {said.seq} lacked its line's end"
        elif whole_line:
            self._mended = f"{len(rest)} bytes of a record that was never finished were taken away"
            os.ftruncate(self._file, size - len(rest))
            return size - len(rest)
        else:
            self._mended = "its last line is no record and longer than any; it was left as it is"
        _write_all(self._file, b"\n", size)
        return size + 1

    def _tell_of_itself(self) -> None:
        """Record what has become of the trail, before what is to be told in it."""
        if not self._is_chained:
            self._tell(Event(CHAIN_BEGUN, f"the chain of hashes begins after record {self._seq}", about=str(self._seq)))
        if self._deleted:
            self._tell_of_deleted()
        if self._mended:
            self._tell(Event(TRAIL_REPAIRED, f"the audit trail was mended: {self._mended}", about=self._mended))
            self._mended = ""

    def _tell_of_deleted(self) -> None:
        said = f"the records up to {self._deleted} were deleted, to keep the size of the audit trail"
        self._tell(Event(TRAIL_PRUNED, said, about=str(self._deleted)), may_rotate=False)
        self._deleted = 0

    def _tell(self, event: Event, *, may_rotate: bool = True) -> None:
        self._write(ecs.record(event, self._wall_ms()), may_rotate=may_rotate)

    def _write(self, told: dict[str, object], *, may_rotate: bool = True) -> int:
        line, hash_ = chain.sealed(told, self._seq + 1, self._tie)
        if may_rotate and self._size and self._size + len(line) > self._largest_bytes:
            self._rotate()
            line, hash_ = chain.sealed(told, self._seq + 1, self._tie)
        _write_all(self._file, line, self._size)
        self._size += len(line)
        self._seq, self._tie, self._is_chained = self._seq + 1, hash_, True
        # Its size never changes, so that a full disk takes it. Where it fails it is behind, which is no harm.
        with contextlib.suppress(OSError):
            os.pwrite(self._lock, trail_files.noted(self._seq, hash_), 0)
        return self._seq

    def _rotate(self) -> None:
        """Give the full file the number of its last record for a name, and begin another. One rename: no kill harms.

        That the oldest are deleted is recorded before it is done; on a full disk, where it makes room, afterwards.
        """
        self.path.rename(f"{self.path}.{self._seq:012d}")
        deleted = trail_files.older_files(self.path)[: 1 - self._most_files or None]
        if deleted:
            self._deleted = deleted[-1][0]
        with contextlib.suppress(OSError):
            self._open()
            if self._deleted:
                self._tell_of_deleted()
        for _, old in deleted:
            old.unlink(missing_ok=True)
        if self._file < 0:
            self._open()


def _locks(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _write_all(handle: int, data: bytes, size: int) -> None:
    """Append all of it in one write, or nothing."""
    written = os.write(handle, data)
    if written < len(data):
        os.ftruncate(handle, size)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _parsed(line: bytes) -> _Read | None:
    """What a line says; None for what is no record."""
    link = chain.link(line)
    if link is None:
        return None
    event = link.told.get("event")
    if not isinstance(event, dict) or event.get("outcome") != "success":
        return _Read(link.seq, link.hash, None)
    return _Read(link.seq, link.hash, (str(event.get("action", "")), str(event.get("reason", ""))))
