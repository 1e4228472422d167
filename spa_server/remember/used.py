"""Which one-time slots have been used: at most once, whatever happens.

Knows credentials by number only, and no clock at all.

A (credential, window, slot) is used by inserting it under a primary key, committed before `use` returns: of any
number of callers, in any order and over any restarts, exactly one is told FIRST. If it cannot be recorded, NotRecorded
is raised and nothing may be granted.

The table is bounded by count, never by time. `prune` deletes whole windows, lowest numbers first, and in the same
transaction raises a floor to just above the highest window it deleted; every window below the floor is RETIRED, for
ever. A slot thus goes from unused to used or retired and never back, and neither step asks what time it is. A clock
that is set back, forward or stopped can therefore make the server refuse honest knocks (their windows may lie below
the floor) but can never make a used slot fresh. Pruning by age would not have this: a clock set forward would age
records out, and when it came back their datagrams would open a second time.

A use that could not be recorded is refused for good all the same: whoever overheard its datagram could send it again
once there is room on the disk. Until the state can take it, it is kept in memory and by the witness (`witness.py`).

Most uses are not forced to the disk, so a power cut can lose them. The first use in every window is, together with the
window's number: after another boot `retire_lost` raises the floor to just above the highest of these, and so every
use that can have been lost lies below it, whatever the clock says after the boot. It costs an fsync a minute at most.
"""

from __future__ import annotations

import logging
import sqlite3
from enum import Enum, auto
from typing import Any

from spa_server.remember.store import StateError, Store
from spa_server.remember.witness import MOST_OWED, Slot, Witness

LOG = logging.getLogger(__name__)

_EVERY_CREDENTIAL = 0
_SELECT_FORCED = "SELECT window FROM used_forced"


class Use(Enum):
    """What `use` found."""

    FIRST = auto()
    """Not used before, and now it is: the only answer after which anything may be granted."""
    AGAIN = auto()
    RETIRED = auto()
    """The window was pruned, or lies before the first that its credential may use."""


class NotRecorded(Exception):
    """The use could not be written down, so nothing may be granted; the message says why."""


