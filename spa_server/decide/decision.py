"""The decision: may this device have these services, from there, for how long?

Pure: a verified request, what the registry says of its device, the services there are, the time. It must not know of
sockets, files, the kernel or the clock, so that every rule can be tried by the thousand. What was verified before, and
what is recorded after, is the business of `spa_server.listen.knocks`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from spa_protocol.knock import MAX_SERVICES, Knock
from spa_protocol.refusal import Refusal
from spa_server.service import Address, Service, SourcePolicy, is_unicast


@dataclass(frozen=True, slots=True)
class DeviceStanding:
    """What the registry says of the device behind a credential. `key_retired`: the credential's time is over."""

    label: str
    roles: frozenset[str]
    enabled: bool
    key_retired: bool


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


def allowed_services(roles: frozenset[str], services: Sequence[Service]) -> tuple[Service, ...]:
    """The services that one of the roles may open, in the configuration's order."""
    return tuple(service for service in services if roles & service.roles)


def decide(knock: Knock, path: Path, device: DeviceStanding, services: Sequence[Service]) -> Grant | Refused:
    """Grant all that the knock asks for, or refuse all of it with one reason."""
    if not device.enabled:
        return Refused(Refusal.DEVICE_DISABLED)
    if device.key_retired:
        return Refused(Refusal.KEY_RETIRED)
    chosen = _choose(knock.services, allowed_services(device.roles, services), services)
    if isinstance(chosen, Refused):
        return chosen
    source = _source(knock.source, path, chosen)
    if isinstance(source, Refused):
        return source
    granted = tuple(GrantedService(service, _seconds(knock.lease_s, service)) for service in chosen)
    return Grant(source, path.destination, granted)


def _choose(
    wanted: tuple[str, ...], allowed: tuple[Service, ...], services: Sequence[Service]
) -> tuple[Service, ...] | Refused:
    if not wanted:
        if not allowed:
            return Refused(Refusal.NOTHING_ALLOWED)
        return allowed if len(allowed) <= MAX_SERVICES else Refused(Refusal.NAME_SERVICES)
    known = {service.name for service in services}
    by_name = {service.name: service for service in allowed}
    for name in wanted:
        if name not in by_name:
            return Refused(Refusal.SERVICE_NOT_ALLOWED if name in known else Refusal.UNKNOWN_SERVICE, name)
    return tuple(by_name[name] for name in wanted)


def _source(named: Address | None, path: Path, chosen: tuple[Service, ...]) -> Address | Refused:
    if named is None:
        for service in chosen:
            if service.source is SourcePolicy.SIGNED:
                return Refused(Refusal.SOURCE_NOT_SIGNED, service.name)
    source = path.source if named is None else named
    if source.version != path.destination.version:
        return Refused(Refusal.SOURCE_FAMILY, str(source))
    if not is_unicast(source):
        return Refused(Refusal.SOURCE_UNUSABLE, str(source))
    for service in chosen:
        if not service.reaches(source.version):
            return Refused(Refusal.SERVICE_FAMILY, service.name)
    return source


def _seconds(wanted_s: int, service: Service) -> int:
    return min(wanted_s or service.lease_s, service.max_lease_s)
