"""Devices and invites as the tests of the registry make them."""

from __future__ import annotations

from pathlib import Path

from spa_server.remember.registry import Registry

NOW_S = 1_700_000_000


def key(number: int) -> bytes:
    return number.to_bytes(4, "big") * 8


def add(registry: Registry, label: str = "alice-laptop", number: int = 1) -> None:
    registry.add_device(label, "alice", ["admin", "dev"], key(number), key(number + 1000), NOW_S)


def invite(registry: Registry, label: str = "alice-laptop", number: int = 50, overlap_s: int = 600) -> int:
    made = registry.add_invite(
        label, "alice", ["dev", "admin"], key(number), key(number + 2000), NOW_S, NOW_S + 3600, overlap_s
    )
    return made.id


def anywhere(folder: Path, secret: bytes) -> bool:
    return any(secret in file.read_bytes() for file in folder.iterdir())
