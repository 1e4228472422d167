"""Keeps the gate and the holders true to the registry and to the clock.

Any process may edit the registry; a number in the state file's shared memory tells in microseconds that it has changed,
so that not even a knock that arrives right after the edit is judged by what was. It must not know messages.
"""

from __future__ import annotations

import logging

from spa_protocol.tag import TagKind
from spa_server.listen.clock import Instant
from spa_server.listen.gate import Gate, Slots
from spa_server.listen.holders import Holders, InviteHolder, changes, has_lost, read_holders
from spa_server.remember.delegations import Delegations, Revoked
from spa_server.remember.fence import first_open_window
from spa_server.remember.registry import Registry
from spa_server.remember.users import Users
from spa_server.tell.event_types import REGISTRY_SEEN
from spa_server.tell.events import Event, happened

log = logging.getLogger("spa.membership")

CLOCK_STEP_MS = 1_000
"""A change of the wall clock against the time since boot that counts as a step."""


class Membership:
    """Who may knock now, and the gate armed for them."""

    def __init__(
        self,
        registry: Registry,
        delegations: Delegations,
        users: Users,
        gate: Gate,
        *,
        delegates: bool,
        fenced_at_boot_ms: int | None,
        floor_window: int,
        max_skew_ms: int,
        now: Instant,
    ) -> None:
        self.registry = registry
        self.gate = gate
        self.holders: Holders = {}
        self.revoked: Revoked = {}
        self.losses = 0
        """How often something that was there was seen changed or gone: who was let in by it has to be judged again."""
        self._delegations = delegations
        self._users = users
        self._delegates = delegates
        self._fenced_at_boot_ms = fenced_at_boot_ms
        self._floor_window = floor_window
        self._max_skew_ms = max_skew_ms
        self._boot_wall_ms = now.boot_wall_ms
        self._version: int | None = None
        self._is_rearming = False
        self._is_restoring = False
        self.catch_up(now)

    def first_window(self, now: Instant) -> int:
        """The first knock window that may be accepted: later than the machine's start, if a boot came between."""
        if self._fenced_at_boot_ms is None:
            return self._floor_window
        fence = first_open_window(
            now.wall_ms,
            now.boot_ms,
            self._fenced_at_boot_ms,
            window_s=TagKind.KNOCK.window_s,
            max_skew_ms=self._max_skew_ms,
        )
        return max(fence, self._floor_window)

    def follow(self, *, slots: Slots, max_skew_ms: int) -> None:
        """Go by another configuration, from the next `keep_time` on."""
        self._max_skew_ms = max_skew_ms
        self._delegates = slots.delegates > 0
        if self.gate.follow(slots=slots, max_skew_ms=max_skew_ms):
            self._is_rearming = True

    def note_change(self) -> None:
        """Something that who is inside was let in by may be otherwise now."""
        self.losses += 1

    def tags_are_gone(self) -> None:
        """The kernel has lost the tags; the next `keep_time` arms them all."""
        self._is_restoring = True

    def catch_up(self, now: Instant) -> None:
        """Read the registry again if anyone has edited it."""
        version = self.registry.version()
        if version == self._version:
            return
        before = self.holders
        self.read_again(now)
        if self._version is not None:
            changed = changes(before, self.holders)
            if changed:
                happened(log, Event(REGISTRY_SEEN, f"the registry has changed: {changed}"))
        self._version = version

    def read_again(self, now: Instant) -> None:
        """Read the registry, and arm and disarm what has changed; also drops what has expired meanwhile."""
        before, revoked = self.holders, self.revoked
        self.revoked = self._delegations.revoked()
        self.holders = read_holders(
            self.registry,
            now.wall_s,
            self.holders,
            delegates=self._delegates,
            shut_out_users=self._users.disabled(),
        )
        self.losses += revoked != self.revoked or has_lost(before, self.holders)
        keys = {holder_id: holder.keys for holder_id, holder in self.holders.items()}
        self.gate.set_holders(keys, now.wall_ms, self.first_window(now))

    def forget_expired(self, now: Instant) -> None:
        """Erase invites whose time is over, and disarm them and keys that have been retired."""
        invites = (holder.invite for holder in self.holders.values() if isinstance(holder, InviteHolder))
        if any(invite.expires_s <= now.wall_s for invite in invites):
            self.registry.drop_invites(now.wall_s)
        self.read_again(now)

    def keep_time(self, now: Instant) -> None:
        """Renew the gate; arm all of it anew when the wall clock was stepped, or where there was other reason."""
        step_ms = now.boot_wall_ms - self._boot_wall_ms
        if abs(step_ms) >= CLOCK_STEP_MS:
            log.warning(
                "the clock was stepped by %+.1f s; arming the gate anew",
                step_ms / 1000,
                extra={"event": "clock-stepped"},
            )
            self._is_rearming = True
        if self._is_rearming:
            # First the gate: in windows armed by the old time a new holder's tags could get times that are refused.
            self.gate.rearm(now.wall_ms, self.first_window(now))
            self.read_again(now)
        else:
            if self._is_restoring:
                self.gate.restore(now.wall_ms, self.first_window(now))
            # Slewing (adjtime) moves the clock a little at a time and needs no new tags.
            self.gate.renew(now.wall_ms, self.first_window(now))
        # Last, so that what failed after a step is done over at the next turn.
        self._is_rearming = self._is_restoring = False
        self._boot_wall_ms = now.boot_wall_ms
