"""Live sessions: all that this server has opened and that is not over, judged again when the answer may have changed.

Nobody is let in here. What is refused by now is taken away at once, flows included, and whoever cannot be judged is
taken for refused. A session stays until the firewall process says that nothing is left of it: its clock, not ours, ends
a lease. It must not know what is judged by, nor the kernel; time is an argument.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Protocol

from spa_protocol.posture import Posture
from spa_protocol.refusal import Refusal
from spa_server.decide.decision import Closing, Refused
from spa_server.enforce.client import FirewallRefused, Revoked, Standing
from spa_server.listen.clock import Instant
from spa_server.listen.session import Live
from spa_server.listen.session_text import Unreadable, of_text, to_text
from spa_server.remember.sessions import SessionKey, SessionRecord
from spa_server.remember.used import NotRecorded
from spa_server.service import Service
from spa_server.tell import event_types
from spa_server.tell.event_types import EventType
from spa_server.tell.events import Event, happened

log = logging.getLogger("spa.session")

MOST_LIVE = 100_000
"""Sessions that are kept; beyond, nothing is opened, for it could not be taken away again."""
LOOK_AGAIN_MS = 10_000
"""How often it is looked whether a session that has outlived its lease goes on."""

ALIVE_EVERY = 1_000
"""After how many are judged it is said that work goes on."""
EARLY_MS = 2_000
"""How much earlier than reckoned a lease may end by itself: the kernel was asked before its answer was read."""
_NEVER_MS = 1 << 62

Judge = Callable[[Live], Refused | None]
"""Whether a session's knock would be refused by now, and why."""
MayChange = Callable[[Live, Instant], int | None]
"""When the answer may be another one for no other reason than the time (UTC, ms); None: not by itself."""


class LeaseTaker(Protocol):
    """The part of the firewall process that takes leases away and tells what is left of them."""

    def revoke_leases(self, held: Sequence[SessionKey]) -> Revoked:
        """Take all of it away at once, flows included. Raises FirewallError."""

    def alive(self) -> None:
        """To be called now and then during long work: standing still would be the end of this process."""

    def look(self, held: Sequence[SessionKey], *, final: bool) -> tuple[Standing, ...]:
        """What is left of each, and what went through. `final`: it is not asked of again. Raises FirewallError."""


