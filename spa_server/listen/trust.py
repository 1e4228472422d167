"""In what context a device knocks, and what the policy says to it: everything about trust, asked in one place.

The decision itself is `decide`'s. It must not know datagrams or the kernel.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from spa_protocol.knock import Knock
from spa_protocol.posture import Posture
from spa_server.decide.context import Approval, Context
from spa_server.decide.policy import Judgement, Policy
from spa_server.decide.vocabulary import Action
from spa_server.listen.arrival import Arrival
from spa_server.listen.clock import Instant
from spa_server.listen.holders import Asker
from spa_server.service import Service


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
    """The policy, asked in one context; what it said to each service is kept."""

    policy: Policy
    context: Context
    said: dict[str, Judgement] = field(default_factory=dict)

    def __call__(self, service: Service) -> Judgement:
        """What the policy says to opening this service."""
        action = Action.RENEW if self.context.renews else Action.OPEN
        self.said[service.name] = judgement = self.policy.judge(self.context, service.name, action)
        return judgement

    def why(self) -> Why:
        """What it has rested on so far."""
        policies = dict.fromkeys(name for judgement in self.said.values() for name in judgement.policies)
        return Why(self.context.posture, policies=tuple(policies), policy_hash=self.policy.hash)


class Trust:
    """All that is known of who asks, beyond the registry."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy

    def follow(self, policy: Policy) -> None:
        """Judge by another policy from now on."""
        self.policy = policy

    def judging(self, arrival: Arrival, asker: Asker, knock: Knock) -> Judging:
        """Somebody asks, by a knock that was verified."""
        return Judging(self.policy, self._context(arrival, asker, knock))

    def _context(self, arrival: Arrival, asker: Asker, knock: Knock) -> Context:
        device = asker.holder.device
        local = _local(arrival.at)
        return Context(
            user=device.user,
            roles=device.roles,
            device=device.label,
            delegate=asker.delegate,
            attested=False,
            posture=knock.posture,
            posture_age_s=None if knock.posture is None else knock.posture.age_s,
            risk=0,
            source=arrival.path.source if knock.source is None else knock.source,
            hour=local.tm_hour,
            minute=local.tm_min,
            weekday=local.tm_wday + 1,
            mfa_age_s=None,
            approval=Approval(),
            renews=False,
        )


def _local(now: Instant) -> time.struct_time:
    return time.localtime(now.wall_s)
