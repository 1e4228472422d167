"""In what context somebody asks, and what policy and risk say to it: everything about trust, asked in one place.

The policy's word comes first; the risk can only take away from it. The decision itself is `decide`'s. It must not know
datagrams or the kernel.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from spa_protocol.knock import Knock
from spa_protocol.posture import Posture
from spa_protocol.signature import SignatureKind
from spa_server.decide.context import Approval, Context
from spa_server.decide.policy import Judgement, Outcome, Policy
from spa_server.decide.risk import Band, Risk, Weights
from spa_server.decide.vocabulary import Action
from spa_server.listen.approvals import Approvals
from spa_server.listen.arrival import Arrival
from spa_server.listen.clock import Instant
from spa_server.listen.holders import Asker, DeviceHolder
from spa_server.listen.risk_watch import RiskWatch
from spa_server.remember.users import Users
from spa_server.service import Service

FACTOR_HOLDS_S = 3600
"""How long a second factor answers to a risk that asks for one."""
RISK = "risk"
"""In the place of a policy's id, where the risk decided."""


@dataclass(frozen=True, slots=True)
class Why:
    """On what a decision rests, for the record of it."""

    posture: Posture | None = None
    risk: int | None = None
    risk_parts: tuple[tuple[str, int], ...] = ()
    policies: tuple[str, ...] = ()
    policy_hash: str = ""


@dataclass(slots=True)
class Judging:
    """Policy and risk, asked in one context; what they said to each service is kept.

    `approval`: who lets the user have a service; `renews`: whether it is open now. `can_step_up`: whether there is any
    second factor that the user could give.
    """

    policy: Policy
    context: Context
    risk: Risk
    weights: Weights
    can_step_up: bool
    approval: Callable[[str], Approval]
    renews: Callable[[str], bool]
    said: dict[str, Judgement] = field(default_factory=dict)
    approved_s: dict[str, int] = field(default_factory=dict)
    """For how long each service's approval holds, where there is one."""

    def __call__(self, service: Service) -> Judgement:
        """What is said to opening this service."""
        approval = self.approval(service.name)
        if approval.by:
            self.approved_s[service.name] = approval.left_s
        renews = self.renews(service.name)
        context = replace(self.context, approval=approval, renews=renews)
        judgement = self.policy.judge(context, service.name, Action.RENEW if renews else Action.OPEN)
        self.said[service.name] = judgement = self._with_risk(judgement)
        return judgement

    def may_approve(self, service: str) -> Judgement:
        """What is said to letting somebody else have this service."""
        return self._with_risk(self.policy.judge(self.context, service, Action.APPROVE))

    def why(self) -> Why:
        """What it has rested on so far."""
        policies = dict.fromkeys(name for judgement in self.said.values() for name in judgement.policies)
        return Why(self.context.posture, self.risk.score, self.risk.parts, tuple(policies), self.policy.hash)

    def _with_risk(self, judgement: Judgement) -> Judgement:
        band = self.weights.band(self.risk.score)
        if not judgement.is_allowed or band is Band.ALLOW:
            return judgement
        if band is Band.REFUSE:
            return Judgement(Outcome.TOO_RISKY, tuple(name for name, _ in self.risk.parts))
        age_s = self.context.mfa_age_s
        if self.can_step_up and (age_s is None or age_s > FACTOR_HOLDS_S):
            return Judgement(Outcome.STEP_UP, (RISK,))
        return judgement


class Trust:
    """All that is known of who asks, beyond the registry. What reads the state raises StateError."""

    def __init__(self, policy: Policy, users: Users, risk: RiskWatch, approvals: Approvals) -> None:
        self.policy = policy
        self.risk = risk
        self.approvals = approvals
        self._users = users

    def follow(self, policy: Policy) -> None:
        """Judge by another policy from now on."""
        self.policy = policy

    def takes_code(self, asker: Asker, code: str, at: Instant) -> bool:
        """Whether the one-time code is good; then the device has given a second factor."""
        device = asker.holder.device
        if not self._users.check_code(device.user, code, at.wall_s):
            return False
        self._users.note_factor(device.label, at.wall_s)
        return True

    def judging(
        self, arrival: Arrival, asker: Asker, knock: Knock, *, first_use: bool, renews: Callable[[str], bool]
    ) -> Judging:
        """Somebody asks, by a knock that was verified. `renews`: whether a service is open to them now."""
        holder, at = asker.holder, arrival.at
        source = arrival.path.source if knock.source is None else knock.source
        risk = self.risk.assess(
            user=holder.device.user,
            device=asker.label,
            key_created_s=holder.credential.created_s,
            first_use=first_use,
            source=source,
            at=at,
            skew_ms=knock.time_ms - at.wall_ms,
            posture=knock.posture,
            renews=any(map(renews, knock.services)),
        )
        local = time.localtime(at.wall_s)
        context = Context(
            user=holder.device.user,
            roles=holder.device.roles,
            device=holder.device.label,
            delegate=asker.delegate,
            attested=False,
            posture=knock.posture,
            posture_age_s=None if knock.posture is None else knock.posture.age_s,
            risk=risk.score,
            source=source,
            hour=local.tm_hour,
            minute=local.tm_min,
            weekday=local.tm_wday + 1,
            mfa_age_s=self._factor_age_s(asker, at),
            approval=Approval(),
            renews=False,
        )
        return self._judging(context, risk, holder, at, renews)

    def again(self, context: Context, asker: Asker, at: Instant) -> Judging:
        """What is open is judged again. `context`: as it was, and everything older by the time that has passed."""
        holder = asker.holder
        risk = self.risk.standing(
            user=holder.device.user,
            device=asker.label,
            key_created_s=holder.credential.created_s,
            source=context.source,
            at=at,
            posture=context.posture,
        )
        now = replace(
            context,
            user=holder.device.user,
            roles=holder.device.roles,
            risk=risk.score,
            mfa_age_s=self._factor_age_s(asker, at),
        )
        return self._judging(now, risk, holder, at, lambda _service: True)

    def granted(self, judging: Judging, asker: Asker, at: Instant) -> None:
        """It was let in: only from this is learnt what is usual."""
        context = judging.context
        self.risk.granted(user=context.user, device=asker.label, source=context.source, at=at, posture=context.posture)

    def _judging(
        self, context: Context, risk: Risk, holder: DeviceHolder, at: Instant, renews: Callable[[str], bool]
    ) -> Judging:
        user = context.user
        return Judging(
            self.policy,
            context,
            risk,
            self.risk.weights,
            can_step_up=_touches(holder) or self._users.has_totp(user),
            approval=lambda service: self.approvals.approval(user, service, at.wall_s),
            renews=renews,
        )

    def _factor_age_s(self, asker: Asker, at: Instant) -> int | None:
        """Since the last second factor: the touch of a security key is one, for each knock or for a delegate's."""
        if _touches(asker.holder):
            certificate = asker.certificate
            return 0 if certificate is None else max(0, at.wall_s - certificate.issued_s)
        if asker.delegate:
            return None
        return self._users.factor_age_s(asker.holder.device.label, at.wall_s)


def _touches(holder: DeviceHolder) -> bool:
    return holder.key.kind is SignatureKind.SK_ED25519
