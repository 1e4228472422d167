"""A device of the registry as its commands print it: in a table, in lines, as JSON. Never a secret."""

from __future__ import annotations

from spa_protocol.openssh import fingerprint, key_type
from spa_protocol.signature import VerifyingKey
from spa_protocol.text import TextKind, encode
from spa_server.commands.state import now_s
from spa_server.remember.registry import Credential, Device, Registry
from spa_server.tell.table import utc


def keys_by_device(registry: Registry) -> dict[int, list[Credential]]:
    """Every live credential, by its device's number."""
    keys: dict[int, list[Credential]] = {}
    for credential in registry.credentials(now_s()):
        keys.setdefault(credential.device_id, []).append(credential)
    return keys


def describe(item: Device, keys: list[Credential]) -> dict[str, object]:
    """A device and its credentials, fit for JSON."""
    return {
        "label": item.label,
        "user": item.user,
        "roles": sorted(item.roles),
        "enabled": item.enabled,
        "enrolled": utc(item.created_s),
        "keys": [_described_key(key) for key in keys],
    }


def _described_key(credential: Credential) -> dict[str, object]:
    key = VerifyingKey.from_bytes(credential.public_key)
    return {
        "public": encode(TextKind.DEVICE, credential.public_key),
        "openssh": key_type(key),
        "fingerprint": fingerprint(key),
        "since": utc(credential.created_s),
        "retires": utc(credential.retires_s) if credential.retires_s else None,
    }


def keys_of(described: dict[str, object]) -> list[dict[str, object]]:
    """The keys in a description."""
    keys = described["keys"]
    return keys if isinstance(keys, list) else []


def row(described: dict[str, object]) -> tuple[object, ...]:
    """A description's row in the table of devices."""
    roles = described["roles"]
    return (
        described["label"],
        described["user"],
        ", ".join(roles) if isinstance(roles, list) else roles,
        "enabled" if described["enabled"] else "disabled",
        len(keys_of(described)),
        described["enrolled"],
    )
