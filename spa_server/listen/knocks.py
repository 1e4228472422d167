"""What happens to one datagram: open, verify, fresh, at most once, decide, record, grant, answer.

The order is docs/protocol.md, section 11. Whoever fails before the signature is verified is met with silence and costs
at most one verification, since its tag is taken first. Nothing is granted before the use of the tag's window and slot
is recorded, and nothing is answered before the kernel has confirmed the grant. It must not know sockets.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import Protocol

from spa_protocol.body import VERSION, MalformedBody, MessageType, body_head
from spa_protocol.enrolment import Enrolment
from spa_protocol.keys import Channel
from spa_protocol.knock import MAX_SERVICES, Action, Knock
from spa_protocol.refusal import Refusal
from spa_protocol.seal import NONCE_SIZE, Domain, Opened, unseal
from spa_protocol.signature import SignatureKind
from spa_protocol.tag import TAG_SIZE, TagKind, TagPosition
from spa_server.decide.decision import (
    Closing,
    Delegated,
    Grant,
    Refused,
    decide,
    decide_close,
    freshness,
    refused,
    services_of_roles,
    shut_out_of,
)
from spa_server.decide.policy import Outcome
from spa_server.enforce.client import FirewallError
from spa_server.listen.account import Account
from spa_server.listen.arrival import Arrival
from spa_server.listen.clock import Instant
from spa_server.listen.enrolments import Enrolled, enrol
from spa_server.listen.gate import ArmedTag, Gate, Slots
from spa_server.listen.holders import Asker, DeviceHolder, InviteHolder
from spa_server.listen.live import LiveSessions
from spa_server.listen.membership import Membership
from spa_server.listen.session import Live, begun
from spa_server.listen.trust import Judging, Trust, Why
from spa_server.listen.verdict import Verdict, seal_verdict, told
from spa_server.listen.verifying import NotVerified, verified
from spa_server.remember.delegations import Delegations, is_revoked
from spa_server.remember.identity import ServerIdentity
from spa_server.remember.requests import Request
from spa_server.remember.sessions import SessionKey
from spa_server.remember.sources import SourcesOfDevices
from spa_server.remember.store import StateError
from spa_server.remember.used import NotRecorded, Use, UsedSlots
from spa_server.remember.witness import Slot
from spa_server.service import Service
from spa_server.tell.audit import NotWritten

log = logging.getLogger("spa.knock")

_KINDS = frozenset(SignatureKind)


class GrantFailed(Exception):
    """The kernel did not confirm a grant; nothing may be said to be open."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What of the configuration knocks are judged by."""

    services: tuple[Service, ...]
    max_skew_ms: int
    slots: Slots
    replies: bool
    max_delegation_s: int


class LeaseOpener(Protocol):
    """The part of the firewall process that opens and closes leases."""

    def open_leases(self, grant: Grant, label: str) -> tuple[int, ...]:
        """Open all of a grant in one transaction; seconds left, service by service. Raises GrantFailed."""

    def close_leases(self, closing: Closing, label: str) -> tuple[Service, ...]:
        """Close what the label has open of these; the services of which something was. Raises GrantFailed."""


