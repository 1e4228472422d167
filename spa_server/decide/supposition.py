"""What would change the policy's answer: the same question with one thing otherwise, and asked again. Pure.

Nothing is read out of the policies' text; each supposition is put to the policy itself, so what is said holds.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from spa_protocol.posture import Fact, Posture
from spa_server.decide.context import Approval, Context
from spa_server.decide.policy import Judgement, Policy
from spa_server.decide.vocabulary import Action
from spa_server.service import Service

FACTS = ("disk_encrypted", "screen_lock", "firewall", "secure_boot")
HEALTHY = Posture(0, disk_encrypted=Fact.YES, screen_lock=Fact.YES, firewall=Fact.YES, secure_boot=Fact.YES)
_DAY_MINUTES = 24 * 60
_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_STEP_MINUTES = 15


@dataclass(frozen=True, slots=True)
class Supposed:
    """If this were so (a clause), that would be the answer."""

    clause: str
    judgement: Judgement


def what_would_change(policy: Policy, context: Context, service: Service, action: Action) -> tuple[Supposed, ...]:
    """Single changes after each of which the answer is another: allowed where it was not, or not where it was.

    Where no single change lets somebody in who is kept out, what all of them together would do is tried last.
    """
    now = policy.judge(context, service.name, action)
    found = []
    for clause, supposed in _suppositions(context, service):
        judgement = policy.judge(supposed, service.name, action)
        if judgement.is_allowed != now.is_allowed:
            found.append(Supposed(clause, judgement))
    later = _next_time(policy, context, service, action, allowed=not now.is_allowed)
    if later is not None:
        found.append(later)
    if not found and not now.is_allowed:
        everything = _everything(context, service)
        judgement = policy.judge(everything, service.name, action)
        if judgement.is_allowed:
            found.append(Supposed("role, health, risk, second factor and approval were as good as can be", judgement))
    return tuple(found)


def _suppositions(context: Context, service: Service) -> Iterator[tuple[str, Context]]:
    for role in sorted(service.roles - context.roles):
        yield f"the device had the role {role}", replace(context, roles=context.roles | {role})
    for role in sorted(service.roles & context.roles):
        yield f"the device had not the role {role}", replace(context, roles=context.roles - {role})
    for name, posture in _postures(context.posture):
        age_s = context.posture_age_s if context.posture_age_s is not None else 0
        yield name, replace(context, posture=posture, posture_age_s=age_s)
    if context.posture is not None:
        yield "the posture were fresh", replace(context, posture_age_s=0)
        yield "the device said nothing of its health", replace(context, posture=None, posture_age_s=None)
    for risk in (0, 100):
        if risk != context.risk:
            yield f"the risk were {risk}", replace(context, risk=risk)
    yield "a second factor were given now", replace(context, mfa_age_s=0)
    yield "no second factor had been given", replace(context, mfa_age_s=None)
    for people in (("somebody",), ("somebody", "somebody else")):
        approval = Approval(context.approval.by | set(people), max(context.approval.left_s, 3600))
        yield f"{' and '.join(people)} approved it", replace(context, approval=approval)


def _postures(posture: Posture | None) -> Iterator[tuple[str, Posture]]:
    known = posture or Posture()
    for name in FACTS:
        for fact in (Fact.YES, Fact.NO):
            if getattr(known, name) is not fact:
                changed: dict[str, Any] = {name: fact}
                yield f"{name} were {fact.name.lower()}", replace(known, **changed)
    yield "the system had been patched today", replace(known, patch_age_days=0)
    yield (
        "all of the device's health were good",
        replace(HEALTHY, patch_age_days=0, uptime_s=60, system=known.system, source=known.source),
    )


def _next_time(policy: Policy, context: Context, service: Service, action: Action, *, allowed: bool) -> Supposed | None:
    """The next quarter of an hour within a week at which the answer is the other one."""
    start = ((context.weekday - 1) * 24 + context.hour) * 60 + context.minute
    first = start - start % _STEP_MINUTES + _STEP_MINUTES
    for minutes in range(first, first + 7 * _DAY_MINUTES, _STEP_MINUTES):
        day, minute = divmod(minutes % (7 * _DAY_MINUTES), _DAY_MINUTES)
        then = replace(context, weekday=day + 1, hour=minute // 60, minute=minute % 60)
        judgement = policy.judge(then, service.name, action)
        if judgement.is_allowed == allowed:
            return Supposed(f"it were {_DAYS[day]}, {minute // 60:02}:{minute % 60:02}", judgement)
    return None


def _everything(context: Context, service: Service) -> Context:
    return replace(
        context,
        roles=context.roles | service.roles,
        posture=replace(HEALTHY, patch_age_days=0, uptime_s=60),
        posture_age_s=0,
        risk=0,
        mfa_age_s=0,
        approval=Approval(context.approval.by | {"somebody", "somebody else"}, 3600),
    )


def sentence(judgement: Judgement, service: str) -> str:
    """An answer for people."""
    by = f" ({', '.join(judgement.policies)})" if judgement.policies else ""
    said = {
        "ALLOWED": f"{service} opens{by}",
        "NOT_PERMITTED": f"{service} stays shut: no policy permits it",
        "FORBIDDEN": f"{service} stays shut: forbidden{by}",
        "STEP_UP": f"{service} opens with a second factor{by}",
        "APPROVAL": f"{service} opens when somebody approves it{by}",
        "TOO_RISKY": f"{service} stays shut: the risk is too high{by}",
        "FAULT": f"{service} stays shut: the policy could not be evaluated: {'; '.join(judgement.errors)}",
    }
    return said[judgement.outcome.name]
