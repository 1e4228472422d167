"""What is open now, by whom, written down before it is opened: a process that starts must know whom it let in.

A row is handed to the kernel and not forced to the disk: only a crash of the whole machine loses it, and with that the
leases are gone, too. For the same reason rows of another boot are void. Knows rows, not what a session is: what is
remembered of one is its writer's text.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from ipaddress import ip_address

from spa_server.lease_label import is_of
from spa_server.remember.store import StateError, Store
from spa_server.remember.used import NotRecorded
from spa_server.service import Address

_WHERE = "WHERE label = ? AND source = ? AND destination = ? AND service = ?"


@dataclass(frozen=True, slots=True)
class SessionKey:
    """What a label was given: one service, from one address towards another."""

    label: str
    source: Address
    destination: Address
    service: str

    def columns(self) -> tuple[str, str, str, str]:
        """As a row has it."""
        return self.label, str(self.source), str(self.destination), self.service


class SessionRecord:
    """The record in one store, of one boot."""

    def __init__(self, store: Store, boot_id: str) -> None:
        self._store = store
        self._boot_id = boot_id

    def read(self) -> Mapping[SessionKey, str]:
        """The facts of everything that this boot's processes have opened and not forgotten. Raises StateError."""
        with self._store.quick() as connection:
            connection.execute("DELETE FROM live_session WHERE boot_id != ?", (self._boot_id,))
        rows = self._store.rows("SELECT label, source, destination, service, facts FROM live_session")
        return {_key(*columns): facts for *columns, facts in rows}

    def write(self, facts: Mapping[SessionKey, str], spared: Collection[SessionKey] = ()) -> None:
        """On return it is committed, in place of what stood there. Raises NotRecorded."""
        rows = [(*key.columns(), self._boot_id, text, key in spared) for key, text in facts.items()]
        try:
            with self._store.quick() as connection:
                connection.executemany(
                    "INSERT OR REPLACE INTO live_session (label, source, destination, service, boot_id, facts, spared)"
                    " VALUES (?, ?, ?, ?, ?, ?, ?)",
                    rows,
                )
        except (StateError, sqlite3.Error) as error:
            raise NotRecorded(str(error)) from error

    def forget(self, keys: Iterable[SessionKey]) -> None:
        """It is over. Raises StateError."""
        with self._store.quick() as connection:
            connection.executemany(f"DELETE FROM live_session {_WHERE}", [key.columns() for key in keys])  # noqa: S608

    def spared(self) -> frozenset[SessionKey]:
        """What is left to whoever was shut out, until its own end. Raises StateError."""
        rows = self._store.rows("SELECT label, source, destination, service FROM live_session WHERE spared")
        return frozenset(_key(*columns) for columns in rows)


def spare(store: Store, label: str) -> None:
    """Leave to a device, and its delegates, what it has open now, whatever is decided of it next. Raises StateError."""
    with store.durable() as connection:
        written = [text for (text,) in connection.execute("SELECT DISTINCT label FROM live_session")]
        whose = [(text,) for text in written if is_of(text, label)]
        connection.executemany("UPDATE live_session SET spared = 1 WHERE label = ?", whose)


def _key(label: str, source: str, destination: str, service: str) -> SessionKey:
    return SessionKey(label, ip_address(source), ip_address(destination), service)