class KnockHandler:
    """Judges datagrams one by one; the only code that asks for a lease."""

    def __init__(
        self,
        *,
        membership: Membership,
        rules: Rules,
        identity: ServerIdentity,
        used: UsedSlots,
        sources: SourcesOfDevices,
        delegations: Delegations,
        account: Account,
        trust: Trust,
        live: LiveSessions,
        leases: LeaseOpener,
        random_bytes: Callable[[int], bytes],
    ) -> None:
        self._membership = membership
        self._rules = rules
        self._identity = identity
        self._used = used
        self._sources = sources
        self._delegations = delegations
        self._account = account
        self._trust = trust
        self._live = live
        self._leases = leases
        self._random_bytes = random_bytes

    @property
    def _results(self) -> Counter[str]:
        return self._account.counts.results

    def follow(self, rules: Rules) -> None:
        """Judge by another configuration from now on."""
        self._rules = rules

    @property
    def _gate(self) -> Gate:
        return self._membership.gate

    def handle(self, arrival: Arrival) -> bytes | None:
        """The datagram to answer with, or None for silence."""
        armed = self._gate.take(arrival.datagram[:TAG_SIZE])
        if armed is None:
            self._results["unknown_tag"] += 1
            return None
        begun_s = time.perf_counter()
        try:
            return self._handle(arrival, armed)
        finally:
            self._account.counts.decision_s.note(time.perf_counter() - begun_s)

    def _handle(self, arrival: Arrival, armed: ArmedTag) -> bytes | None:
        try:
            self._membership.catch_up(arrival.at)
        except (StateError, FirewallError) as error:
            log.error("nothing is judged while the registry cannot be read: %s", error)
            if armed.holder.channel is not Channel.INVITE and armed.position.kind is TagKind.KNOCK:
                self._used.void(_slot(armed))
            self._results["unreadable_registry"] += 1
            return None
        holder = self._membership.holders.get(armed.holder)
        if holder is None:
            self._results["unknown_tag"] += 1
            return None
        opened = unseal(arrival.datagram, holder.keys.request_seal)
        if opened is None:
            self._refuse_unverified(arrival, _asker(holder), Refusal.NOT_OPENED)
            return None
        if isinstance(holder, DeviceHolder):
            verdict = self._judge_knock(arrival, holder, armed, opened)
        else:
            verdict = self._judge_enrolment(arrival, holder, armed, opened)
        if verdict is None or not self._rules.replies:
            return None
        nonce, slots = self._random_bytes(NONCE_SIZE), self._rules.slots.of(armed.holder.channel, TagKind.KNOCK)
        return seal_verdict(
            verdict,
            arrival,
            opened,
            keys=holder.keys,
            identity=self._identity,
            slots=slots,
            nonce=nonce,
            checkpoint=self._account.checkpoint(),
        )

    def _judge_knock(self, arrival: Arrival, holder: DeviceHolder, armed: ArmedTag, opened: Opened) -> Verdict | None:
        if not self._is_expected(arrival, holder, opened, MessageType.KNOCK):
            return None
        read = verified(holder, opened, self._identity.public)
        if isinstance(read, NotVerified):
            if read.refused.refusal is Refusal.BAD_SIGNATURE:
                self._refuse_unverified(arrival, Asker(holder), Refusal.BAD_SIGNATURE)
                return None
            verdict = self._refuse(arrival, Asker(holder), read.refused)
            return verdict if read.by_the_device else None
        asker = Asker(holder, read.certificate)
        untimely = self._untimely(read.time_ms, armed.position, arrival.at)
        if untimely is not None:
            if armed.position.kind is TagKind.KNOCK:
                # The clock may be wrong just now: once it is right, whoever recorded this could send it again.
                self._used.void(_slot(armed))
            return self._refuse(arrival, asker, untimely, read.time_ms - arrival.at.wall_ms)
        unrecorded = self._use(armed, arrival, asker)
        if unrecorded is not None:
            return self._refuse(arrival, asker, unrecorded)
        try:
            return self._judge_verified(arrival, asker, armed, read)
        except StateError as error:
            log.error("nothing is opened while the state cannot be read: %s", error)
            return self._refuse(arrival, asker, Refused(Refusal.NOT_RECORDED))

    def _judge_verified(self, arrival: Arrival, asker: Asker, armed: ArmedTag, read: Knock) -> Verdict:
        """A knock that is good in itself. Raises StateError."""
        holder = asker.holder
        # A knock to close says nothing of the device's health, and so nothing against it.
        if not asker.delegate and read.action is not Action.CLOSE:
            self._live.heard(asker.label, read.posture, arrival.at)
        standing, delegated = holder.standing(arrival.at.wall_s), self._delegated(asker, arrival.at)
        if read.action is Action.CLOSE:
            closing = decide_close(read, arrival.path, standing, self._rules.services, delegated)
            if isinstance(closing, Refused):
                return self._refuse(arrival, asker, closing, wanted=read.services)
            return self._close(arrival, asker, closing)
        shut_out = shut_out_of(standing, delegated)
        if shut_out is not None:
            return self._refuse(arrival, asker, shut_out, wanted=read.services)
        if read.code and not self._trust.takes_code(asker, read.code, arrival.at):
            return self._refuse(arrival, asker, Refused(Refusal.CODE_WRONG), wanted=read.services)
        judging = self._judging(arrival, asker, read)
        if read.action in (Action.APPROVE, Action.DENY):
            return self._decide_on_request(arrival, asker, read, judging)
        decision = decide(read, arrival.path, standing, self._rules.services, judging, delegated)
        why = judging.why()
        self._tell_faults(judging)
        if isinstance(decision, Refused):
            if decision.refusal is Refusal.APPROVAL_NEEDED:
                device = asker.holder.device
                number = self._trust.approvals.ask(device.user, device.label, decision.about, arrival.at.wall_s)
                decision = Refused(decision.refusal, str(number))
            if decision.refusal is Refusal.RISK_TOO_HIGH:
                self._membership.note_change()  # what it has open is judged by this risk, too
            return self._refuse(arrival, asker, decision, wanted=read.services, why=why)
        decision = _no_longer_than(decision, judging.approved_s)
        sessions = begun(arrival, asker, armed.holder, read, decision, judging.context)
        unrecorded = self._record(arrival, asker, decision, why, sessions)
        if unrecorded is not None:
            return self._refuse(arrival, asker, unrecorded)
        return self._grant(arrival, asker, decision, read.time_ms - arrival.at.wall_ms, judging)

    def _judging(self, arrival: Arrival, asker: Asker, knock: Knock) -> Judging:
        source = arrival.path.source if knock.source is None else knock.source

        def renews(service: str) -> bool:
            return self._live.get(SessionKey(asker.label, source, arrival.path.destination, service)) is not None

        first_use = not self._sources.of(asker.label)
        return self._trust.judging(arrival, asker, knock, first_use=first_use, renews=renews)

    def _decide_on_request(self, arrival: Arrival, asker: Asker, knock: Knock, judging: Judging) -> Verdict:
        """Somebody approves or denies what another wants. Raises StateError."""
        device, refusals = asker.holder.device, list[Refused]()

        def may_decide(request: Request) -> bool:
            judgement = judging.may_approve(request.service)
            if judgement.outcome in (Outcome.STEP_UP, Outcome.TOO_RISKY, Outcome.FAULT):
                refusals.append(refused(request.service, judgement))
            if judgement.is_allowed and approves:
                self._account.approving(arrival, asker, request)
            return judgement.is_allowed

        approves = knock.action is Action.APPROVE
        try:
            decided = self._trust.approvals.decide(
                device.user,
                device.label,
                knock.request,
                approve=approves,
                wanted_s=knock.lease_s,
                now_s=arrival.at.wall_s,
                may_decide=may_decide,
            )
        except NotWritten as error:
            return self._refuse(arrival, asker, self._unaudited(error))
        if isinstance(decided, Refused):
            return self._refuse(arrival, asker, refusals[0] if refusals else decided, why=judging.why())
        self._results["decided_on_request"] += 1
        self._membership.note_change()
        return Verdict(None, (), decided)

    @staticmethod
    def _tell_faults(judging: Judging) -> None:
        for name, judgement in judging.said.items():
            for error in judgement.errors:
                log.error("nothing is opened while the policy cannot be evaluated for %s: %s", name, error)

    def _delegated(self, asker: Asker, now: Instant) -> Delegated | None:
        certificate = asker.certificate
        if certificate is None:
            return None
        revoked = is_revoked(self._membership.revoked, asker.holder.device.id, certificate.name, certificate.issued_s)
        return Delegated(certificate, revoked, now.wall_ms, self._rules.max_delegation_s, self._rules.max_skew_ms)

    def _judge_enrolment(
        self, arrival: Arrival, holder: InviteHolder, armed: ArmedTag, opened: Opened
    ) -> Verdict | None:
        if not self._is_expected(arrival, holder, opened, MessageType.ENROLMENT):
            return None
        try:
            enrolment = Enrolment.parse(opened.message)
        except MalformedBody as error:
            self._refuse(arrival, holder, Refused(Refusal.MALFORMED, str(error)))
            return None
        if not opened.is_signed_by(enrolment.key, Domain.ENROLMENT, self._identity.public):
            self._refuse(arrival, holder, Refused(Refusal.BAD_SIGNATURE))
            return None
        untimely = self._untimely(enrolment.time_ms, armed.position, arrival.at)
        if untimely is not None:
            return self._refuse(arrival, holder, untimely, enrolment.time_ms - arrival.at.wall_ms)
        unrecorded = self._record_enrolment(arrival, holder)
        if unrecorded is not None:
            return self._refuse(arrival, holder, unrecorded)
        outcome = enrol(enrolment, holder.invite, self._membership.registry, arrival.at.wall_s)
        if isinstance(outcome, Refused):
            return self._refuse(arrival, holder, outcome)
        try:
            self._membership.catch_up(arrival.at)
        except (StateError, FirewallError) as error:
            # It is enrolled all the same; its tags are armed when the server next catches up.
            log.error("%s is enrolled but cannot knock yet: %s", outcome.device.label, error)
        return self._welcome(arrival, holder, outcome, enrolment.label)

    def _is_expected(
        self, arrival: Arrival, holder: DeviceHolder | InviteHolder, opened: Opened, message: MessageType
    ) -> bool:
        head = body_head(opened.body)
        kinds = _KINDS
        if isinstance(holder, DeviceHolder):
            kinds = frozenset({SignatureKind.ED25519 if holder.delegated else holder.key.kind})
        if head[:2] == (VERSION, message.value) and head[2] in {kind.value for kind in kinds}:
            return True
        about = "version {}, type {}, signature kind {}".format(*head)
        self._refuse(arrival, _asker(holder), Refused(Refusal.UNKNOWN_VERSION, about))
        return False

    def _untimely(self, time_ms: int, position: TagPosition, now: Instant) -> Refused | None:
        if position.kind.window(time_ms) != position.window:
            return Refused(Refusal.MALFORMED, "its time is not in its tag's window")
        stale = freshness(time_ms, now.wall_ms, self._rules.max_skew_ms)
        if stale is not None:
            return Refused(stale)
        if position.kind is TagKind.CLOCK:
            return Refused(Refusal.CLOCK_ONLY)
        if position.window < self._membership.first_window(now):
            return Refused(Refusal.BEFORE_START)
        return None

    def _use(self, armed: ArmedTag, arrival: Arrival, asker: Asker) -> Refused | None:
        """Use the slot, at most once, written down before anything is decided."""
        slot = _slot(armed)
        try:
            use = self._used.use(*slot)
        except NotRecorded as error:
            return self._unrecorded(error)
        if use is Use.RETIRED:
            return Refused(Refusal.BEFORE_START)
        digest = blake2b(arrival.datagram, digest_size=16).digest()
        if use is Use.FIRST:
            self._trust.risk.used(slot, digest)
            return None
        self._trust.risk.used_again(asker.label, slot, digest, arrival.path.source, arrival.at)
        return Refused(Refusal.ALREADY_USED)

    def _record(
        self, arrival: Arrival, asker: Asker, grant: Grant, why: Why, sessions: Sequence[Live]
    ) -> Refused | None:
        """Write down what is about to be had: its source, to shut it out there later, the delegation, all of it in the
        audit trail, so that no kill between the kernel's doing and the record of it can hide a grant, and the sessions,
        so that they can be judged again.
        """
        try:
            for label in {asker.holder.device.label, asker.label}:
                self._sources.note(label, grant.source, arrival.at.wall_s)
            if asker.certificate is not None:
                self._delegations.note(asker.holder.device, asker.certificate, arrival.at.wall_s)
            self._account.granting(arrival, asker, grant, why)
            self._live.granting(sessions)
        except NotRecorded as error:
            return self._unrecorded(error)
        except NotWritten as error:
            return self._unaudited(error)
        return None

    def _record_enrolment(self, arrival: Arrival, holder: InviteHolder) -> Refused | None:
        try:
            self._account.enrolling(arrival, holder)
        except NotWritten as error:
            return self._unaudited(error)
        return None

    @staticmethod
    def _unrecorded(error: NotRecorded) -> Refused:
        log.error("nothing is opened while the state cannot be written: %s", error)
        return Refused(Refusal.NOT_RECORDED)

    @staticmethod
    def _unaudited(error: NotWritten) -> Refused:
        log.error("nothing is opened while the audit trail cannot be written: %s", error)
        return Refused(Refusal.NOT_RECORDED)

    def _grant(self, arrival: Arrival, asker: Asker, grant: Grant, skew_ms: int, judging: Judging) -> Verdict:
        try:
            left_s = self._leases.open_leases(grant, asker.label)
        except GrantFailed as error:
            self._live.failed()
            return self._undone(arrival, asker, f"the lease for {asker.label} was not opened: {error}")
        self._live.granted(left_s, arrival.at)
        self._trust.granted(judging, asker, arrival.at)
        self._account.granted(arrival, asker, grant, left_s, skew_ms, judging.why())
        services = tuple(told(item.service, left) for item, left in zip(grant.services, left_s, strict=True))
        return Verdict(None, services, asker.label)

    def _close(self, arrival: Arrival, asker: Asker, closing: Closing) -> Verdict:
        try:
            closed = self._leases.close_leases(closing, asker.label)
        except GrantFailed as error:
            return self._undone(arrival, asker, f"the leases of {asker.label} were not closed: {error}")
        self._live.closed(closing, asker.label, closed, arrival.at)
        self._account.closed(arrival, asker, closing, closed)
        return Verdict(None, tuple(told(service, 0) for service in closed[:MAX_SERVICES]), asker.label)

    def _undone(self, arrival: Arrival, asker: Asker, what: str) -> Verdict:
        log.error(what)
        self._account.counts.kernel_errors += 1
        return self._refuse(arrival, asker, Refused(Refusal.KERNEL_FAILED))

    def _welcome(self, arrival: Arrival, holder: InviteHolder, enrolled: Enrolled, calls_itself: str) -> Verdict:
        self._account.enrolled(arrival, holder, enrolled, calls_itself)
        allowed = services_of_roles(enrolled.device.roles, self._rules.services)[:MAX_SERVICES]
        return Verdict(None, tuple(told(service, 0) for service in allowed), enrolled.device.label)

    def _refuse_unverified(self, arrival: Arrival, who: Asker | InviteHolder, refusal: Refusal) -> None:
        """Whoever sent it, it was not the device: it speaks against the network that it came from."""
        self._trust.risk.invalid(arrival.path.source, arrival.at)
        self._refuse(arrival, who, Refused(refusal))

    def _refuse(
        self,
        arrival: Arrival,
        who: Asker | InviteHolder,
        refused: Refused,
        skew_ms: int = 0,
        wanted: tuple[str, ...] = (),
        why: Why | None = None,
    ) -> Verdict:
        self._account.refused(arrival, who, refused, self._rules.services, skew_ms, wanted, why)
        return Verdict(refused, (), refused.about)


def _no_longer_than(grant: Grant, most_s: Mapping[str, int]) -> Grant:
    """The grant, no service of it for longer than its approval holds."""
    services = tuple(
        replace(item, lease_s=min(item.lease_s, most_s.get(item.service.name, item.lease_s))) for item in grant.services
    )
    return replace(grant, services=services)


def _slot(armed: ArmedTag) -> Slot:
    return Slot(armed.holder.number, armed.position.window, armed.holder.used_as(armed.position.slot))


def _asker(holder: DeviceHolder | InviteHolder) -> Asker | InviteHolder:
    return Asker(holder) if isinstance(holder, DeviceHolder) else holder
