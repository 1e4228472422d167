"""What is told of each datagram that is judged: a line in the log, a record in the audit trail, a count, a reason kept.

One call for each thing that can come of it, so that the judging itself reads without it. It must not decide anything:
it can only say, before a grant, that the grant cannot be recorded.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

from spa_protocol.answer import CHECKPOINT_HASH_SIZE, Checkpoint
from spa_server.decide.decision import Closing, Grant, Refused
from spa_server.listen.arrival import Arrival
from spa_server.listen.enrolments import Enrolled
from spa_server.listen.holders import Asker, InviteHolder
from spa_server.listen.trust import Why
from spa_server.remember import refusals
from spa_server.remember.requests import Request
from spa_server.service import Address, Service
from spa_server.tell import event_types
from spa_server.tell.counts import Counts, Decision
from spa_server.tell.event_types import EventType
from spa_server.tell.events import Event, Outcome, happened

log = logging.getLogger("spa.knock")


class FirstRecord(Protocol):
    """The part of the audit trail that a grant waits for."""

    def record_first(self, event: Event) -> None:
        """Record what is about to be done. Raises NotWritten."""

    def newest(self) -> tuple[int, bytes] | None:
        """Number and hash of the newest record; None before there is one."""


class Account:
    """Keeps it in the ring of refusals, in the trail, and in its own counts; the log's handlers do the rest."""

    def __init__(self, ring: refusals.RefusalRing, audit: FirstRecord) -> None:
        self.counts = Counts()
        self._ring = ring
        self._audit = audit

    def checkpoint(self) -> Checkpoint | None:
        """How far the trail has come, for an answer: its record of what is answered is among the records."""
        newest = self._audit.newest()
        return None if newest is None else Checkpoint(newest[0], newest[1][:CHECKPOINT_HASH_SIZE])

    def granting(self, arrival: Arrival, asker: Asker, grant: Grant, why: Why) -> None:
        """Leases are about to be asked of the kernel. Raises NotWritten, and then they must not be."""
        asked = tuple((item.service.name, item.lease_s) for item in grant.services)
        message = f"about to open {', '.join(name for name, _ in asked)} to {asker} from {grant.source}"
        self._audit.record_first(
            _event(
                event_types.GRANTING,
                arrival,
                asker,
                message,
                Outcome.UNKNOWN,
                source=grant.source,
                services=asked,
                why=why,
            )
        )

    def approving(self, arrival: Arrival, asker: Asker, request: Request) -> None:
        """A request is about to be approved. Raises NotWritten, and then it must not be."""
        message = f"{asker.holder.device.user} is about to approve, with {asker}: {request.service} for {request.user}"
        event = _event(event_types.APPROVED, arrival, asker, message, Outcome.UNKNOWN, services=((request.service, 0),))
        self._audit.record_first(replace(event, request=request.number))

    def granted(
        self, arrival: Arrival, asker: Asker, grant: Grant, left_s: Sequence[int], skew_ms: int, why: Why
    ) -> None:
        """The kernel has opened them, for so many seconds each."""
        self.counts.results["granted"] += 1
        opened = tuple((item.service.name, left) for item, left in zip(grant.services, left_s, strict=True))
        for name, _ in opened:
            self.counts.decisions[Decision(name, "granted", "")] += 1
        names = ", ".join(f"{name} {left} s" for name, left in opened)
        user = asker.holder.device.user
        message = f"granted {asker} ({user}) from {grant.source}: {names}; skew {skew_ms} ms"
        event = _event(
            event_types.GRANTED,
            arrival,
            asker,
            message,
            source=grant.source,
            services=opened,
            skew_ms=skew_ms,
            why=why,
        )
        happened(log, event)

    def closed(self, arrival: Arrival, asker: Asker, closing: Closing, closed: Sequence[Service]) -> None:
        """It gave back what it had open of these."""
        self.counts.results["closed"] += 1
        names = ", ".join(service.name for service in closed) or "nothing, for nothing was open"
        message = f"closed after {asker} ({asker.holder.device.user}), at {closing.source}: {names}"
        ended = tuple((service.name, 0) for service in closed)
        happened(log, _event(event_types.CLOSED, arrival, asker, message, source=closing.source, services=ended))

    def enrolling(self, arrival: Arrival, holder: InviteHolder) -> None:
        """An invite is about to be redeemed. Raises NotWritten, and then it must not be."""
        message = f"about to redeem the invite for {holder.invite.label}"
        self._audit.record_first(_event(event_types.ENROLLING, arrival, holder, message, Outcome.UNKNOWN))

    def enrolled(self, arrival: Arrival, holder: InviteHolder, enrolled: Enrolled, calls_itself: str) -> None:
        """An invite was redeemed, or had been by the same key."""
        self.counts.results["enrolled" if enrolled.first else "enrolled_again"] += 1
        device, source = enrolled.device, arrival.path.source
        message = f"enrolled {device.label} for {device.user} from {source}; it calls itself {calls_itself}"
        if not enrolled.first:
            message = f"told {device.label} once more, from {source}, that it is enrolled"
        again = "" if enrolled.first else "again"
        happened(log, _event(event_types.ENROLLED, arrival, holder, message, reason=again, about=calls_itself))

    def refused(
        self,
        arrival: Arrival,
        who: Asker | InviteHolder,
        refused: Refused,
        services: Sequence[Service],
        skew_ms: int = 0,
        wanted: Sequence[str] = (),
        why: Why | None = None,
    ) -> None:
        """It was refused. `services`: those there are; `wanted`: those that a knock named; `why`: as far as it came."""
        label, name = (who.label, str(who)) if isinstance(who, Asker) else (who.invite.label, who.invite.label)
        reason, source = refused.refusal.name.lower(), arrival.path.source
        self.counts.results[reason] += 1
        if isinstance(who, Asker):
            # A device may name anything at all: only services that there are become labels.
            known = any(service.name == refused.about for service in services)
            self.counts.decisions[Decision(refused.about if known else "", "refused", reason)] += 1
        event = _event(
            event_types.REFUSED if isinstance(who, Asker) else event_types.ENROLMENT_REFUSED,
            arrival,
            who,
            f"refused {name} from {source}: {refused.refusal.sentence(refused.about, skew_ms)}",
            Outcome.FAILURE,
            reason=reason,
            about=refused.about,
            services=tuple((name, 0) for name in wanted),
            skew_ms=skew_ms,
            why=why,
        )
        happened(log, event)
        self._ring.add(
            refusals.Refused(arrival.at.wall_ms, label, source, refused.refusal.name, refused.about, skew_ms)
        )


def _event(
    kind: EventType,
    arrival: Arrival,
    who: Asker | InviteHolder,
    message: str,
    outcome: Outcome = Outcome.SUCCESS,
    *,
    source: Address | None = None,
    reason: str = "",
    about: str = "",
    services: tuple[tuple[str, int], ...] = (),
    skew_ms: int | None = None,
    why: Why | None = None,
) -> Event:
    why = why or Why()
    whose = who.holder.device if isinstance(who, Asker) else who.invite
    return Event(
        kind,
        message,
        outcome,
        reason=reason,
        about=about,
        source=source or arrival.path.source,
        destination=arrival.path.destination,
        user=whose.user,
        device=whose.label,
        delegate=who.delegate if isinstance(who, Asker) else "",
        services=services,
        session=arrival.session,
        skew_ms=skew_ms,
        posture=why.posture,
        risk=why.risk,
        risk_parts=why.risk_parts,
        policies=why.policies,
        policy_hash=why.policy_hash,
    )
