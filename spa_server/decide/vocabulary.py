"""What a policy can speak of: the Cedar schema, a question in its terms, and the policy where none is written.

What is not known is as bad as it can be: an age that is unknown is greater than any limit, a fact that is unknown is
the text "unknown" and never "yes". So no rule that asks for something good is met by saying nothing. Pure.

Source: the Cedar policy language, https://docs.cedarpolicy.com (schema grammar, JSON format of entities and contexts).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import StrEnum

from spa_protocol.posture import Fact, Posture
from spa_server.decide.context import Context
from spa_server.service import Service

Values = dict[str, object]

UNKNOWN = 1_000_000_000
"""An age that is not known: some thirty years in seconds, longer in days."""

STEP_UP, APPROVAL = "stepup-", "need-approval"
"""How the ids of those forbids begin that a second factor, or somebody's approval, would satisfy."""


class Action(StrEnum):
    """What somebody wants to do with a service."""

    OPEN = "open"
    RENEW = "renew"
    """Open it for longer, while it is open."""
    APPROVE = "approve"
    """Let somebody else have it."""


SCHEMA = """\
// Who asks: a user, in the roles of the device that asks.
entity Role;
entity User in [Role];

// What for. `roles`, `sensitivity` ("low", "normal", "high") and `needs_approval` stand in server.toml.
entity ServiceGroup;
entity Service in [ServiceGroup] {
  roles: Set<Role>,
  sensitivity: String,
  needs_approval: Bool,
};

// `delegate`: the name of who knocks for the device by its leave, or "". `attested`: whether somebody else than the
// device vouches for the posture.
type Device = { name: String, owner: User, delegate: String, attested: Bool };

// Facts are "yes", "no" or "unknown"; what is unknown of days and seconds is 1000000000.
type Posture = {
  known: Bool,
  disk_encrypted: String,
  screen_lock: String,
  firewall: String,
  secure_boot: String,
  patch_age_days: Long,
  uptime_s: Long,
  system: String,
  source: String,
};

// `by`: the users who approved; `left_s`: for how long their approval is good.
type Approval = { by: Set<User>, count: Long, left_s: Long };

// `hour` 0 to 23, `minute` 0 to 59 and `weekday` 1 (Monday) to 7 are the server's local time; `risk` is 0 to 100;
// `mfa_age_s`: since the last second factor, 1000000000 where there was none.
type Asked = {
  device: Device,
  posture: Posture,
  posture_age_s: Long,
  risk: Long,
  source: ipaddr,
  hour: Long,
  minute: Long,
  weekday: Long,
  mfa_age_s: Long,
  approval: Approval,
};

action open, renew, approve appliesTo { principal: User, resource: Service, context: Asked };
"""

DEFAULT_POLICY = """\
// A device may open the services that one of its roles names.
@id("role-opens")
permit (principal, action in [Action::"open", Action::"renew"], resource)
when { principal in resource.roles };

// A service with `needs_approval = true` opens only after somebody else has approved it.
@id("need-approval")
forbid (principal, action in [Action::"open", Action::"renew"], resource)
when { resource.needs_approval && context.approval.count < 1 };

// Who may approve: users of devices with the role "approver". Nobody can approve their own wish.
@id("approvers-approve")
permit (principal in Role::"approver", action == Action::"approve", resource);
"""


def entities(user: str, roles: Iterable[str], services: Sequence[Service]) -> list[Values]:
    """Everything that a question of this user's can be about, in Cedar's JSON."""
    roles = sorted(roles)
    every_role = sorted({*roles, *(role for service in services for role in service.roles)})
    groups = sorted({group for service in services for group in service.groups})
    return [
        {"uid": _uid("User", user), "attrs": {}, "parents": [_uid("Role", role) for role in roles]},
        *(_bare("Role", role) for role in every_role),
        *(_bare("ServiceGroup", group) for group in groups),
        *(_service(service) for service in services),
    ]


def question(context: Context, service: str, action: Action) -> Values:
    """A question in Cedar's terms."""
    return {
        "principal": _uid("User", context.user),
        "action": _uid("Action", action.value),
        "resource": _uid("Service", service),
        "context": asked(context),
    }


def asked(context: Context) -> Values:
    """The context, each attribute of the schema there."""
    return {
        "device": {
            "name": context.device,
            "owner": _entity("User", context.user),
            "delegate": context.delegate,
            "attested": context.attested,
        },
        "posture": _posture(context.posture),
        "posture_age_s": _known(context.posture_age_s),
        "risk": context.risk,
        "source": {"__extn": {"fn": "ip", "arg": str(context.source)}},
        "hour": context.hour,
        "minute": context.minute,
        "weekday": context.weekday,
        "mfa_age_s": _known(context.mfa_age_s),
        "approval": {
            "by": [_entity("User", user) for user in sorted(context.approval.by)],
            "count": len(context.approval.by),
            "left_s": context.approval.left_s,
        },
    }


def _posture(posture: Posture | None) -> Values:
    told = posture or Posture()
    return {
        "known": posture is not None,
        "disk_encrypted": _fact(told.disk_encrypted),
        "screen_lock": _fact(told.screen_lock),
        "firewall": _fact(told.firewall),
        "secure_boot": _fact(told.secure_boot),
        "patch_age_days": _known(told.patch_age_days),
        "uptime_s": _known(told.uptime_s),
        "system": told.system,
        "source": told.source.name.lower() if posture is not None else "",
    }


def _service(service: Service) -> Values:
    attributes = {
        "roles": [_entity("Role", role) for role in sorted(service.roles)],
        "sensitivity": service.sensitivity.value,
        "needs_approval": service.needs_approval,
    }
    parents = [_uid("ServiceGroup", group) for group in sorted(service.groups)]
    return {"uid": _uid("Service", service.name), "attrs": attributes, "parents": parents}


def _bare(kind: str, name: str) -> Values:
    return {"uid": _uid(kind, name), "attrs": {}, "parents": []}


def _uid(kind: str, name: str) -> Values:
    return {"type": kind, "id": name}


def _entity(kind: str, name: str) -> Values:
    return {"__entity": _uid(kind, name)}


def _fact(fact: Fact) -> str:
    return fact.name.lower()


def _known(number: int | None) -> int:
    return UNKNOWN if number is None else min(number, UNKNOWN)
