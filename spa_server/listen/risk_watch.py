"""How risky each knock is: what is known of its user, its device and its source, gathered and scored.

Three kinds of callers' news, kept apart: what was granted, from which alone is learnt what is usual; what was verified,
which can speak against the device whose key signed it; and what was not verified, which can speak against the network
that it came from and against nobody's user or device. It must not know datagrams, leases or what follows from a score.

A `device` is what leases are labelled with, so that each delegate stands for itself.
"""

from __future__ import annotations

import logging
from collections.abc import Hashable

from spa_protocol.posture import Posture
from spa_server.decide.risk import Risk, Signals, Weights, score
from spa_server.decide.usual import is_impossible_travel, is_unusual_hour, network_of
from spa_server.listen.clock import Instant
from spa_server.listen.suspicions import Deed, Deeds, InvalidKnocks, Moves, Uses
from spa_server.remember.baseline import Baseline, Baselines
from spa_server.risk_lists import RiskLists
from spa_server.risk_table import RiskSettings
from spa_server.service import Address
from spa_server.tell.event_types import KEY_USED_TWICE
from spa_server.tell.events import Event, Outcome, happened

log = logging.getLogger("spa.risk")

_NO_LISTS = RiskLists()


class RiskWatch:
    """The score of knocks. Not for use by several threads."""

    def __init__(self, baselines: Baselines, settings: RiskSettings, lists: RiskLists = _NO_LISTS) -> None:
        self._baselines = baselines
        self._settings = settings
        self._lists = lists
        self._invalid = InvalidKnocks()
        self._deeds = Deeds()
        self._moves = Moves()
        self._uses = Uses()

    def follow(self, settings: RiskSettings, lists: RiskLists) -> None:
        """Judge by other settings and lists from now on; what has happened stays."""
        self._settings, self._lists = settings, lists

    @property
    def weights(self) -> Weights:
        """By what scores are made, and what they mean."""
        return self._settings.weights

    def assess(
        self,
        *,
        user: str,
        device: str,
        key_created_s: int,
        first_use: bool,
        source: Address,
        at: Instant,
        skew_ms: int,
        posture: Posture | None,
        renews: bool,
    ) -> Risk:
        """A knock that was verified, for the first time. Raises StateError.

        `renews`: the device has open what it asks for. Then what strangers send does not count: it has been let in
        before, and nobody is to be put out by his neighbours.
        """
        if not self._settings.enabled:
            return Risk()
        baseline = self._baselines.of(user, at.wall_s)
        if self._has_travelled(baseline, source, at):
            self._deeds.note(device, Deed.IMPOSSIBLE_TRAVEL, at.boot_ms, at.wall_s)
        if self._moves.alternates(device, network_of(source), at.boot_ms):
            self._deeds.note(device, Deed.TWO_SOURCES, at.boot_ms, at.wall_s)
        return self._score(
            baseline,
            device=device,
            key_created_s=key_created_s,
            first_use=first_use,
            source=source,
            at=at,
            skew_ms=skew_ms,
            posture=posture,
            counts_strangers=not renews,
        )

    def standing(
        self, *, user: str, device: str, key_created_s: int, source: Address, at: Instant, posture: Posture | None
    ) -> Risk:
        """The same of what is open, between knocks: nothing is noted. Raises StateError."""
        if not self._settings.enabled:
            return Risk()
        return self._score(
            self._baselines.of(user, at.wall_s),
            device=device,
            key_created_s=key_created_s,
            first_use=False,
            source=source,
            at=at,
            skew_ms=0,
            posture=posture,
            counts_strangers=False,
        )

    def granted(self, *, user: str, device: str, source: Address, at: Instant, posture: Posture | None) -> None:
        """It was let in: from this, and only from this, is learnt what is usual. Never raises."""
        if not self._settings.enabled:
            return
        self._baselines.learn(user, network_of(source), self._lists.locate(source), at.wall_s)
        self._baselines.learn_posture(device, posture, at.wall_s)

    def invalid(self, source: Address, at: Instant) -> None:
        """A datagram with a live tag did not verify. Whoever sent it, it speaks against the source's network only."""
        weights = self._settings.weights
        most = -(-weights.invalid_knocks_most // max(weights.invalid_knock, 1))
        if self._settings.enabled and most:
            self._invalid.note(network_of(source), at.boot_ms, most)

    def used(self, slot: Hashable, digest: bytes) -> None:
        """A verified knock was the first to use this slot. `digest`: of the whole datagram."""
        self._uses.note(slot, digest)

    def used_again(self, device: str, slot: Hashable, digest: bytes, source: Address, at: Instant) -> bool:
        """A verified knock came on a used slot. Whether two use the device's key: the datagram is not the one that did.

        The same datagram once more can come from anybody who has seen it, so it speaks against its source only; and so
        does one of which is not known whether it is the same.
        """
        if not self._uses.is_other(slot, digest):
            self.invalid(source, at)
            return False
        self._deeds.note(device, Deed.USED_TAG, at.boot_ms, at.wall_s)
        message = (
            f"two use the key of {device}: another knock, from {source}, on a tag that was used; unless its files were "
            f"copied or put back on purpose, take the key back: spa-server device disable {device}"
        )
        happened(log, Event(KEY_USED_TWICE, message, Outcome.UNKNOWN, source=source, device=device))
        return True

    def _score(
        self,
        baseline: Baseline,
        *,
        device: str,
        key_created_s: int,
        first_use: bool,
        source: Address,
        at: Instant,
        skew_ms: int,
        posture: Posture | None,
        counts_strangers: bool,
    ) -> Risk:
        network, hour = network_of(source), at.wall_s // 3600

        def ago_s(deed: Deed) -> float | None:
            return self._deeds.ago_s(device, deed, at.boot_ms, key_created_s)

        signals = Signals(
            new_network_ago_s=baseline.new_network_ago_s(network, at.wall_s),
            impossible_travel_ago_s=ago_s(Deed.IMPOSSIBLE_TRAVEL),
            invalid_knocks=self._invalid.count(network, at.boot_ms) if counts_strangers else 0,
            used_tag_ago_s=ago_s(Deed.USED_TAG),
            unusual_hour=is_unusual_hour(baseline.samples_before(hour), hour % 24),
            skew_ms=skew_ms,
            key_age_s=at.wall_s - key_created_s,
            first_use=first_use,
            block_list=self._lists.blocked.get(source) is not None,
            two_sources_ago_s=ago_s(Deed.TWO_SOURCES),
            posture_worse_ago_s=self._posture_worse_ago_s(device, key_created_s, posture, at.wall_s),
        )
        return score(signals, self._settings.weights)

    def _has_travelled(self, baseline: Baseline, source: Address, at: Instant) -> bool:
        before, here = baseline.places.get(source.version), self._lists.locate(source)
        if before is None or here is None:
            return False
        return is_impossible_travel(before.place, here, at.wall_s - before.last_s)

    def _posture_worse_ago_s(self, device: str, key_created_s: int, posture: Posture | None, now_s: int) -> int | None:
        known = self._baselines.posture(device, now_s)
        if known is None or known.last_s < key_created_s:
            return None
        return known.worse_ago_s(posture, now_s)
