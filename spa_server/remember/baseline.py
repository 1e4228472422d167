"""What is usual for a user (networks, hours, the last place) and a device (its posture), learnt from what was granted.

Kept to be compared with, not to be read by people: networks instead of addresses, no record of single knocks, and
nothing that is older than ninety days. Only what was granted may be noted here: whoever is refused changes nothing.
A note costs a write about once an hour. One that fails is a line in the log, and the grant stands. Knows users, labels
and networks; not what follows from a departure (`spa_server.decide.risk`).
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass, field

from spa_protocol.posture import Fact, Posture
from spa_server.decide.usual import HOURS, Network, Place, is_posture_worse
from spa_server.remember.store import StateError, Store
from spa_server.seldom import Seldom

KEPT_S = 90 * 86_400
"""What was not seen for so long is unknown again."""
FRESH_S = 3600
"""What was written down within this time, and is the same, is not written again."""
PLACE_FRESH_S = 300
"""The same of a place: in this time an airliner flies less far than what counts as travel."""
POSTURE_FRESH_S = 86_400
WORSE_FOR_S = 6 * 3600
"""After so long a worse posture is the device's usual one: hardly a point for it is left by then."""
MOST_NETWORKS = 64
"""Networks kept of one user, those seen last."""
MOST_SAMPLES = 1_000
"""Hours counted of one user; then all counts are halved, so that habits may change."""


@dataclass(frozen=True, slots=True)
class KnownNetwork:
    """A network from which the user was let in. Times are seconds since 1970, UTC."""

    first_s: int
    last_s: int


@dataclass(frozen=True, slots=True)
class KnownPlace:
    """Where the user was let in last."""

    place: Place
    last_s: int


