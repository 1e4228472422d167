"""Which one-time slots have been used: at most once, whatever happens.

Knows credentials and invites by number only, and no clock at all.

A (kind, credential, window, slot) is used by inserting it under a primary key, committed before `use` returns: of any
number of callers, in any order and over any restarts, exactly one is told FIRST. If it cannot be recorded, NotRecorded
is raised and nothing may be granted.

The table is bounded by count, never by time. `prune` deletes whole windows, lowest numbers first, and in the same
transaction raises a floor to just above the highest window it deleted; every window below the floor is RETIRED, for
ever. A slot thus goes from unused to used or retired and never back, and neither step asks what time it is. A clock
that is set back, forward or stopped can therefore make the server refuse honest knocks (their windows may lie below
the floor) but can never make a used slot fresh. Pruning by age would not have this: a clock set forward would age
records out, and when it came back their datagrams would open a second time.
"""

from __future__ import annotations

import sqlite3
from enum import Enum, IntEnum, auto

from spa_server.remember.store import StateError, Store

_EVERY_CREDENTIAL = 0


class Use(Enum):
    """What `use` found."""

    FIRST = auto()
    """Not used before, and now it is: the only answer after which anything may be granted."""
    AGAIN = auto()
    RETIRED = auto()
    """The window was pruned, or lies before the first that its credential may use."""


class SlotKind(IntEnum):
    """Whose slots: credentials and invites are numbered apart, and clock windows are a day long, not a minute."""

    CREDENTIAL = 1
    INVITE = 2
    CREDENTIAL_CLOCK = 3
    INVITE_CLOCK = 4


class NotRecorded(Exception):
    """The use could not be written down, so nothing may be granted; the message says why."""


class UsedSlots:
    """The record of used slots in one store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def use(self, credential_id: int, window: int, slot: int, kind: SlotKind = SlotKind.CREDENTIAL) -> Use:
        """Use one slot. On return the answer is committed. Raises NotRecorded."""
        try:
            with self._store.quick() as connection:
                floor = connection.execute(
                    "SELECT max(first_window) FROM used_floor WHERE kind = ? AND credential_id IN (?, ?)",
                    (kind, _EVERY_CREDENTIAL, credential_id),
                ).fetchone()[0]
                if floor is not None and window < floor:
                    return Use.RETIRED
                done = connection.execute(
                    "INSERT INTO used (kind, window, credential_id, slot) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
                    (kind, window, credential_id, slot),
                )
                return Use.FIRST if done.rowcount == 1 else Use.AGAIN
        except (StateError, sqlite3.Error, OverflowError) as error:
            raise NotRecorded(str(error)) from error

    def count(self) -> int:
        """How many uses are held."""
        return int(self._store.rows("SELECT count(*) FROM used")[0][0])

    def prune(self, limit: int) -> int:
        """Where a kind has more than `limit` rows, delete its lowest windows until at most half of `limit` are left.

        Returns how many were deleted. `limit` must be more than twice what the live windows can hold (credentials x
        slots x windows), or the newest windows are retired too and honest knocks refused. Raises StateError.
        """
        if limit < 2:
            raise ValueError("a limit of at least 2 rows is needed")
        return sum(self._prune_kind(kind, limit) for kind in SlotKind)

    def _prune_kind(self, kind: SlotKind, limit: int) -> int:
        # Looked at first without the write lock: nearly always there is nothing to do.
        if self._store.rows("SELECT count(*) FROM used WHERE kind = ?", kind)[0][0] <= limit:
            return 0
        with self._store.quick() as connection:
            newest_to_go = connection.execute(
                "SELECT window FROM used WHERE kind = ? ORDER BY window DESC LIMIT 1 OFFSET ?", (kind, limit // 2)
            ).fetchone()[0]
            raise_floor(connection, kind, _EVERY_CREDENTIAL, newest_to_go + 1)
            return connection.execute("DELETE FROM used WHERE kind = ? AND window <= ?", (kind, newest_to_go)).rowcount


def raise_floor(connection: sqlite3.Connection, kind: SlotKind, credential_id: int, first_window: int) -> None:
    """Within a transaction: retire every window before `first_window`. A floor is never lowered."""
    connection.execute(
        "INSERT INTO used_floor (kind, credential_id, first_window) VALUES (?, ?, ?)"
        " ON CONFLICT DO UPDATE SET first_window = max(first_window, excluded.first_window)",
        (kind, credential_id, first_window),
    )
