"""The last refusals, so that `spa-server why` can tell them: so many in all, so many of one device, and never more.

The bound for one device keeps a noisy one from pushing out the reasons of all others.

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
_MOST_OF_ONE = 20
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
    """The last `size` refusals in one store, at most `of_one` for any device, or for any address of no device."""

    def __init__(
        self,
        store: Store,
        size: int = 1000,
        of_one: int = _MOST_OF_ONE,
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._size = size
        self._of_one = of_one
        self._monotonic = monotonic
        self._complained_s: float | None = None

    def add(self, refused: Refused) -> None:
        """Note one refusal over the oldest of its device, or of all.

        A fault is logged, at most once a minute, and never raised.
        """
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
            # A device's delegates are LABEL+NAME; no label holds what GLOB takes for a pattern.
            " WHERE (?1 IS NULL OR label = ?1 OR label GLOB ?1 || '+*') AND (?2 IS NULL OR source = ?2)"
            " ORDER BY number DESC LIMIT ?3",
            label,
            None if source is None else str(source),
            max(limit, 0),
        )
        return [Refused(row[0], row[1], ipaddress.ip_address(row[2]), *row[3:]) for row in rows]

    def _write(self, connection: sqlite3.Connection, refused: Refused) -> None:
        held, last = connection.execute("SELECT count(*), coalesce(max(number), 0) FROM refusal").fetchone()
        source = str(refused.source)
        whose = "label = ?" if refused.label is not None else "label IS NULL AND source = ?"
        own = connection.execute(
            f"DELETE FROM refusal WHERE number IN (SELECT number FROM refusal WHERE {whose}"  # noqa: S608 - one of two
            " ORDER BY number DESC LIMIT -1 OFFSET ?)",
            (refused.label or source, self._of_one - 1),
        ).rowcount
        surplus = held - own - self._size + 1
        if surplus > 0:
            oldest = "DELETE FROM refusal WHERE number IN (SELECT number FROM refusal ORDER BY number LIMIT ?)"
            connection.execute(oldest, (surplus,))
        connection.execute(
            "INSERT INTO refusal VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (
                last + 1,  # its place: once that of a ring, now as good as its number
                last + 1,
                refused.time_ms,
                refused.label,
                source,
                refused.reason,
                _storable(refused.about),
                # From a stranger's timestamp, which may lie anywhere in 64 bits.
                max(-_MOST_INT, min(_MOST_INT, refused.skew_ms)),
            ),
        )


def _storable(text: str) -> str:
    return text[:_MOST_ABOUT].encode("utf-8", "replace").decode("utf-8")
