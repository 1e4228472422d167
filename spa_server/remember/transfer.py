"""Devices as plain values fit for JSON, out of one registry and into another.

What was revoked of a device's delegations goes with it: its certificates are good wherever its keys are. What comes in
is outside text: everything is checked, and the first thing wrong names its entry.
"""

from __future__ import annotations

import sqlite3
from typing import Any

from spa_protocol.names import is_delegate_name
from spa_server.remember.delegations import Delegations, make_void
from spa_server.remember.device import (
    SELECT_CREDENTIAL,
    SELECT_DEVICE,
    Credential,
    Device,
    RegistryError,
    check_names,
    new_credential,
    new_device,
    to_device,
)
from spa_server.remember.store import Store
from spa_server.remember.used import raise_floor

_LATEST_S = 1 << 40
"""Times beyond this are not times."""


def write_devices(store: Store) -> list[dict[str, Any]]:
    """Every device with its credentials and what was revoked of its delegations, by label."""
    credentials: dict[int, list[dict[str, Any]]] = {}
    for row in store.rows(SELECT_CREDENTIAL + " ORDER BY id"):
        credential = Credential(*row)
        credentials.setdefault(credential.device_id, []).append(
            {
                "public_key": credential.public_key.hex(),
                "gate_secret": credential.gate_secret.hex(),
                "created_s": credential.created_s,
                "retires_s": credential.retires_s,
            }
        )
    revoked: dict[int, list[dict[str, Any]]] = {}
    for (device_id, name), up_to_s in sorted(Delegations(store).revoked().items()):
        revoked.setdefault(device_id, []).append({"delegate": name, "up_to_s": up_to_s})
    return [
        {
            "label": device.label,
            "user": device.user,
            "roles": sorted(device.roles),
            "enabled": device.enabled,
            "created_s": device.created_s,
            "credentials": credentials.get(device.id, []),
            "revoked_delegations": revoked.get(device.id, []),
        }
        for device in (to_device(row) for row in store.rows(SELECT_DEVICE + " ORDER BY label"))
    ]


def read_devices(connection: sqlite3.Connection, records: object, first_window: int) -> tuple[Device, ...]:
    """Add every device of `records` within the caller's transaction, or raise RegistryError at the first bad one."""
    if not isinstance(records, list):
        raise RegistryError("this is not an export of devices; it takes what spa-server device export printed")
    devices = []
    for number, record in enumerate(records, start=1):
        try:
            devices.append(_read_device(connection, record, first_window))
        except RegistryError as error:
            raise RegistryError(f"entry {number}: {error}; nothing was imported") from None
    return tuple(devices)


def _read_device(connection: sqlite3.Connection, record: object, first_window: int) -> Device:
    label = _text(record, "label")
    user = _text(record, "user")
    roles = frozenset(_text({"a role": role}, "a role") for role in _list(record, "roles"))
    enabled = _value(record, "enabled")
    if not isinstance(enabled, bool):
        raise RegistryError("'enabled' must be true or false")
    check_names(label, user, roles)
    device = new_device(connection, label, user, roles, enabled=enabled, created_s=_time(record, "created_s"))
    for entry in _list(record, "credentials"):
        number = new_credential(
            connection,
            device,
            _key(entry, "public_key"),
            _key(entry, "gate_secret"),
            _time(entry, "created_s"),
            None if _value(entry, "retires_s") is None else _time(entry, "retires_s"),
        )
        raise_floor(connection, number, first_window)
    if isinstance(record, dict) and "revoked_delegations" in record:  # an export by version 1 of the state has none
        for entry in _list(record, "revoked_delegations"):
            make_void(connection, device, _delegate(entry), _time(entry, "up_to_s"))
    return device


def _delegate(entry: object) -> str:
    name = _text(entry, "delegate")
    if name and not is_delegate_name(name):
        raise RegistryError("'delegate' must be a delegate's name, or empty for all of them")
    return name


def _value(record: object, name: str) -> object:
    if not isinstance(record, dict) or name not in record:
        raise RegistryError(f"there is no {name!r}")
    value: object = record[name]
    return value


def _text(record: object, name: str) -> str:
    value = _value(record, name)
    if not isinstance(value, str):
        raise RegistryError(f"{name!r} must be text")
    return value


def _list(record: object, name: str) -> list[object]:
    value = _value(record, name)
    if not isinstance(value, list):
        raise RegistryError(f"{name!r} must be a list")
    return value


def _time(record: object, name: str) -> int:
    value = _value(record, name)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < _LATEST_S:
        raise RegistryError(f"{name!r} must be whole seconds since 1970")
    return value


def _key(record: object, name: str) -> bytes:
    try:
        return bytes.fromhex(_text(record, name))
    except ValueError:
        raise RegistryError(f"{name!r} must be hexadecimal digits") from None
