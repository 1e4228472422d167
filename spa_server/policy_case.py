"""A made-up question to the policy: as words on a command line have it, or as a table of cases in a TOML file.

What is not said is as in a knock that says nothing of it: no health, no risk, no second factor, no approval. It must
not know the running server.
"""

from __future__ import annotations

import datetime
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from spa_protocol.posture import Fact, Posture, PostureSource
from spa_server.config import ConfigError
from spa_server.decide.context import Approval, Context
from spa_server.decide.policy import Judgement, Outcome, Policy
from spa_server.decide.vocabulary import Action
from spa_server.service import Address
from spa_server.toml_table import Bad, Problem, Table, choice, flag, text, whole

LARGEST_FILE = 1 << 22
_FACTS = ("disk_encrypted", "screen_lock", "firewall", "secure_boot")
_NOWHERE = ip_address("192.0.2.1")
"""Of the block for documentation (RFC 5737): where a question does not say from where."""


class Expected(StrEnum):
    """What a case may expect."""

    ALLOW = "allow"
    REFUSE = "refuse"
    STEP_UP = "step up"
    APPROVAL = "approval"

    def is_met_by(self, judgement: Judgement) -> bool:
        """Whether the policy said this. A fault meets nothing: a case that fails for an error is to be seen."""
        return judgement.outcome in _OUTCOMES[self]


_OUTCOMES = {
    Expected.ALLOW: (Outcome.ALLOWED,),
    Expected.REFUSE: (Outcome.FORBIDDEN, Outcome.NOT_PERMITTED),
    Expected.STEP_UP: (Outcome.STEP_UP,),
    Expected.APPROVAL: (Outcome.APPROVAL,),
}


@dataclass(frozen=True, slots=True)
class Case:
    """One question and what is expected of the answer. `policies`: ids that must be among those that decided."""

    name: str
    context: Context
    service: str
    action: Action
    expected: Expected
    policies: frozenset[str] = field(default_factory=frozenset)

    def failure(self, policy: Policy) -> str:
        """What was wrong with the answer; "" where it is as expected."""
        judgement = policy.judge(self.context, self.service, self.action)
        said = f"{judgement.outcome.name.lower().replace('_', ' ')} ({', '.join(judgement.policies) or 'by no policy'})"
        if judgement.errors:
            said += f": {'; '.join(judgement.errors)}"
        if not self.expected.is_met_by(judgement):
            return f"expected {self.expected}, and it was {said}"
        missing = self.policies - set(judgement.policies)
        return f"{', '.join(sorted(missing))} did not decide; it was {said}" if missing else ""


def plain_context(user: str, roles: frozenset[str], device: str, at: datetime.datetime, source: Address) -> Context:
    """A question of which nothing else is known. `at`: local time."""
    return Context(
        user=user,
        roles=roles,
        device=device,
        delegate="",
        attested=False,
        posture=None,
        posture_age_s=None,
        risk=0,
        source=source,
        hour=at.hour,
        minute=at.minute,
        weekday=at.isoweekday(),
        mfa_age_s=None,
        approval=Approval(),
        renews=False,
    )


def posture_of(values: Mapping[str, object]) -> Posture:
    """A posture of the facts that are named, as TOML or `name=value` words have them. Raises Bad."""
    said: dict[str, Any] = {}
    for name, value in values.items():
        if name in _FACTS:
            if str(value) not in {fact.name.lower() for fact in Fact}:
                raise Bad(f'"yes", "no" or "unknown" for {name}')
            said[name] = Fact[str(value).upper()]
        elif name in ("patch_age_days", "uptime_s"):
            if not str(value).isdecimal():
                raise Bad(f"a whole number for {name}")
            said[name] = int(str(value))
        elif name == "system":
            said[name] = str(value)
        elif name == "source":
            if str(value).upper() not in PostureSource.__members__:
                raise Bad(f"{' or '.join(each.name.lower() for each in PostureSource)} for source")
            said[name] = PostureSource[str(value).upper()]
        else:
            raise Bad(f"facts: {', '.join((*_FACTS, 'patch_age_days', 'uptime_s', 'system', 'source'))}; not {name}")
    return Posture(**said)


def read_cases(path: Path) -> tuple[Case, ...]:
    """The cases of a file. Raises ConfigError with all that is wrong in it."""
    try:
        with path.open("rb") as file:
            values = tomllib.loads(file.read(LARGEST_FILE).decode("utf-8"))
    except OSError as error:
        raise ConfigError(path, (Problem("", "", f"{path} cannot be read: {error.strerror}"),)) from None
    except ValueError as error:
        raise ConfigError(path, (Problem("", "", str(error)),)) from None
    problems: list[Problem] = []
    listed = values.pop("case", [])
    if not isinstance(listed, list) or not listed or values:
        problems.append(Problem("case", "", "a file of cases has tables [[case]], and nothing else"))
        listed = []
    cases = []
    for number, each in enumerate(listed, 1):
        if isinstance(each, dict):
            cases.append(_case(number, Table(f"case {number}", each, problems)))
    if problems:
        raise ConfigError(path, tuple(problems))
    return tuple(cases)


def _case(number: int, table: Table) -> Case:
    for key, what in (("user", "a user"), ("roles", "roles"), ("service", "a service"), ("expect", "an outcome")):
        table.required(key, what)
    words = text(str.isprintable, "a text")
    context = plain_context(
        table.one("user", words, ""),
        frozenset(table.many("roles", words, "roles", least=0)),
        table.one("device", words, "device"),
        table.one("at", _local_time, datetime.datetime(2026, 1, 7, 12, 0)),
        table.one("from", _address, _NOWHERE),
    )
    posture = table.one("posture", _posture, None)
    case = Case(
        name=table.one("name", words, f"case {number}"),
        context=replace(
            context,
            delegate=table.one("delegate", words, ""),
            attested=table.one("attested", flag, False),
            posture=posture,
            posture_age_s=table.one("posture_age_s", whole(0, 2**32), None if posture is None else 0),
            risk=table.one("risk", whole(0, 100), 0),
            mfa_age_s=table.one("mfa_age_s", whole(0, 2**32), None),
            approval=Approval(
                frozenset(table.many("approved_by", words, "users", least=0)),
                table.one("approval_left_s", whole(0, 86_400), 0),
            ),
        ),
        service=table.one("service", words, ""),
        action=table.one("action", choice(Action), Action.OPEN),
        expected=table.one("expect", choice(Expected), Expected.REFUSE),
        policies=frozenset(table.many("policies", words, "ids of policies")),
    )
    table.finish()
    return case


def _posture(value: object) -> Posture:
    if not isinstance(value, dict):
        raise Bad("a table of facts")
    return posture_of(value)


def _address(value: object) -> Address:
    try:
        return ip_address(str(value))
    except ValueError:
        raise Bad("an IP address") from None


def _local_time(value: object) -> datetime.datetime:
    if isinstance(value, datetime.datetime) and value.tzinfo is None:
        return value
    return local_time(str(value))


def local_time(said: str) -> datetime.datetime:
    """A local time as people write it: "2026-03-01 23:00", or "23:00" for today. Raises Bad."""
    for form in ("%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M:%S"):
        try:
            return datetime.datetime.strptime(said, form)
        except ValueError:
            continue
    try:
        then = datetime.datetime.strptime(said, "%H:%M")
    except ValueError:
        raise Bad('a local time, such as "2026-03-01 23:00" or "23:00"') from None
    return datetime.datetime.combine(datetime.date.today(), then.time())
