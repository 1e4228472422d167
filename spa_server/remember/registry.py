"""Who may knock: devices, their credentials, and the invites by which they come to be.

A device is a label, a user and roles; a credential is one (public key, gate secret) of it. A device has more than one
while a rotation overlaps. Knows the store and the shape of names; nothing of tags, messages or services.

Every change is one durable transaction: all of it or none. What a person asked for and cannot have is a RegistryError,
a sentence to show as it is; a fault of the file is a StateError.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from spa_server.remember.device import (
    SELECT_CREDENTIAL,
    SELECT_DEVICE,
    Credential,
    Device,
    RegistryError,
    check_keys,
    check_names,
    check_public_key,
    check_same,
    existing,
    find,
    joined,
    new_credential,
    new_device,
    retire_credentials,
    to_device,
)
from spa_server.remember.store import StateError, Store
from spa_server.remember.transfer import read_devices, write_devices

__all__ = ["Credential", "Device", "Invite", "InviteExpired", "InviteUsed", "Registry", "RegistryError"]

_SELECT_INVITE = (
    "SELECT id, label, user, roles, gate_secret, exchange_key, created_s, expires_s, overlap_s, used_by_key,"
    " used_exchange FROM invite"
)


class InviteExpired(RegistryError):
    """The invite's time is over."""


class InviteUsed(RegistryError):
    """The invite has been redeemed by another key."""


@dataclass(frozen=True, slots=True)
class Invite:
    """One invite. `exchange_key` is the server's private half for the key exchange, None once redeemed.

    `used_by_key` and `used_exchange` are the public halves that redeemed it. `overlap_s` is how long the older
    credentials of the device live on, if by then there is such a device.
    """

    id: int
    label: str
    user: str
    roles: frozenset[str]
    gate_secret: bytes = field(repr=False)
    exchange_key: bytes | None = field(repr=False)
    created_s: int
    expires_s: int
    overlap_s: int
    used_by_key: bytes | None
    used_exchange: bytes | None


