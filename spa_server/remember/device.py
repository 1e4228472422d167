"""A device and its credentials as rows: what may be written, checked inside the caller's transaction.

Knows the two tables and the shape of names. Not invites, and not when a transaction begins or ends.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from spa_protocol.names import is_label, is_role, is_user
from spa_protocol.signature import VerifyingKey

KEY_BYTES = 32

SELECT_DEVICE = "SELECT id, label, user, roles, enabled, created_s FROM device"
SELECT_CREDENTIAL = "SELECT id, device_id, public_key, gate_secret, created_s, retires_s FROM credential"


class RegistryError(Exception):
    """What was asked of the registry cannot be; the message is a sentence that says why and what to do."""


@dataclass(frozen=True, slots=True)
class Device:
    """One enrolled device. Times are seconds since 1970, UTC."""

    id: int
    label: str
    user: str
    roles: frozenset[str]
    enabled: bool
    created_s: int


@dataclass(frozen=True, slots=True)
class Credential:
    """One pair of keys of a device, dead from `retires_s` on. Its id never stands for another pair.

    `public_key`: as `VerifyingKey.to_bytes` has it: 32 bytes, and behind them the application of a security key.
    """

    id: int
    device_id: int
    public_key: bytes
    gate_secret: bytes = field(repr=False)
    created_s: int
    retires_s: int | None


def to_device(row: tuple[Any, ...]) -> Device:
    """A Device from a row of `SELECT_DEVICE`."""
    number, label, user, roles, enabled, created_s = row
    return Device(number, label, user, frozenset(roles.split()), bool(enabled), created_s)


def joined(roles: Iterable[str]) -> str:
    """Roles as one column; a role has no blanks in it."""
    return " ".join(sorted(roles))


def check_names(label: str, user: str, roles: frozenset[str]) -> None:
    """Raise RegistryError where a name is not of the agreed shape, or there is no role at all."""
    if not is_label(label):
        raise RegistryError(
            f"{label!r} cannot label a device; use 1 to 63 letters, digits, '.', '_', '-', the first a letter or digit"
        )
    if not is_user(user):
        raise RegistryError(f"{user!r} cannot name a user; use 1 to 64 letters, digits, '.', '_', '@', '+', '-'")
    if not roles:
        raise RegistryError(f"{label} needs at least one role; without one it could open nothing")
    for role in sorted(roles):
        if not is_role(role):
            raise RegistryError(
                f"{role!r} cannot name a role; use 1 to 31 lower-case letters, digits, '-', the first a letter"
            )


def check_keys(**keys: bytes) -> None:
    """Raise RegistryError unless every key is `KEY_BYTES` long; the keywords are their names."""
    for name, key in keys.items():
        if len(key) != KEY_BYTES:
            raise RegistryError(f"the {name.replace('_', ' ')} has {len(key)} bytes; it takes {KEY_BYTES}")


def check_public_key(data: bytes) -> None:
    """Raise RegistryError unless these are a public key, with its application where it is a security key's."""
    try:
        VerifyingKey.from_bytes(data)
    except ValueError as error:
        raise RegistryError(f"this is no public key: {error}") from None


def find(connection: sqlite3.Connection, label: str) -> Device | None:
    """The device of this label, if there is one."""
    row = connection.execute(SELECT_DEVICE + " WHERE label = ?", (label,)).fetchone()
    return None if row is None else to_device(row)


def existing(connection: sqlite3.Connection, label: str) -> Device:
    """The device of this label; RegistryError if there is none."""
    device = find(connection, label)
    if device is None:
        raise RegistryError(f"there is no device {label!r}; see: spa-server device list")
    return device


def check_same(device: Device | None, user: str, roles: frozenset[str]) -> None:
    """Refuse to hand a device to another user or other roles in passing: that would be a key rotation no more."""
    if device is not None and (device.user, device.roles) != (user, roles):
        has = ", ".join(sorted(device.roles))
        raise RegistryError(
            f"there is already a device {device.label} of user {device.user} with role {has}; "
            f"give the same to rotate its keys, another label, or first: spa-server device remove {device.label}"
        )


def new_device(
    connection: sqlite3.Connection, label: str, user: str, roles: frozenset[str], *, enabled: bool, created_s: int
) -> Device:
    """Add a device that has no credential yet. The names are checked by now."""
    try:
        row = connection.execute(
            "INSERT INTO device (label, user, roles, enabled, created_s) VALUES (?, ?, ?, ?, ?) RETURNING id",
            (label, user, joined(roles), enabled, created_s),
        ).fetchone()
    except sqlite3.IntegrityError:
        raise RegistryError(
            f"there is already a device {label}; choose another label, or first: spa-server device remove {label}"
        ) from None
    return Device(row[0], label, user, roles, enabled, created_s)


def new_credential(
    connection: sqlite3.Connection,
    device: Device,
    public_key: bytes,
    gate_secret: bytes,
    created_s: int,
    retires_s: int | None = None,
) -> int:
    """Add a credential and return its id: the one it had before, if this very pair was ever known here.

    A second factor that the device gave with another key counts no more.
    """
    check_public_key(public_key)
    check_keys(gate_secret=gate_secret)
    other = connection.execute(
        "SELECT label FROM credential JOIN device ON device.id = device_id WHERE public_key = ? AND device_id != ?",
        (public_key, device.id),
    ).fetchone()
    if other is not None:
        raise RegistryError(f"this public key already belongs to device {other[0]}; make a new key for {device.label}")
    # The secret is random, so this tells nothing about it once it is erased.
    fingerprint = hashlib.blake2b(public_key + gate_secret, digest_size=32, person=b"spa credential").digest()
    connection.execute("INSERT INTO credential_number (fingerprint) VALUES (?) ON CONFLICT DO NOTHING", (fingerprint,))
    number = connection.execute("SELECT id FROM credential_number WHERE fingerprint = ?", (fingerprint,)).fetchone()[0]
    connection.execute("DELETE FROM factor WHERE label = ?", (device.label,))
    try:
        connection.execute(
            "INSERT INTO credential VALUES (?, ?, ?, ?, ?, ?)",
            (number, device.id, public_key, gate_secret, created_s, retires_s),
        )
    except sqlite3.IntegrityError:
        raise RegistryError("this gate secret is in use by a device; draw a new one") from None
    return int(number)


def retire_credentials(connection: sqlite3.Connection, device: Device, now_s: int, overlap_s: int) -> None:
    """End the device's credentials after `overlap_s`, none later than it was to end already.

    Without an overlap they are erased at once, and then no clock set back can bring them to life again.
    """
    if overlap_s <= 0:
        connection.execute("DELETE FROM credential WHERE device_id = ?", (device.id,))
        return
    connection.execute(
        "UPDATE credential SET retires_s = min(coalesce(retires_s, ?1), ?1) WHERE device_id = ?2",
        (now_s + overlap_s, device.id),
    )