class LiveSessions:
    """What is open now, in memory and in the state."""

    def __init__(
        self, record: SessionRecord, leases: LeaseTaker, may_change: MayChange = lambda _live, _now: None
    ) -> None:
        """Raises StateError."""
        self._record = record
        self._leases = leases
        self._may_change = may_change
        self._live: dict[SessionKey, Live] = {}
        self._former: Mapping[SessionKey, Live | None] = {}
        self._unreadable: list[SessionKey] = []
        self._over: list[tuple[Live, str]] = []
        self._to_forget: set[SessionKey] = set()
        self._look_ms: dict[SessionKey, int] = {}
        self._news: set[SessionKey] = set()
        self._next_look_ms = 0
        self._due_ms: int | None = None
        for key, facts in record.read().items():
            try:
                self._live[key] = of_text(key, facts)
            except Unreadable as error:
                log.error("what %s has open of %s cannot be judged and is ended: %s", key.label, key.service, error)
                self._unreadable.append(key)
        self._heed_spared()

    def __len__(self) -> int:
        return len(self._live)

    def __iter__(self) -> Iterator[Live]:
        return iter(tuple(self._live.values()))

    def get(self, key: SessionKey) -> Live | None:
        """What is open there, as far as this server opened it."""
        return self._live.get(key)

    def granting(self, sessions: Sequence[Live]) -> None:
        """They are about to be opened, or renewed. Raises NotRecorded, and then they must not be."""
        self._former = former = {live.key: self._live.get(live.key) for live in sessions}
        if len(self._live) + sum(each is None for each in former.values()) > MOST_LIVE:
            raise NotRecorded(f"more than {MOST_LIVE} sessions are open")
        self._write({live.key: live.after(former[live.key]) for live in sessions})

    def granted(self, left_s: Sequence[int], now: Instant) -> None:
        """What was about to be opened is open, for so many seconds each."""
        for key, seconds in zip(self._former, left_s, strict=True):
            live = self._live[key]
            self._live[key] = replace(live, ends_ms=max(live.ends_ms, now.boot_ms + seconds * 1000))
            self._note_due(live, now)

    def failed(self) -> None:
        """What was about to be opened was not; what was open before is so still."""
        before = {key: live for key, live in self._former.items() if live is not None}
        with contextlib.suppress(NotRecorded):  # what stands there then is judged, and ends, as any other
            self._write(before)
        self._drop([key for key, live in self._former.items() if live is None])

    def closed(self, closing: Closing, label: str, services: Sequence[Service], now: Instant) -> None:
        """Whoever had it has given it back."""
        keys = [SessionKey(label, closing.source, closing.destination, service.name) for service in services]
        for key in keys:
            live = self._live.get(key)
            if live is None:
                continue
            if live.outlives:
                self._live[key] = replace(live, ends_ms=now.boot_ms)
                self._look_ms.pop(key, None)
                self._next_look_ms = 0
            else:
                self._over.append((live, "closed"))
                self._drop([key])

    def heard(self, device: str, posture: Posture | None, now: Instant) -> None:
        """The device has said how it is: that is its newest word for all that it has open, also if it was refused."""
        changed = {
            key: live.heard(posture, now)
            for key, live in self._live.items()
            if key.label == device and not live.says_the_same(posture)
        }
        if not changed:
            return
        self._news.update(changed)
        try:
            self._write(changed)
        except NotRecorded as error:
            log.error("what %s says of itself is not remembered over a restart: %s", device, error)
            self._live.update(changed)

    @property
    def has_news(self) -> bool:
        """Whether some have to be judged again for what was heard of them."""
        return bool(self._news)

    def reconsider(self, judge: Judge, now: Instant, *, news_only: bool = False) -> int:
        """Judge every session again, or those with news, and take away at once what would be refused by now; how many
        that were.

        Raises FirewallError and StateError, and is then to be called again: what was refused is live until it is gone.
        """
        self._heed_spared()
        asked = [self._live[key] for key in self._news if key in self._live] if news_only else self._live.values()
        refused: dict[SessionKey, Refused] = {}
        for number, live in enumerate(asked):
            if number % ALIVE_EVERY == 0:
                self._leases.alive()
            if not live.spared and (why := _judged(judge, live)) is not None:
                refused[live.key] = why
        self._leases.revoke_leases([*self._unreadable, *refused])
        cut = [(self._live[key], why) for key, why in refused.items()]
        self._drop([*self._unreadable, *refused])
        self._unreadable.clear()
        self._news.clear()
        for live, why in cut:
            self._over.append((live, why.refusal.name.lower()))
            happened(log, _cut(live, why))
        self._due_ms = None
        for live in self._live.values():
            self._note_due(live, now)
        return len(cut)

    def next_due(self, now: Instant) -> int | None:
        """In how many ms all has to be judged again because time passes; None: not for that."""
        return None if self._due_ms is None else max(0, self._due_ms - now.wall_ms)

    def keep_up(self, now: Instant) -> None:
        """Let go of what is over by the firewall process's word, and tell of it. Raises FirewallError."""
        if now.boot_ms >= self._next_look_ms:
            due = [live for live in self._live.values() if self._looked_at_ms(live) <= now.boot_ms]
            if due:
                self._look(due, now)
            self._next_look_ms = min(map(self._looked_at_ms, self._live.values()), default=_NEVER_MS)
        if self._over:
            standings = self._last_look([live for live, _ in self._over])
            over, self._over = self._over, []
            for (live, reason), standing in zip(over, standings, strict=True):
                happened(log, _ended(live, reason, standing, now))

    def look_again(self) -> None:
        """Somebody else may have ended some: the next `keep_up` looks at all."""
        self._look_ms = dict.fromkeys(self._live, 0)
        self._next_look_ms = 0

    def keep_house(self) -> None:
        """Forget in the state what is over. Raises StateError."""
        if self._to_forget:
            self._record.forget(self._to_forget)
            self._to_forget.clear()

    def _looked_at_ms(self, live: Live) -> int:
        return self._look_ms.get(live.key, live.ends_ms)

    def _look(self, due: Sequence[Live], now: Instant) -> None:
        try:
            found = self._leases.look([live.key for live in due], final=False)
        except FirewallRefused:
            # One from before this request: it cannot say what outlived its lease, so that stays for the next one.
            found = tuple(Standing(0, int(live.outlives), None) for live in due)
        for live, standing in zip(due, found, strict=True):
            if standing.left_ms or (live.outlives and standing.flows):
                self._look_ms[live.key] = now.boot_ms + (standing.left_ms or LOOK_AGAIN_MS)
            else:
                self._over.append((live, "expired" if now.boot_ms + EARLY_MS >= live.ends_ms else "revoked"))
                self._drop([live.key])

    def _last_look(self, over: Sequence[Live]) -> Sequence[Standing | None]:
        try:
            return self._leases.look([live.key for live in over], final=True)
        except FirewallRefused:
            return [None] * len(over)

    def _write(self, sessions: Mapping[SessionKey, Live]) -> None:
        spared = {key for key, live in sessions.items() if live.spared}
        self._record.write({key: to_text(live) for key, live in sessions.items()}, spared)
        self._live.update(sessions)
        for key, live in sessions.items():
            self._look_ms.pop(key, None)
            self._next_look_ms = min(self._next_look_ms, live.ends_ms)
            self._to_forget.discard(key)

    def _drop(self, keys: Sequence[SessionKey]) -> None:
        for key in keys:
            self._live.pop(key, None)
            self._look_ms.pop(key, None)
        self._to_forget.update(keys)

    def _heed_spared(self) -> None:
        spared = self._record.spared() if self._live else ()
        for key in spared:
            live = self._live.get(key)
            if live is not None:
                self._live[key] = replace(live, spared=True)

    def _note_due(self, live: Live, now: Instant) -> None:
        due_ms = self._may_change(live, now)
        if due_ms is not None and (self._due_ms is None or due_ms < self._due_ms):
            self._due_ms = due_ms


