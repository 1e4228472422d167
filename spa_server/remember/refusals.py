"""The last refusals, so that `spa-server why` can tell them; a ring that never grows.

Only what came from a holder of a live tag is noted here: strangers are counted by the kernel. It knows reasons as
names, not what they mean. A refusal stands whether or not it can be noted.
"""

from __future__ import annotations

import ipaddress
import logging
import sqlite3
import time
from collections.abc import Callable
from dataclasses import dataclass

from spa_server.remember.store import StateError, Store
from spa_server.service import Address

LOG = logging.getLogger(__name__)

_COMPLAIN_EVERY_S = 60
_MOST_ABOUT = 200
_MOST_INT = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Refused:
    """One refusal. `label` is None where no device is known; `about` is what it was over, a service or an invite."""

    time_ms: int
    label: str | None
    source: Address
    reason: str
    about: str
    skew_ms: int


class RefusalRing:
    """The last `size` refusals in one store."""

    def __init__(self, store: Store, size: int = 1000, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._size = size
        self._monotonic = monotonic
        self._complained_s: float | None = None

    def add(self, refused: Refused) -> None:
        """Note one refusal over the oldest. A fault is logged, at most once a minute, and never raised."""
        try:
            with self._store.quick() as connection:
                self._write(connection, refused)
        except (StateError, sqlite3.Error) as error:
            now_s = self._monotonic()
            if self._complained_s is None or now_s - self._complained_s >= _COMPLAIN_EVERY_S:
                self._complained_s = now_s
                LOG.warning("a refusal could not be noted: %s", error)

    def recent(self, label: str | None = None, source: Address | None = None, limit: int = 20) -> list[Refused]:
        """The newest first, of this device and from this address where given. Raises StateError."""
        rows = self._store.rows(
            "SELECT time_ms, label, source, reason, about, skew_ms FROM refusal"
            " WHERE (?1 IS NULL OR label = ?1) AND (?2 IS NULL OR source = ?2) ORDER BY number DESC LIMIT ?3",
            label,
            None if source is None else str(source),
            max(limit, 0),
        )
        return [Refused(row[0], row[1], ipaddress.ip_address(row[2]), *row[3:]) for row in rows]

    def _write(self, connection: sqlite3.Connection, refused: Refused) -> None:
        number = connection.execute("SELECT coalesce(max(number), 0) + 1 FROM refusal").fetchone()[0]
        if number % self._size == 0:
            # A row that is not in its place is from a ring of another size; once round, it goes.
            connection.execute("DELETE FROM refusal WHERE place != number % ?", (self._size,))
        connection.execute(
            "INSERT OR REPLACE INTO refusal VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (
                number % self._size,
                number,
                refused.time_ms,
                refused.label,
                str(refused.source),
                refused.reason,
                _storable(refused.about),
                # From a stranger's timestamp, which may lie anywhere in 64 bits.
                max(-_MOST_INT, min(_MOST_INT, refused.skew_ms)),
            ),
        )


def _storable(text: str) -> str:
    return text[:_MOST_ABOUT].encode("utf-8", "replace").decode("utf-8")