class UsedSlots:
    """The record of used slots in one store."""

    def __init__(self, store: Store, witness: Witness | None = None) -> None:
        """Without a `witness` nothing of what the state cannot take outlasts this process."""
        self._store = store
        self._forced_window = _newest_forced(store.rows(_SELECT_FORCED))
        self._witness = witness
        self._owed = set(witness.owed) if witness is not None else set()
        self._first_window = 0

    def use(self, credential_id: int, window: int, slot: int) -> Use:
        """Use one slot. On return the answer is committed. Raises NotRecorded, and then the slot is void."""
        used = Slot(credential_id, window, slot)
        if used in self._owed or window < self._first_window:
            return Use.AGAIN
        force = window > self._forced_window
        try:
            with self._store.durable() if force else self._store.quick() as connection:
                floor = _floor(connection, credential_id)
                if floor is not None and window < floor:
                    return Use.RETIRED
                done = connection.execute(
                    "INSERT INTO used (window, credential_id, slot) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
                    (window, credential_id, slot),
                )
                if force:
                    connection.execute("INSERT OR REPLACE INTO used_forced (only_row, window) VALUES (1, ?)", (window,))
            if self._witness is not None:
                self._witness.note(used)
        except (StateError, sqlite3.Error, OverflowError) as error:
            self.void(used)
            raise NotRecorded(str(error)) from error
        self._forced_window = max(self._forced_window, window)
        return Use.FIRST if done.rowcount == 1 else Use.AGAIN

    def void(self, slot: Slot) -> None:
        """Take a slot as used, whether or not that can be recorded now. Never raises."""
        if slot in self._owed:
            return
        if len(self._owed) >= MOST_OWED:
            self._first_window = max(self._first_window, slot.window + 1)
            return
        self._owed.add(slot)
        if self._witness is not None:
            try:
                self._witness.owe(slot)
            except StateError as error:
                LOG.warning("a slot is void until this process ends, and no longer: %s", error)

    def settle(self) -> None:
        """Record what could not be recorded; call every turn. Raises StateError."""
        if not self._owed:
            return
        with self._store.durable() as connection:
            connection.executemany(
                "INSERT INTO used (credential_id, window, slot) VALUES (?, ?, ?) ON CONFLICT DO NOTHING", self._owed
            )
        if self._witness is not None:
            self._witness.settle()
        self._owed.clear()

    def first_window(self) -> int:
        """The floor under every credential: no lower window is ever accepted."""
        rows = self._store.rows("SELECT first_window FROM used_floor WHERE credential_id = ?", _EVERY_CREDENTIAL)
        return int(rows[0][0]) if rows else 0

    def of_window(self, window: int) -> frozenset[tuple[int, int]]:
        """Every (credential, slot) used in a window, or void. Raises StateError."""
        rows = self._store.rows("SELECT credential_id, slot FROM used WHERE window = ?", window)
        owed = ((slot.credential_id, slot.number) for slot in self._owed if slot.window == window)
        return frozenset([*rows, *owed])

    def count(self) -> int:
        """How many uses are held."""
        return int(self._store.rows("SELECT count(*) FROM used")[0][0])

    def prune(self, keep: int, most: int) -> int:
        """Where there are more than `most` rows, delete the lowest windows until at most `keep` are left.

        Returns how many were deleted. `keep` must be at least what the live windows can hold (`Gate.capacity`), or live
        windows are retired too and honest knocks refused. Raises StateError.
        """
        if not 1 <= keep <= most:
            raise ValueError("at least 1 row is kept, and not more than there may be")
        # Looked at first without the write lock: nearly always there is nothing to do.
        if self.count() <= most:
            return 0
        with self._store.quick() as connection:
            newest_to_go = connection.execute(
                "SELECT window FROM used ORDER BY window DESC LIMIT 1 OFFSET ?", (keep,)
            ).fetchone()[0]
            raise_floor(connection, _EVERY_CREDENTIAL, newest_to_go + 1)
            return connection.execute("DELETE FROM used WHERE window <= ?", (newest_to_go,)).rowcount


def knows(connection: sqlite3.Connection, slot: Slot) -> bool:
    """Within a transaction: whether the slot is used here, or retired."""
    floor = _floor(connection, slot.credential_id)
    if floor is not None and slot.window < floor:
        return True
    where = "SELECT 1 FROM used WHERE (credential_id, window, slot) = (?, ?, ?)"
    return connection.execute(where, slot).fetchone() is not None


def _floor(connection: sqlite3.Connection, credential_id: int) -> int | None:
    found: int | None = connection.execute(
        "SELECT max(first_window) FROM used_floor WHERE credential_id IN (?, ?)", (_EVERY_CREDENTIAL, credential_id)
    ).fetchone()[0]
    return found


def raise_floor(connection: sqlite3.Connection, credential_id: int, first_window: int) -> None:
    """Within a transaction: retire every window before `first_window`. A floor is never lowered."""
    connection.execute(
        "INSERT INTO used_floor (credential_id, first_window) VALUES (?, ?)"
        " ON CONFLICT DO UPDATE SET first_window = max(first_window, excluded.first_window)",
        (credential_id, first_window),
    )


def retire_lost(connection: sqlite3.Connection, highest_window: int = -1) -> None:
    """Within a transaction, where uses were lost: retire every window in which one can have been.

    `highest_window`: the highest that is known to have been used, where that is known from elsewhere.
    """
    newest = _newest_forced(connection.execute(_SELECT_FORCED).fetchall())
    raise_floor(connection, _EVERY_CREDENTIAL, max(newest, highest_window) + 1)


def _newest_forced(rows: list[tuple[int]] | list[tuple[Any, ...]]) -> int:
    return int(rows[0][0]) if rows else -1
