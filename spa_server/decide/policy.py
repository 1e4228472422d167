"""The operator's policy, in Cedar: read once, and asked for each service that somebody wants.

A policy that cannot be evaluated is passed over by Cedar, so that a `forbid` with an error in it would let in whom it
was to keep out. Therefore an answer counts as Allow only when there was no error at all; the schema keeps most errors
from being loaded. Forbids whose id begins with `stepup-` or `need-approval` say that more is needed, where everything
else allows it. Pure.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from functools import lru_cache
from hashlib import sha256

import cedarpy

from spa_server.decide.context import Context
from spa_server.decide.vocabulary import APPROVAL, SCHEMA, STEP_UP, Action, entities, question
from spa_server.service import Service

MOST_ASKERS = 4096
"""Pairs of a user and roles whose entities are kept parsed."""
_NAMED = {"Service": "service", "ServiceGroup": "group"}

_schema = cedarpy.Schema.from_str(SCHEMA)


class PolicyError(Exception):
    """The text is no policy of this schema; `problems` has a sentence for each thing that is wrong."""

    def __init__(self, *problems: str) -> None:
        self.problems = problems
        super().__init__("\n".join(problems))


class Outcome(Enum):
    """What a policy says to one question."""

    ALLOWED = auto()
    NOT_PERMITTED = auto()
    """No policy permits it."""
    FORBIDDEN = auto()
    STEP_UP = auto()
    """A second factor would do, and perhaps an approval besides."""
    APPROVAL = auto()
    """Somebody's approval would do."""
    TOO_RISKY = auto()
    """The policy allows it, and the risk is too high."""
    FAULT = auto()
    """There was an error, so it counts for nothing."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a policy says, by which of its policies, and what went wrong, if anything did."""

    outcome: Outcome
    policies: tuple[str, ...] = ()
    errors: tuple[str, ...] = ()

    @property
    def is_allowed(self) -> bool:
        """Whether it may be opened."""
        return self.outcome is Outcome.ALLOWED


class Policy:
    """One text, checked against the schema. Raises PolicyError."""

    def __init__(self, text: str, services: Sequence[Service]) -> None:
        checked = cedarpy.validate_policies(text, SCHEMA)
        if not checked.validation_passed:
            raise PolicyError(*_problems(checked))
        self.text = text
        self.hash = sha256(text.encode()).hexdigest()
        self._services = tuple(services)
        parsed = json.loads(cedarpy.policies_to_json_str(text))
        if parsed["templates"]:
            raise PolicyError("templates (?principal, ?resource) are not filled in by anything here; write policies")
        named = dict(_named(parsed["staticPolicies"]))
        self.ids = tuple(named)
        """Of every policy, in the text's order."""
        self.unknown = tuple(_unknown(named, self._services))
        """Services and groups that it names and that the configuration does not: misspelt, perhaps."""
        plain = {name: policy for name, policy in named.items() if not _is_more(name)}
        self._whole = _policy_set(named)
        self._plain = _policy_set(plain)
        self._askers = lru_cache(MOST_ASKERS)(self._entities)

    def judge(self, context: Context, service: str, action: Action) -> Judgement:
        """May this user do this, in this context? A service that the configuration does not have is a fault."""
        who = self._askers(context.user, context.roles)
        request = question(context, service, action)
        judged = _asked(request, self._whole, who)
        if judged.outcome is not Outcome.FORBIDDEN or not all(map(_is_more, judged.policies)):
            return judged
        # More is needed. Is it, then, all that is needed?
        otherwise = _asked(request, self._plain, who)
        if not otherwise.is_allowed:
            return otherwise
        step_up = any(name.startswith(STEP_UP) for name in judged.policies)
        return Judgement(Outcome.STEP_UP if step_up else Outcome.APPROVAL, judged.policies)

    def _entities(self, user: str, roles: frozenset[str]) -> cedarpy.Entities:
        return cedarpy.Entities.from_json_str(json.dumps(entities(user, roles, self._services)))


def _asked(request: dict[str, object], policies: cedarpy.PolicySet, who: cedarpy.Entities) -> Judgement:
    try:
        said = cedarpy.is_authorized(request, policies, who, _schema)
    except Exception as error:  # whatever goes wrong in there must not let anybody in
        return Judgement(Outcome.FAULT, (), (str(error),))
    ids, errors = tuple(sorted(said.diagnostics.reasons)), tuple(said.diagnostics.errors)
    if errors or said.decision not in (cedarpy.Decision.Allow, cedarpy.Decision.Deny):
        return Judgement(Outcome.FAULT, ids, errors or ("no decision",))
    if said.decision is cedarpy.Decision.Allow:
        return Judgement(Outcome.ALLOWED, ids)
    return Judgement(Outcome.FORBIDDEN if ids else Outcome.NOT_PERMITTED, ids)


def _policy_set(policies: dict[str, object]) -> cedarpy.PolicySet:
    whole = {"templates": {}, "staticPolicies": policies, "templateLinks": []}
    return cedarpy.PolicySet.from_json_str(json.dumps(whole))


def _named(policies: dict[str, dict[str, object]]) -> Iterator[tuple[str, object]]:
    """Each policy by the id that its text gives it, or by its place."""
    seen: set[str] = set()
    for place, policy in enumerate(policies.values(), 1):
        annotations = policy.get("annotations")
        given = annotations.get("id") if isinstance(annotations, dict) else None
        name = given or f"policy-{place}"
        if name in seen:
            raise PolicyError(f"two policies have the id {name!r}; each needs one of its own")
        if _is_more(name) and policy["effect"] != "forbid":
            raise PolicyError(f"{name!r} is a permit: ids that begin with {STEP_UP!r} or {APPROVAL!r} are for forbids")
        seen.add(name)
        yield name, policy


def _is_more(name: str) -> bool:
    return name.startswith((STEP_UP, APPROVAL))


def _unknown(policies: dict[str, object], services: Sequence[Service]) -> Iterator[str]:
    known = {
        "Service": {service.name for service in services},
        "ServiceGroup": {group for service in services for group in service.groups},
    }
    said: set[str] = set()
    for name, policy in policies.items():
        for kind, entity in _entities_in(policy):
            text = f"{name} names {_NAMED.get(kind)} {entity!r}, which server.toml does not"
            if kind in known and entity not in known[kind] and text not in said:
                said.add(text)
                yield text


def _entities_in(part: object) -> Iterator[tuple[str, str]]:
    """Every entity that a policy names, wherever Cedar's JSON has it."""
    if isinstance(part, dict):
        if part.keys() >= {"type", "id"} and isinstance(part["type"], str) and isinstance(part["id"], str):
            yield part["type"], part["id"]
        for each in part.values():
            yield from _entities_in(each)
    elif isinstance(part, list):
        for each in part:
            yield from _entities_in(each)


def _problems(checked: cedarpy.ValidationResult) -> list[str]:
    ids = checked.id_annotations_by_policy_id
    problems = []
    for each in checked.errors:
        said = each.error
        given = ids.get(each.policy_id) if each.policy_id else None
        if given:
            said = said.replace(f"`{each.policy_id}`", f"`{given}`")
        problems.append(said)
    return problems or ["it could not be read"]