@dataclass(frozen=True, slots=True)
class KnownPosture:
    """The posture that a device is compared with, and since when it has been let in with a worse one, if it has."""

    posture: Posture
    last_s: int
    worse_since_s: int | None

    def worse_ago_s(self, posture: Posture | None, now_s: int) -> int | None:
        """For how long the device has been let in with one like this, which is worse; None where this one is not."""
        if not is_posture_worse(self.posture, posture, (now_s - self.last_s) // 86_400):
            return None
        return 0 if self.worse_since_s is None else max(now_s - self.worse_since_s, 0)


@dataclass(frozen=True, slots=True)
class Baseline:
    """What is known of one user. `samples`: by hour of the day in UTC; `last_hour`: counted last, since 1970.

    `networks`: by their text, as the file has them: to read sixty of them for each knock takes longer than all else.
    """

    networks: Mapping[str, KnownNetwork] = field(default_factory=dict)
    samples: tuple[int, ...] = (0,) * HOURS
    last_hour: int = -1
    places: Mapping[int, KnownPlace] = field(default_factory=dict)

    def new_network_ago_s(self, network: Network, now_s: int) -> int | None:
        """How long ago this network was a new one; None where it was there first, or there is nothing to compare."""
        known = self.networks.get(str(network))
        if known is None:
            return 0 if self.networks else None
        if all(each.first_s >= known.first_s for each in self.networks.values()):
            return None
        return max(now_s - known.first_s, 0)

    def samples_before(self, hour: int) -> tuple[int, ...]:
        """The samples without that of this hour (since 1970) itself, which tells nothing of what was usual before."""
        if self.last_hour != hour:
            return self.samples
        return tuple(max(count - (each == hour % HOURS), 0) for each, count in enumerate(self.samples))


class Baselines:
    """The baselines in one store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._complaints = Seldom(logging.getLogger(__name__))

    def of(self, user: str, now_s: int) -> Baseline:
        """What is known of the user, as of now. Raises StateError."""
        networks = self._store.rows(
            "SELECT network, first_s, last_s FROM baseline_network WHERE user = ? AND last_s > ?", user, now_s - KEPT_S
        )
        hours = self._store.rows(
            "SELECT samples, last_hour FROM baseline_hours WHERE user = ? AND last_hour > ?",
            user,
            (now_s - KEPT_S) // 3600,
        )
        places = self._store.rows(
            "SELECT family, latitude, longitude, last_s FROM baseline_place WHERE user = ? AND last_s > ?",
            user,
            now_s - KEPT_S,
        )
        samples, last_hour = hours[0] if hours else ("", -1)
        return Baseline(
            {network: KnownNetwork(first_s, last_s) for network, first_s, last_s in networks},
            _samples(samples),
            last_hour,
            {family: KnownPlace(Place(north, east), last_s) for family, north, east, last_s in places},
        )

    def learn(self, user: str, network: Network, place: Place | None, now_s: int) -> None:
        """The user was let in from there, just now. Never raises."""
        try:
            known = self.of(user, now_s)
            seen, here = known.networks.get(str(network)), known.places.get(network.version)
            network_is_due = seen is None or _is_stale(seen.last_s, now_s, FRESH_S)
            hour_is_due = known.last_hour != now_s // 3600
            place_is_due = here is None or here.place != place or _is_stale(here.last_s, now_s, PLACE_FRESH_S)
            if not network_is_due and not hour_is_due and (place is None or not place_is_due):
                return
            with self._store.quick() as connection:
                if network_is_due:
                    _write_network(connection, user, network, now_s if seen is None else seen.first_s, now_s)
                if hour_is_due:
                    _write_hour(connection, user, known.samples, now_s // 3600)
                if place is not None and place_is_due:
                    _write_place(connection, user, network.version, place, now_s)
        except (StateError, sqlite3.Error, OverflowError) as error:
            self._complaints.warn(f"what is usual for {user} could not be noted: {error}")

    def posture(self, label: str, now_s: int) -> KnownPosture | None:
        """What the device is compared with, if anything is known. Raises StateError."""
        rows = self._store.rows(
            "SELECT facts, patch_age_days, last_s, worse_since_s FROM baseline_posture WHERE label = ? AND last_s > ?",
            label,
            now_s - KEPT_S,
        )
        if not rows:
            return None
        facts, patch_age_days, last_s, worse_since_s = rows[0]
        disk_encrypted, screen_lock, firewall, secure_boot = (Fact[name] for name in facts.split())
        posture = Posture(
            disk_encrypted=disk_encrypted,
            screen_lock=screen_lock,
            firewall=firewall,
            secure_boot=secure_boot,
            patch_age_days=patch_age_days,
        )
        return KnownPosture(posture, last_s, worse_since_s)

    def learn_posture(self, label: str, posture: Posture | None, now_s: int) -> None:
        """The device was let in with this posture: one to compare with, unless it is worse than what is known, and
        has not been so for long. Never raises.
        """
        try:
            known = self.posture(label, now_s)
            worse_s = None if known is None else known.worse_ago_s(posture, now_s)
            if known is not None and worse_s is not None and worse_s < WORSE_FOR_S:
                if known.worse_since_s is None:
                    with self._store.quick() as connection:
                        connection.execute(
                            "UPDATE baseline_posture SET worse_since_s = ? WHERE label = ?", (now_s, label)
                        )
            elif posture is not None or worse_s is not None:
                self._write_posture(label, posture or Posture(), known, now_s)
        except (StateError, sqlite3.Error, OverflowError) as error:
            self._complaints.warn(f"the posture of {label} could not be noted: {error}")

    def _write_posture(self, label: str, posture: Posture, known: KnownPosture | None, now_s: int) -> None:
        facts = _facts(posture)
        if (
            known is not None
            and known.worse_since_s is None
            and _facts(known.posture) == facts
            and not _is_stale(known.last_s, now_s, POSTURE_FRESH_S)
        ):
            return
        with self._store.quick() as connection:
            connection.execute(
                "INSERT OR REPLACE INTO baseline_posture VALUES (?, ?, ?, ?, NULL)",
                (label, facts, posture.patch_age_days, now_s),
            )

    def forget(self, user: str) -> None:
        """Nothing is known of the user any more. Raises StateError."""
        with self._store.durable() as connection:
            for table in ("baseline_network", "baseline_hours", "baseline_place"):
                connection.execute(f"DELETE FROM {table} WHERE user = ?", (user,))  # noqa: S608 - one of three

    def prune(self, now_s: int) -> None:
        """Forget what is older than ninety days. Raises StateError."""
        before_s = now_s - KEPT_S
        olds = (
            ("baseline_network", "last_s", before_s),
            ("baseline_hours", "last_hour", before_s // 3600),
            ("baseline_place", "last_s", before_s),
            ("baseline_posture", "last_s", before_s),
        )
        # Looked at first without the write lock: nearly always there is nothing to do.
        for table, column, limit in olds:
            where = f"FROM {table} WHERE {column} <= ?"  # one of the four above
            if self._store.rows(f"SELECT 1 {where} LIMIT 1", limit):
                with self._store.quick() as connection:
                    connection.execute(f"DELETE {where}", (limit,))


def _write_network(connection: sqlite3.Connection, user: str, network: Network, first_s: int, now_s: int) -> None:
    connection.execute(
        "INSERT OR REPLACE INTO baseline_network VALUES (?, ?, ?, ?)", (user, str(network), first_s, now_s)
    )
    connection.execute(
        "DELETE FROM baseline_network WHERE (user, network) IN (SELECT user, network FROM baseline_network"
        " WHERE user = ? ORDER BY last_s DESC, network LIMIT -1 OFFSET ?)",
        (user, MOST_NETWORKS),
    )


def _write_hour(connection: sqlite3.Connection, user: str, samples: tuple[int, ...], hour: int) -> None:
    counts = list(samples)
    if sum(counts) >= MOST_SAMPLES:
        counts = [count // 2 for count in counts]
    counts[hour % HOURS] += 1
    connection.execute(
        "INSERT OR REPLACE INTO baseline_hours VALUES (?, ?, ?)", (user, " ".join(map(str, counts)), hour)
    )


def _write_place(connection: sqlite3.Connection, user: str, family: int, place: Place, now_s: int) -> None:
    connection.execute(
        "INSERT OR REPLACE INTO baseline_place VALUES (?, ?, ?, ?, ?)",
        (user, family, place.latitude, place.longitude, now_s),
    )


def _samples(text: str) -> tuple[int, ...]:
    found = tuple(map(int, text.split()))
    return found if len(found) == HOURS else (0,) * HOURS


def _facts(posture: Posture) -> str:
    facts = posture.disk_encrypted, posture.screen_lock, posture.firewall, posture.secure_boot
    return " ".join(fact.name for fact in facts)


def _is_stale(last_s: int, now_s: int, fresh_s: int) -> bool:
    """Also where the clock was set back since: then the later time would stay for ever."""
    return not 0 <= now_s - last_s < fresh_s
