"""People: who is kept out altogether, and by what second factor they are known.

A user comes to be with a device of theirs; a row stands here only for what is said of the user. A code counts once: the
step of time that it is of is on the disk before it counts. Wrong ones are counted, so that nobody who has a device can
try them all; strangers cannot try at all, for a code stands in a signed knock. Knows rows, not knocks.
"""

from __future__ import annotations

import sqlite3
from contextlib import suppress
from dataclasses import dataclass

from spa_protocol.names import is_user
from spa_server.remember.device import RegistryError
from spa_server.remember.one_time import step_of
from spa_server.remember.store import StateError, Store

MOST_TRIES = 5
TRIES_WITHIN_S = 300
"""After so many wrong codes within this time none is taken, until it is over."""


@dataclass(frozen=True, slots=True)
class User:
    """What is said of a user."""

    name: str
    enabled: bool
    has_totp: bool
    devices: tuple[str, ...]


class Users:
    """The users in one store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def users(self) -> tuple[User, ...]:
        """Everybody who has a device or of whom something is said, by name. Raises StateError."""
        said = {name: (bool(enabled), bool(totp)) for name, enabled, totp in self._store.rows(_SAID)}
        devices: dict[str, list[str]] = {name: [] for name in said}
        for name, label in self._store.rows("SELECT user, label FROM device ORDER BY label"):
            devices.setdefault(name, []).append(label)
        return tuple(
            User(name, *said.get(name, (True, False)), devices=tuple(labels))
            for name, labels in sorted(devices.items())
        )

    def user(self, name: str) -> User:
        """One of them. Raises RegistryError where there is none."""
        for each in self.users():
            if each.name == name:
                return each
        raise RegistryError(f"there is no user {name!r}; see: spa-server user list")

    def disabled(self) -> frozenset[str]:
        """Those who are kept out. Raises StateError."""
        return frozenset(name for (name,) in self._store.rows("SELECT name FROM user WHERE NOT enabled"))

    def set_enabled(self, name: str, enabled: bool) -> None:
        """Keep all devices of a user out, or let them in again; then unused invites are void, too."""
        self.user(name)
        with self._store.durable() as connection:
            _make(connection, name)
            connection.execute("UPDATE user SET enabled = ? WHERE name = ?", (enabled, name))
            if not enabled:
                connection.execute("DELETE FROM invite WHERE user = ? AND used_by_key IS NULL", (name,))
        if not enabled:
            self._erase()

    def set_totp(self, name: str, secret: bytes | None, used_step: int = -1) -> None:
        """Give a user a secret for codes, in the place of any other, or take it away. Second factors given are void.

        `used_step`: the step of time of a code that was asked for already, which counts no more.
        """
        if not is_user(name):
            raise RegistryError(f"{name!r} cannot name a user")
        with self._store.durable() as connection:
            _make(connection, name)
            connection.execute(
                "UPDATE user SET totp = ?, used_step = ?, tries = 0, tried_s = 0 WHERE name = ?",
                (secret, used_step, name),
            )
            connection.execute("DELETE FROM factor WHERE label IN (SELECT label FROM device WHERE user = ?)", (name,))
        self._erase()

    def has_totp(self, name: str) -> bool:
        """Whether codes are taken of this user. Raises StateError."""
        return bool(self._store.rows("SELECT 1 FROM user WHERE name = ? AND totp IS NOT NULL", name))

    def check_code(self, name: str, code: str, now_s: int) -> bool:
        """Whether this is a code of the user's that was not used; on return that is on the disk. Raises StateError."""
        with self._store.durable() as connection:
            row = connection.execute(
                "SELECT totp, used_step, tries, tried_s FROM user WHERE name = ?", (name,)
            ).fetchone()
            if row is None or row[0] is None:
                return False
            secret, used_step, tries, tried_s = row
            if not 0 <= now_s - tried_s < TRIES_WITHIN_S:
                tries, tried_s = 0, now_s
            step = None if tries >= MOST_TRIES else step_of(secret, code, now_s, used_step)
            connection.execute(
                "UPDATE user SET used_step = ?, tries = ?, tried_s = ? WHERE name = ?",
                (
                    used_step if step is None else step,
                    min(tries + 1, MOST_TRIES) if step is None else 0,
                    tried_s,
                    name,
                ),
            )
        return step is not None

    def note_factor(self, label: str, now_s: int) -> None:
        """The device has given a second factor now. Raises StateError."""
        with self._store.quick() as connection:
            connection.execute("INSERT OR REPLACE INTO factor (label, given_s) VALUES (?, ?)", (label, now_s))

    def factor_age_s(self, label: str, now_s: int) -> int | None:
        """How long ago that was, or None. One from the future, by a clock that was set back, is none. StateError."""
        rows = self._store.rows("SELECT given_s FROM factor WHERE label = ?", label)
        age_s = now_s - rows[0][0] if rows else -1
        return age_s if age_s >= 0 else None

    def _erase(self) -> None:
        # The log still holds the secrets as they were. Where it cannot be emptied now, a later checkpoint does it.
        with suppress(StateError):
            self._store.checkpoint(truncate=True)


_SAID = "SELECT name, enabled, totp IS NOT NULL FROM user"


def _make(connection: sqlite3.Connection, name: str) -> None:
    connection.execute("INSERT INTO user (name, enabled) VALUES (?, 1) ON CONFLICT DO NOTHING", (name,))