def _judged(judge: Judge, live: Live) -> Refused | None:
    try:
        return judge(live)
    except Exception:
        log.exception("what %s has open of %s cannot be judged, so it is ended", live.key.label, live.service)
        return Refused(Refusal.POLICY_FAULT)


def _cut(live: Live, why: Refused) -> Event:
    sentence = why.refusal.sentence(why.about)
    message = f"cut off {live.key.label} ({live.context.user}) from {live.service} at {live.key.source}: {sentence}"
    return replace(_event(event_types.CUT, live, message), reason=why.refusal.name.lower(), about=why.about)


def _ended(live: Live, reason: str, standing: Standing | None, now: Instant) -> Event:
    lasted_s = max(0, now.boot_ms - live.began_ms) // 1000
    traffic = standing.traffic if standing is not None else None
    message = f"{live.key.label} ({live.context.user}) had {live.service} open at {live.key.source} for {lasted_s} s"
    message += f": {traffic.octets_in} bytes in, {traffic.octets_out} out" if traffic is not None else ""
    event = _event(event_types.SESSION_ENDED, live, message)
    return replace(event, reason=reason, lasted_ms=max(0, now.boot_ms - live.began_ms), traffic=traffic)


def _event(kind: EventType, live: Live, message: str) -> Event:
    return Event(
        kind,
        message,
        source=live.key.source,
        destination=live.key.destination,
        user=live.context.user,
        device=live.context.device,
        delegate=live.context.delegate,
        services=((live.service, 0),),
        session=live.session,
    )
