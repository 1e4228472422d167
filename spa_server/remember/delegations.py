"""What is known of delegations: which were used, and which an operator has taken back.

A certificate travels in each knock of its delegate, so the server needs to be told of none. It writes down those that
it meets, for people to read, and keeps what was revoked: all certificates of a device for a delegate's name that were
issued up to a time. Knows rows, not certificates' signatures.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass

from spa_protocol.delegation import Certificate
from spa_server.remember.device import Device, RegistryError, existing
from spa_server.remember.store import StateError, Store
from spa_server.remember.used import NotRecorded

MOST_DELEGATIONS = 10_000
"""Rows that are kept, those used last."""
FRESH_S = 3600
"""A delegation that was written down within this time is not written again."""

Revoked = Mapping[tuple[int, str], int]
"""By device and delegate's name ("" for all of the device's): void is what was issued up to that time, s."""


@dataclass(frozen=True, slots=True)
class SeenDelegation:
    """A delegation that was used. Times are seconds since 1970, UTC."""

    device: str
    name: str
    services: tuple[str, ...]
    issued_s: int
    expires_s: int
    last_s: int
    revoked: bool


class Delegations:
    """The record in one store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._fresh: dict[tuple[int, str, int], int] = {}

    def note(self, device: Device, certificate: Certificate, now_s: int) -> None:
        """Write down that it is used; on return that is committed. Raises NotRecorded."""
        key = device.id, certificate.name, certificate.issued_s
        if 0 <= now_s - self._fresh.get(key, -FRESH_S) < FRESH_S:
            return
        row = (*key[:2], " ".join(certificate.services), certificate.issued_s, certificate.expires_s, now_s)
        try:
            with self._store.quick() as connection:
                connection.execute(
                    "INSERT OR REPLACE INTO delegation (device_id, name, services, issued_s, expires_s, last_s)"
                    " VALUES (?, ?, ?, ?, ?, ?)",
                    row,
                )
        except (StateError, sqlite3.Error, OverflowError) as error:
            raise NotRecorded(str(error)) from error
        if len(self._fresh) >= MOST_DELEGATIONS:
            self._fresh.clear()
        self._fresh[key] = now_s

    def revoked(self) -> Revoked:
        """All that was taken back. Raises StateError."""
        rows = self._store.rows("SELECT device_id, name, up_to_s FROM revoked_delegation")
        return {(device_id, name): up_to_s for device_id, name, up_to_s in rows}

    def seen(self, label: str | None = None) -> tuple[SeenDelegation, ...]:
        """Every delegation that was used, or those of one device, by device and name. Raises StateError."""
        rows = self._store.rows(
            "SELECT device.id, label, name, services, issued_s, expires_s, last_s FROM delegation"
            " JOIN device ON device.id = device_id WHERE label = coalesce(?, label) ORDER BY label, name, issued_s",
            label,
        )
        revoked = self.revoked()
        return tuple(
            SeenDelegation(
                device,
                name,
                tuple(services.split()),
                issued_s,
                expires_s,
                last_s,
                is_revoked(revoked, number, name, issued_s),
            )
            for number, device, name, services, issued_s, expires_s, last_s in rows
        )

    def revoke(self, label: str, name: str, up_to_s: int) -> Device:
        """Make void what the device delegated to that name ("": to anybody) up to then. Raises RegistryError."""
        with self._store.durable() as connection:
            device = existing(connection, label)
            make_void(connection, device, name, up_to_s)
            if connection.execute("SELECT count(*) FROM revoked_delegation").fetchone()[0] > MOST_DELEGATIONS:
                raise RegistryError(
                    f"more than {MOST_DELEGATIONS} delegations are revoked by name: revoke all of a device instead"
                )
            if not name:
                connection.execute(
                    "DELETE FROM revoked_delegation WHERE device_id = ? AND name != '' AND up_to_s <= ?",
                    (device.id, up_to_s),
                )
        return device

    def prune(self) -> None:
        """Forget the rows used longest ago, beyond the limit. What was revoked stays. Raises StateError."""
        if self._store.rows("SELECT count(*) FROM delegation")[0][0] <= MOST_DELEGATIONS:
            return
        self._fresh.clear()
        with self._store.quick() as connection:
            connection.execute(
                "DELETE FROM delegation WHERE (device_id, name, issued_s) IN (SELECT device_id, name, issued_s"
                " FROM delegation ORDER BY last_s DESC LIMIT -1 OFFSET ?)",
                (MOST_DELEGATIONS // 2,),
            )


def make_void(connection: sqlite3.Connection, device: Device, name: str, up_to_s: int) -> None:
    """Within the caller's transaction, void is what the device delegated to that name ("": to anybody) up to then."""
    connection.execute(
        "INSERT INTO revoked_delegation (device_id, name, up_to_s) VALUES (?, ?, ?)"
        " ON CONFLICT DO UPDATE SET up_to_s = max(up_to_s, excluded.up_to_s)",
        (device.id, name, up_to_s),
    )


def is_revoked(revoked: Revoked, device_id: int, name: str, issued_s: int) -> bool:
    """Whether a certificate of that device, name and time was taken back."""
    return any(issued_s <= revoked.get((device_id, each), -1) for each in (name, ""))
