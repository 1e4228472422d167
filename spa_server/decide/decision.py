"""The decision: may this device have these services, from there, for how long?

Pure: a verified request, what the registry says of its device, the services there are, what the policy says of each,
the time. It must not know of sockets, files, the kernel or the clock, so that every rule can be tried by the thousand.
What was verified before, and what is recorded after, is the business of `spa_server.listen.knocks`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from spa_protocol.delegation import Certificate
from spa_protocol.knock import MAX_SERVICES, Knock
from spa_protocol.refusal import Refusal
from spa_server.decide.policy import Judgement, Outcome
from spa_server.service import Address, Service, SourcePolicy, is_unicast


@dataclass(frozen=True, slots=True)
class DeviceStanding:
    """What the registry says of the device behind a credential, and of its user.

    `key_retired`: the credential's time is over.
    """

    label: str
    roles: frozenset[str]
    enabled: bool
    key_retired: bool
    user_enabled: bool = True


@dataclass(frozen=True, slots=True)
class Delegated:
    """The certificate by which a delegate knocks, and what it is worth now. `revoked`: an operator has taken it back.

    `now_ms`: the server's clock. `max_s`: the longest that a delegation may run here. `max_skew_ms`: how far the clock
    of who issued it may be off.
    """

    certificate: Certificate
    revoked: bool
    now_ms: int
    max_s: int
    max_skew_ms: int

    @property
    def left_s(self) -> int:
        """Whole seconds until it expires."""
        return (self.certificate.expires_s * 1000 - self.now_ms) // 1000


@dataclass(frozen=True, slots=True)
class Path:
    """How a datagram came: its source, and the address of this host that it was sent to."""

    source: Address
    destination: Address


@dataclass(frozen=True, slots=True)
class GrantedService:
    """A service and the seconds it is granted for."""

    service: Service
    lease_s: int


@dataclass(frozen=True, slots=True)
class Grant:
    """What to open: for one source, towards the address knocked at (or each service's own hosts)."""

    source: Address
    destination: Address
    services: tuple[GrantedService, ...]


@dataclass(frozen=True, slots=True)
class Closing:
    """What to close: leases of the device that asks, for one source, towards the address knocked at."""

    source: Address
    destination: Address
    services: tuple[Service, ...]


@dataclass(frozen=True, slots=True)
class Refused:
    """A refusal and what it concerns."""

    refusal: Refusal
    about: str = ""


def freshness(time_ms: int, now_ms: int, max_skew_ms: int) -> Refusal | None:
    """STALE or EARLY when the device's time is further from the server's than allowed, else None."""
    if now_ms - time_ms > max_skew_ms:
        return Refusal.STALE
    if time_ms - now_ms > max_skew_ms:
        return Refusal.EARLY
    return None


JudgeService = Callable[[Service], Judgement]
"""What the policy says, in the context of this knock, to opening a service."""

_ANSWERS = {
    Outcome.NOT_PERMITTED: Refusal.SERVICE_NOT_ALLOWED,
    Outcome.FORBIDDEN: Refusal.POLICY_FORBIDS,
    Outcome.STEP_UP: Refusal.STEP_UP_NEEDED,
    Outcome.APPROVAL: Refusal.APPROVAL_NEEDED,
    Outcome.TOO_RISKY: Refusal.RISK_TOO_HIGH,
    Outcome.FAULT: Refusal.POLICY_FAULT,
}


def services_of_roles(roles: frozenset[str], services: Sequence[Service]) -> tuple[Service, ...]:
    """The services that name one of the roles, in the configuration's order."""
    return tuple(service for service in services if roles & service.roles)


def decide(
    knock: Knock,
    path: Path,
    device: DeviceStanding,
    services: Sequence[Service],
    judge: JudgeService,
    delegated: Delegated | None = None,
) -> Grant | Refused:
    """Grant all that the knock asks for, or refuse all of it with one reason.

    A refusal that says APPROVAL_NEEDED is about the service. `judge`: the policy. `delegated`: by which certificate the
    knock comes; None where the device itself knocks.
    """
    shut_out = shut_out_of(device, delegated)
    if shut_out is not None:
        return shut_out
    wanted = knock.services
    if delegated is not None:
        for name in wanted:
            if name not in delegated.certificate.services:
                return Refused(Refusal.SERVICE_NOT_DELEGATED, name)
        wanted = wanted or delegated.certificate.services
    chosen = _choose(wanted, services, judge)
    if isinstance(chosen, Refused):
        return chosen
    source = _source(knock.source, path, chosen)
    if isinstance(source, Refused):
        return source
    most_s = None if delegated is None else delegated.left_s
    granted = tuple(GrantedService(service, _seconds(knock.lease_s, service, most_s)) for service in chosen)
    return Grant(source, path.destination, granted)


def decide_close(
    knock: Knock,
    path: Path,
    device: DeviceStanding,
    services: Sequence[Service],
    delegated: Delegated | None = None,
) -> Closing | Refused:
    """What a knock to close gives back: any service that there is, whether or not it could be opened now."""
    shut_out = shut_out_of(device, delegated)
    if shut_out is not None:
        return shut_out
    by_name = {service.name: service for service in services}
    for name in knock.services:
        if name not in by_name:
            return Refused(Refusal.UNKNOWN_SERVICE, name)
    source = path.source if knock.source is None else knock.source
    unusable = _unusable(source, path)
    if unusable is not None:
        return unusable
    chosen = tuple(by_name[name] for name in knock.services) or tuple(services)
    return Closing(source, path.destination, tuple(each for each in chosen if each.reaches(source.version)))


def shut_out_of(device: DeviceStanding, delegated: Delegated | None) -> Refused | None:
    """Why whoever asks is kept out whatever they want; None where they are not."""
    if not device.enabled:
        return Refused(Refusal.DEVICE_DISABLED)
    if not device.user_enabled:
        return Refused(Refusal.USER_DISABLED)
    if device.key_retired:
        return Refused(Refusal.KEY_RETIRED)
    if delegated is None:
        return None
    certificate = delegated.certificate
    if delegated.revoked:
        return Refused(Refusal.DELEGATION_REVOKED)
    if certificate.issued_s * 1000 > delegated.now_ms + delegated.max_skew_ms or delegated.left_s < 1:
        return Refused(Refusal.DELEGATION_EXPIRED)
    if certificate.expires_s - certificate.issued_s > delegated.max_s:
        return Refused(Refusal.DELEGATION_TOO_LONG, f"{delegated.max_s} s")
    return None


def _choose(wanted: tuple[str, ...], services: Sequence[Service], judge: JudgeService) -> tuple[Service, ...] | Refused:
    if not wanted:
        judged = [(service, judge(service)) for service in services]
        allowed = tuple(service for service, judgement in judged if judgement.is_allowed)
        if not allowed:
            return _nothing(judged)
        return allowed if len(allowed) <= MAX_SERVICES else Refused(Refusal.NAME_SERVICES)
    by_name = {service.name: service for service in services}
    for name in wanted:
        if name not in by_name:
            return Refused(Refusal.UNKNOWN_SERVICE, name)
        judgement = judge(by_name[name])
        if not judgement.is_allowed:
            return refused(name, judgement)
    return tuple(by_name[name] for name in wanted)


def _nothing(judged: Sequence[tuple[Service, Judgement]]) -> Refused:
    """Why nothing opens for a knock that names nothing: where a second factor would do, that is said."""
    for service, judgement in judged:
        if judgement.outcome in (Outcome.STEP_UP, Outcome.TOO_RISKY):
            return refused(service.name, judgement)
    return Refused(Refusal.NOTHING_ALLOWED)


def refused(service: str, judgement: Judgement) -> Refused:
    """The refusal that follows from what the policy says of a service, which is not that it is allowed."""
    says_by_what = judgement.outcome in (Outcome.FORBIDDEN, Outcome.TOO_RISKY)
    about = ", ".join(judgement.policies) if says_by_what else service
    return Refused(_ANSWERS[judgement.outcome], about)


def _source(named: Address | None, path: Path, chosen: tuple[Service, ...]) -> Address | Refused:
    if named is None:
        for service in chosen:
            if service.source is SourcePolicy.SIGNED:
                return Refused(Refusal.SOURCE_NOT_SIGNED, service.name)
    source = path.source if named is None else named
    wrong = _unusable(source, path)
    if wrong is not None:
        return wrong
    for service in chosen:
        if not service.reaches(source.version):
            return Refused(Refusal.SERVICE_FAMILY, service.name)
    return source


def _unusable(source: Address, path: Path) -> Refused | None:
    if source.version != path.destination.version:
        return Refused(Refusal.SOURCE_FAMILY, str(source))
    if not is_unicast(source):
        return Refused(Refusal.SOURCE_UNUSABLE, str(source))
    return None


def _seconds(wanted_s: int, service: Service, most_s: int | None) -> int:
    seconds = min(wanted_s or service.lease_s, service.max_lease_s)
    return seconds if most_s is None else min(seconds, most_s)
