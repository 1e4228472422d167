"""In what context somebody asks: all that a decision may look at, complete, each field of its own type.

Whatever is not known says so in its value (None, `Fact.UNKNOWN`) and is never left out: a policy that reads what is
missing would be an error, and every error is a refusal. Pure: times and addresses come in as values.
"""

from __future__ import annotations

from dataclasses import dataclass

from spa_protocol.posture import Posture
from spa_server.service import Address


@dataclass(frozen=True, slots=True)
class Approval:
    """What approvers have let somebody have: who they are (users), and for how long yet."""

    by: frozenset[str] = frozenset()
    left_s: int = 0


@dataclass(frozen=True, slots=True)
class Context:
    """Who asks, with what, from where and when, and how things stand with them.

    `delegate`: the name of the delegate who knocks for the device, or "". `attested`: whether the posture is vouched
    for by other than the device itself. `posture`: None where the device says nothing. `posture_age_s`: None likewise.
    `risk`: 0 to 100. `hour` (0 to 23) and `weekday` (1 Monday to 7 Sunday) are of the server's local time.
    `mfa_age_s`: since the device's last second factor, None where there was none. `renews`: it has the service open.
    """

    user: str
    roles: frozenset[str]
    device: str
    delegate: str
    attested: bool
    posture: Posture | None
    posture_age_s: int | None
    risk: int
    source: Address
    hour: int
    minute: int
    weekday: int
    mfa_age_s: int | None
    approval: Approval
    renews: bool
