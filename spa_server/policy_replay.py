"""Last week's knocks put to another policy: what would have been different.

A record of the audit trail says who asked, from where and when, with what health and at what risk. What it does not say
is taken as it must have been: a grant had every second factor and approval that its policy asked for, a refusal none.
It must not know files.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from ipaddress import ip_address
from typing import Any

from spa_protocol.posture import Posture
from spa_server.decide.context import Approval, Context
from spa_server.decide.policy import Judgement, Policy
from spa_server.decide.vocabulary import Action
from spa_server.policy_case import plain_context, posture_of
from spa_server.toml_table import Bad

REASONS = frozenset({"service_not_allowed", "policy_forbids", "step_up_needed", "approval_needed", "risk_too_high"})
"""Refusals that a policy could have made, or made otherwise."""
EVERYBODY = frozenset({"somebody", "somebody else"})


@dataclass(frozen=True, slots=True)
class Difference:
    """A knock that would have ended otherwise. `was`: "granted", or the reason of the refusal."""

    time: str
    device: str
    user: str
    service: str
    source: str
    was: str
    judgement: Judgement


@dataclass(slots=True)
class Replay:
    """Records put to a policy, one by one; `asked` counts services, `unknown` those that nothing can be said of."""

    policy: Policy
    services: frozenset[str]
    roles: Mapping[str, frozenset[str]]
    """Of each device, as the registry has them now: records do not say what they were."""
    asked: int = 0
    unknown: int = 0

    def differences(self, records: Iterable[Mapping[str, Any]]) -> Iterator[Difference]:
        """Those records of which the policy says otherwise."""
        for record in records:
            yield from self._differences(record)

    def _differences(self, record: Mapping[str, Any]) -> Iterator[Difference]:
        event = record.get("event", {})
        granted = event.get("action") == "granted"
        if not granted and (event.get("action") != "refused" or event.get("reason") not in REASONS):
            return
        device = str(record.get("device", {}).get("id", ""))
        for item in record.get("spa", {}).get("services", ()):
            service = str(item.get("name", ""))
            self.asked += 1
            context = self._context(record, device, granted)
            if context is None or service not in self.services:
                self.unknown += 1
                continue
            judgement = self.policy.judge(context, service, Action.OPEN)
            if judgement.is_allowed != granted:
                yield Difference(
                    str(record.get("@timestamp", "")),
                    device,
                    context.user,
                    service,
                    str(context.source),
                    "granted" if granted else str(event.get("reason", "")),
                    judgement,
                )

    def _context(self, record: Mapping[str, Any], device: str, granted: bool) -> Context | None:
        own = record.get("spa", {})
        try:
            at = datetime.datetime.fromisoformat(str(record["@timestamp"])).astimezone()
            source = ip_address(str(record["source"]["ip"]))
            posture = _posture(own.get("posture"))
            roles = self.roles[device]
            user = str(record["user"]["name"])
        except (KeyError, TypeError, ValueError, Bad):
            return None
        context = plain_context(user, roles, device, at, source)
        return replace(
            context,
            delegate=str(own.get("delegate", "")),
            posture=posture,
            posture_age_s=None if posture is None else posture.age_s,
            risk=int(record.get("event", {}).get("risk_score", 0)),
            mfa_age_s=0 if granted else None,
            approval=Approval(EVERYBODY, 3600) if granted else Approval(),
        )


def _posture(told: Mapping[str, object] | None) -> Posture | None:
    if told is None:
        return None
    age_s = told.get("age_s", 0)
    facts = {name: value for name, value in told.items() if name != "age_s"}
    return replace(posture_of(facts), age_s=age_s if isinstance(age_s, int) else 0)
