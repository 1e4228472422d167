"""Which source addresses a device was let in from, so that shutting it out ends what it has open there.

A lease in the kernel bears one name only, the one that asked last; and a session that outlives its lease bears none. So
the addresses are written down here before each grant. Knows labels and addresses, not leases.
"""

from __future__ import annotations

import sqlite3
from ipaddress import ip_address

from spa_server.remember.store import StateError, Store
from spa_server.remember.used import NotRecorded
from spa_server.service import Address

MOST_SOURCES = 20_000
"""Pairs of device and address that are kept, the latest ones."""
FRESH_S = 3600
"""A pair that was written down within this time is not written again."""


class SourcesOfDevices:
    """The record in one store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._fresh: dict[tuple[str, Address], int] = {}

    def note(self, label: str, source: Address, now_s: int) -> None:
        """Write a pair down; on return it is committed. Raises NotRecorded."""
        if 0 <= now_s - self._fresh.get((label, source), -FRESH_S) < FRESH_S:
            return
        try:
            with self._store.quick() as connection:
                connection.execute(
                    "INSERT OR REPLACE INTO source_of_device (label, source, last_s) VALUES (?, ?, ?)",
                    (label, str(source), now_s),
                )
        except (StateError, sqlite3.Error) as error:
            raise NotRecorded(str(error)) from error
        if len(self._fresh) >= MOST_SOURCES:
            self._fresh.clear()
        self._fresh[label, source] = now_s

    def of(self, label: str) -> tuple[Address, ...]:
        """Every address that the device was let in from, as far as is kept. Raises StateError."""
        rows = self._store.rows("SELECT source FROM source_of_device WHERE label = ? ORDER BY source", label)
        return tuple(ip_address(source) for (source,) in rows)

    def prune(self) -> None:
        """Forget the oldest beyond MOST_SOURCES. Raises StateError."""
        if self._store.rows("SELECT count(*) FROM source_of_device")[0][0] <= MOST_SOURCES:
            return
        self._fresh.clear()
        with self._store.quick() as connection:
            connection.execute(
                "DELETE FROM source_of_device WHERE (label, source) IN (SELECT label, source FROM source_of_device"
                " ORDER BY last_s DESC LIMIT -1 OFFSET ?)",
                (MOST_SOURCES // 2,),
            )