class Registry:
    """The devices, credentials and invites in one store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._own_edits = 0

    def version(self) -> int:
        """A number that is another one after any edit, by this Registry or by another process. Costs microseconds."""
        return self._store.data_version() + self._own_edits

    def devices(self) -> tuple[Device, ...]:
        """Every device, by label."""
        return tuple(to_device(row) for row in self._store.rows(SELECT_DEVICE + " ORDER BY label"))

    def device(self, label: str) -> Device | None:
        """The device of this label, if there is one."""
        rows = self._store.rows(SELECT_DEVICE + " WHERE label = ?", label)
        return to_device(rows[0]) if rows else None

    def credentials(self, now_s: int) -> tuple[Credential, ...]:
        """Every credential that is not retired, those of disabled devices included: they are told so."""
        where = " WHERE retires_s IS NULL OR retires_s > ? ORDER BY id"
        return tuple(Credential(*row) for row in self._store.rows(SELECT_CREDENTIAL + where, now_s))

    def invites(self, now_s: int) -> tuple[Invite, ...]:
        """Every invite that has not expired, used ones included: a second use is told so."""
        rows = self._store.rows(_SELECT_INVITE + " WHERE expires_s > ? ORDER BY id", now_s)
        return tuple(_to_invite(row) for row in rows)

    def add_device(
        self, label: str, user: str, roles: Iterable[str], public_key: bytes, gate_secret: bytes, now_s: int
    ) -> Device:
        """A new device with one credential."""
        roles = frozenset(roles)
        check_names(label, user, roles)
        with self._store.durable() as connection:
            device = new_device(connection, label, user, roles, enabled=True, created_s=now_s)
            new_credential(connection, device, public_key, gate_secret, now_s)
        self._edited()
        return device

    def set_enabled(self, label: str, enabled: bool) -> Device:
        """Let a device in again, or keep it out without forgetting it; then its invites are void, too."""
        with self._store.durable() as connection:
            connection.execute("UPDATE device SET enabled = ? WHERE label = ?", (enabled, label))
            device = existing(connection, label)
            if not enabled:
                connection.execute("DELETE FROM invite WHERE label = ?", (label,))
        self._edited(erased=not enabled)
        return device

    def set_roles(self, label: str, roles: Iterable[str]) -> Device:
        """Give a device other roles; its unused invites, which are for the old ones, are void."""
        with self._store.durable() as connection:
            device = existing(connection, label)
            roles = frozenset(roles)
            check_names(label, device.user, roles)
            connection.execute("UPDATE device SET roles = ? WHERE label = ?", (joined(roles), label))
            connection.execute("DELETE FROM invite WHERE label = ? AND used_by_key IS NULL", (label,))
            changed = existing(connection, label)
        self._edited(erased=True)
        return changed

    def remove(self, label: str) -> Device:
        """Forget a device, its credentials and its invites; what it used stays used. Returns what it was."""
        with self._store.durable() as connection:
            device = existing(connection, label)
            connection.execute("DELETE FROM device WHERE id = ?", (device.id,))
            connection.execute("DELETE FROM invite WHERE label = ?", (label,))
            connection.execute("DELETE FROM factor WHERE label = ?", (label,))
        self._edited(erased=True)
        return device

    def add_invite(
        self,
        label: str,
        user: str,
        roles: Iterable[str],
        gate_secret: bytes,
        exchange_key: bytes,
        now_s: int,
        expires_s: int,
        overlap_s: int = 0,
    ) -> Invite:
        """A new invite, good until `expires_s` (a time). For an existing label it is one to rotate keys."""
        roles = frozenset(roles)
        check_names(label, user, roles)
        check_keys(gate_secret=gate_secret, exchange_key=exchange_key)
        if expires_s <= now_s:
            raise RegistryError("the invite would have expired already; give it some time, such as --expires 1h")
        with self._store.durable() as connection:
            check_same(find(connection, label), user, roles)
            try:
                number = connection.execute(
                    "INSERT INTO invite (label, user, roles, gate_secret, exchange_key, created_s, expires_s,"
                    " overlap_s) VALUES (?, ?, ?, ?, ?, ?, ?, ?) RETURNING id",
                    (label, user, joined(roles), gate_secret, exchange_key, now_s, expires_s, max(overlap_s, 0)),
                ).fetchone()[0]
            except sqlite3.IntegrityError:
                raise RegistryError("this gate secret is in use by another invite; draw a new one") from None
            invite = _existing_invite(connection, number)
        self._edited()
        return invite

    def withdraw_invites(self, label: str) -> int:
        """Make every invite for a label that nobody has used void. Returns how many there were."""
        with self._store.durable() as connection:
            void = "DELETE FROM invite WHERE label = ? AND used_by_key IS NULL"
            count = connection.execute(void, (label,)).rowcount
        self._edited(erased=True)
        return count

    def drop_invites(self, expired_before_s: int) -> int:
        """Erase invites that expired before this time: their secrets are of no more use. Returns how many."""
        with self._store.durable() as connection:
            count = connection.execute("DELETE FROM invite WHERE expires_s < ?", (expired_before_s,)).rowcount
        if count:
            self._edited(erased=True)
        return count

    def redeem(
        self, invite_id: int, public_key: bytes, exchange_public: bytes, gate_secret: bytes | None, now_s: int
    ) -> Device:
        """Turn an invite into a device, or into a newer credential of the device of its label.

        The same key and exchange again give the same device and change nothing, so that a client whose answer was
        lost can ask once more; `gate_secret` may then be None. Raises InviteUsed, InviteExpired or RegistryError.
        """
        check_public_key(public_key)
        check_keys(exchange_public=exchange_public)
        with self._store.durable() as connection:
            invite = _existing_invite(connection, invite_id)
            _check_redeemable(invite, public_key, exchange_public, now_s)
            device = find(connection, invite.label)
            if invite.used_by_key is not None:
                return _redeemed(connection, device, invite)
            gate_secret = gate_secret or b""
            check_keys(gate_secret=gate_secret)
            if device is None:
                device = new_device(connection, invite.label, invite.user, invite.roles, enabled=True, created_s=now_s)
            else:
                check_same(device, invite.user, invite.roles)
                retire_credentials(connection, device, now_s, invite.overlap_s)
            new_credential(connection, device, public_key, gate_secret, now_s)
            connection.execute(
                "UPDATE invite SET exchange_key = NULL, used_by_key = ?, used_exchange = ? WHERE id = ?",
                (public_key, exchange_public, invite.id),
            )
        self._edited(erased=True)
        return device

    def export(self) -> list[dict[str, Any]]:
        """Every device with its credentials, fit for JSON. It holds gate secrets: keep it as a secret."""
        return write_devices(self._store)

    def import_(self, records: object, first_window: int) -> tuple[Device, ...]:
        """Add every device of an export, or none if any cannot be added.

        This file may not know what the devices have used elsewhere, so their windows before `first_window` stay shut:
        give the first that nobody can have named yet, (now_s + max_skew_s) // window_s + 1.
        """
        with self._store.durable() as connection:
            devices = read_devices(connection, records, first_window)
        self._edited()
        return devices

    def _edited(self, *, erased: bool = False) -> None:
        self._own_edits += 1
        if erased:
            # The log still holds the pages as they were. Where it cannot be emptied now, a later checkpoint does it.
            with suppress(StateError):
                self._store.checkpoint(truncate=True)


def _to_invite(row: tuple[Any, ...]) -> Invite:
    number, label, user, roles, *rest = row
    return Invite(number, label, user, frozenset(roles.split()), *rest)


def _existing_invite(connection: sqlite3.Connection, number: int) -> Invite:
    row = connection.execute(_SELECT_INVITE + " WHERE id = ?", (number,)).fetchone()
    if row is None:
        raise RegistryError("there is no such invite; make a new one: spa-server invite LABEL")
    return _to_invite(row)


def _check_redeemable(invite: Invite, public_key: bytes, exchange_public: bytes, now_s: int) -> None:
    again = f"make a new one: spa-server invite {invite.label}"
    used_by = (invite.used_by_key, invite.used_exchange)
    if used_by not in ((None, None), (public_key, exchange_public)):
        raise InviteUsed(f"the invite for {invite.label} has been used; {again}")
    if invite.expires_s <= now_s:
        raise InviteExpired(f"the invite for {invite.label} has expired; {again}")


def _redeemed(connection: sqlite3.Connection, device: Device | None, invite: Invite) -> Device:
    """What the invite gave at its first use, if that is still there."""
    if device is not None:
        sql = SELECT_CREDENTIAL + " WHERE device_id = ? AND public_key = ?"
        if connection.execute(sql, (device.id, invite.used_by_key)).fetchone() is not None:
            return device
    raise InviteUsed(
        f"the invite for {invite.label} has been used, and what it gave is gone; "
        f"make a new one: spa-server invite {invite.label}"
    )
