"""The state file: one SQLite database, `state.sqlite3`, in a folder that only the daemon's user can enter.

Knows the file, its owner, its durability and how its faults read; it does not know what any table is for.

Two kinds of transaction, both atomic and both visible to other processes at once:

- `quick()`: the write is handed to the kernel before the call returns, so it survives the death of this process, but
  it is not forced to the disk. A power cut can lose it; the boot fence (`fence.py`) answers for that.
- `durable()`: forced to the disk as well. For what people do (devices, invites) and for the boot record.

Write-ahead logging (https://www.sqlite.org/wal.html) lets root's commands write while the daemon reads. The log is
never folded back on a commit, which would put an fsync into some unlucky knock, but by `checkpoint()` when idle.
A Store must be opened after forking: SQLite connections do not survive a fork.
"""

from __future__ import annotations

import os
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Self

from spa_server.remember import schema

FILE_NAME = "state.sqlite3"
BUSY_MS = 250
"""How long the daemon waits for another writer: a knock that waits longer is better refused."""

_MOST_WAL_BYTES = 8 << 20

_SENTENCES = {
    sqlite3.SQLITE_FULL: "the disk is full; free some space and it goes on by itself",
    sqlite3.SQLITE_READONLY: "it cannot be written; check its owner and mode, and that the file system is writable",
    sqlite3.SQLITE_PERM: "access is denied; check its owner and mode",
    sqlite3.SQLITE_CANTOPEN: "it cannot be opened; check its owner and mode, and that the file system is writable",
    sqlite3.SQLITE_BUSY: "another process holds it; try again",
    sqlite3.SQLITE_LOCKED: "another process holds it; try again",
    sqlite3.SQLITE_IOERR: "reading or writing failed; look for disk errors in: dmesg",
    sqlite3.SQLITE_CORRUPT: "the file is damaged; nothing was deleted: keep it, and put back a copy",
    sqlite3.SQLITE_NOTADB: "the file is damaged (not a database); nothing was deleted: keep it, and put back a copy",
}


class StateError(Exception):
    """The state folder or file cannot be used; the message is one sentence that says what to do."""


class StateDamaged(StateError):
    """The file is no sound database; it is as it was found."""


class Store:
    """One connection to the state file. Not for use by several threads, nor across a fork."""

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self.path = path
        self._connection = connection
        self._synchronous = ""
        self._place = _place(path)
        self.unfolded = 0
        """Transactions of this connection since its last checkpoint: each has made the log a few pages longer."""

    def rows(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        """What a SELECT gives, all at once: a reader left open would hold up `checkpoint`."""
        with _faults(self.path):
            return self._connection.execute(sql, values).fetchall()

    @contextmanager
    def quick(self) -> Iterator[sqlite3.Connection]:
        """A write transaction that survives the death of this process, and costs no fsync."""
        with self._transaction("NORMAL") as connection:
            yield connection

    @contextmanager
    def durable(self) -> Iterator[sqlite3.Connection]:
        """A write transaction that is on the disk when the block has ended."""
        with self._transaction("FULL") as connection:
            yield connection

    def data_version(self) -> int:
        """A number that changes when *another* connection has committed (`PRAGMA data_version`)."""
        return int(self.rows("PRAGMA data_version")[0][0])

    def checkpoint(self, *, truncate: bool = False) -> bool:
        """Fold the log back into the file; call when idle. `truncate` empties the log as well, older pages included.

        Returns whether all of it was done: another process that is reading just now only postpones the rest.
        """
        busy, logged, moved = self.rows(f"PRAGMA wal_checkpoint({'TRUNCATE' if truncate else 'PASSIVE'})")[0]
        self.unfolded = 0
        return not busy and logged == moved

    def check_in_place(self) -> None:
        """Raise StateError if the open file is not the one that stands at the path.

        SQLite would go on writing into a deleted file, and what was written would be forgotten at the next start.
        """
        found = _place(self.path)
        if found is None:
            raise StateError(
                f"{self.path}: it was deleted or moved away while in use, and nothing is opened without it; put it "
                "back, or put back a copy and restart spa-server"
            )
        if found != self._place:
            raise StateError(f"{self.path}: another file was put in its place; restart spa-server to go by that one")

    def close(self) -> None:
        """Close the file. The last process to do so folds the log back and removes it."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def _transaction(self, synchronous: str) -> Iterator[sqlite3.Connection]:
        connection = self._connection
        self.check_in_place()
        with _faults(self.path):
            if self._synchronous != synchronous:
                connection.execute(f"PRAGMA synchronous={synchronous}")
                self._synchronous = synchronous
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
                self.unfolded += 1
            except BaseException:
                # SQLite has already rolled back after some faults (a full disk), and not after others.
                if connection.in_transaction:
                    with suppress(sqlite3.Error):
                        connection.execute("ROLLBACK")
                raise


def open_store(folder: Path, *, create: bool = False, busy_ms: int = BUSY_MS) -> Store:
    """Open the state in `folder`; with `create`, make the file and its tables first if they are not there.

    The folder must exist, have mode 0700 and belong to the calling user: root acts as its owner first
    (`privilege.acting_as_owner_of`). Raises StateError.
    """
    owner = _check_folder(folder)
    path = folder / FILE_NAME
    _check_file(path, owner, create=create)
    with _faults(path):
        connection = sqlite3.connect(
            f"{path.absolute().as_uri()}?mode=rw", uri=True, timeout=busy_ms / 1000, isolation_level=None
        )
    store = Store(connection, path)
    try:
        _prepare(store, create=create)
    except BaseException:
        connection.close()
        raise
    return store


def _prepare(store: Store, *, create: bool) -> None:
    version = int(store.rows("PRAGMA user_version")[0][0])
    if version not in (0, schema.VERSION, *schema.UPGRADES):
        raise StateError(
            f"{store.path}: made by another version of spa-server (format {version}, this one reads "
            f"{schema.VERSION}); run the version that made it"
        )
    if version == 0 and not create:
        raise StateError(f"{store.path}: the state was never filled; run: spa-server init")
    found = store.rows("PRAGMA quick_check(1)")[0][0]
    if found != "ok":
        raise StateDamaged(f"{store.path}: {_SENTENCES[sqlite3.SQLITE_CORRUPT]} ({found})")
    if store.rows("PRAGMA journal_mode=WAL")[0][0] != "wal":
        raise StateError(f"{store.path}: this file system cannot hold it (no write-ahead log); use a local disk")
    for pragma in (
        "wal_autocheckpoint=0",
        f"journal_size_limit={_MOST_WAL_BYTES}",
        "secure_delete=ON",  # an erased key is overwritten, not only forgotten
        "foreign_keys=ON",
        "temp_store=MEMORY",
    ):
        store.rows(f"PRAGMA {pragma}")
    if version == 0:
        with store.durable() as connection:
            # Asked again inside the transaction: another process may have filled it meanwhile.
            if connection.execute("PRAGMA user_version").fetchone()[0] == 0:
                for table in schema.TABLES:
                    connection.execute(table)
                connection.execute(f"PRAGMA user_version={schema.VERSION}")
    elif version != schema.VERSION:
        _upgrade(store)


def _upgrade(store: Store) -> None:
    """All steps to this version in one transaction; another process may have done them meanwhile."""
    with store.durable() as connection:
        while (version := int(connection.execute("PRAGMA user_version").fetchone()[0])) != schema.VERSION:
            for statement in schema.UPGRADES[version]:
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version={version + 1}")


def _check_folder(folder: Path) -> os.stat_result:
    try:
        found = folder.lstat()
    except FileNotFoundError:
        raise StateError(f"{folder}: no such state folder; run: spa-server init") from None
    except OSError as error:
        raise StateError(f"{folder}: {error.strerror}; check the folders above it") from None
    if not stat.S_ISDIR(found.st_mode):
        raise StateError(f"{folder}: not a folder; name a folder in server.state_folder")
    if found.st_uid != os.geteuid():
        raise StateError(f"{folder}: belongs to user {found.st_uid}; run: chown -R {os.geteuid()} {folder}")
    if stat.S_IMODE(found.st_mode) != 0o700:
        raise StateError(f"{folder}: mode {stat.S_IMODE(found.st_mode):04o} is not private; run: chmod 0700 {folder}")
    return found


def _check_file(path: Path, folder: os.stat_result, *, create: bool) -> None:
    """Make the file if asked, and see that it is a plain one of the folder's owner."""
    if create:
        with suppress(FileExistsError), _os_faults(path):
            handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            try:
                os.fchmod(handle, 0o600)
                os.fsync(handle)
            finally:
                os.close(handle)
            _sync_folder(path.parent)
    try:
        found = path.lstat()
    except FileNotFoundError:
        raise StateError(f"{path}: no state yet; run: spa-server init") from None
    except OSError as error:
        raise StateError(f"{path}: {error.strerror}") from None
    if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1:
        raise StateError(f"{path}: not a plain file of its own; remove the link and put the file itself there")
    if found.st_uid != folder.st_uid:
        raise StateError(f"{path}: belongs to user {found.st_uid}; run: chown {folder.st_uid} {path}")
    if stat.S_IMODE(found.st_mode) & 0o077:
        raise StateError(f"{path}: mode {stat.S_IMODE(found.st_mode):04o} lets others in; run: chmod 0600 {path}")


def _place(path: Path) -> tuple[int, int] | None:
    """Which file stands there, if one does."""
    try:
        found = path.lstat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def _os_faults(path: Path) -> Iterator[None]:
    try:
        yield
    except FileExistsError:
        raise
    except OSError as error:
        raise StateError(f"{path}: {error.strerror}") from error


@contextmanager
def _faults(path: Path) -> Iterator[None]:
    """Turn what went wrong with the file into a sentence. A broken constraint is the caller's own business."""
    try:
        yield
    except (sqlite3.IntegrityError, sqlite3.ProgrammingError):
        raise
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # the low byte is the primary result code
        kind = StateDamaged if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB) else StateError
        raise kind(f"{path}: {_SENTENCES.get(code, str(error))}") from error
