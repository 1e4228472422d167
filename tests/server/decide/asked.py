"""Services, devices and knocks for the decision's tests: one small made-up site, and strategies over many."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any

from hypothesis import strategies as st

from spa_protocol.knock import MAX_SERVICES, Knock
from spa_server.decide.context import Approval, Context
from spa_server.decide.decision import Delegated, DeviceStanding, Grant, Path, Refused, decide
from spa_server.decide.policy import Judgement, Policy
from spa_server.decide.vocabulary import DEFAULT_POLICY, Action
from spa_server.service import Address, PortRange, Service, SourcePolicy

V4 = Path(IPv4Address("192.0.2.7"), IPv4Address("198.51.100.1"))
V6 = Path(IPv6Address("2001:db8::7"), IPv6Address("2001:db8:1::1"))

ROLES = ("admin", "dev", "guest")
NAMES = tuple(f"service-{number}" for number in range(MAX_SERVICES + 3))
UNCONFIGURED = ("nowhere", "elsewhere")


def context(*roles: str, **more: Any) -> Context:
    """Alice's laptop at noon on a Wednesday, with nothing known of its health; `more` replaces fields."""
    usual = Context(
        user="alice",
        roles=frozenset(roles or ("admin",)),
        device="alice-laptop",
        delegate="",
        attested=False,
        posture=None,
        posture_age_s=None,
        risk=0,
        source=IPv4Address("192.0.2.7"),
        hour=12,
        minute=0,
        weekday=3,
        mfa_age_s=None,
        approval=Approval(),
        renews=False,
    )
    return replace(usual, **more)


@lru_cache(64)
def policy_of(services: tuple[Service, ...], text: str = DEFAULT_POLICY) -> Policy:
    """The policy of a configuration."""
    return Policy(text, services)


def decide_by_default(
    knock: Knock,
    path: Path,
    device: DeviceStanding,
    services: tuple[Service, ...],
    delegated: Delegated | None = None,
) -> Grant | Refused:
    """The decision where the operator has written no policy."""
    policy, who = policy_of(services), replace(context(), roles=device.roles)

    def judge(service: Service) -> Judgement:
        return policy.judge(who, service.name, Action.OPEN)

    return decide(knock, path, device, services, judge, delegated)


def service(
    name: str = "web",
    *roles: str,
    lease_s: int = 30,
    max_lease_s: int = 300,
    source: SourcePolicy = SourcePolicy.SEEN,
    hosts: tuple[str, ...] = (),
) -> Service:
    """A service on tcp/8443, for admins unless told otherwise."""
    return Service(
        name,
        tcp=(PortRange(8443, 8443),),
        udp=(),
        roles=frozenset(roles or ("admin",)),
        lease_s=lease_s,
        max_lease_s=max_lease_s,
        source=source,
        hosts=tuple(map(ip_address, hosts)),
    )


def device(*roles: str, enabled: bool = True, key_retired: bool = False) -> DeviceStanding:
    """A device with these roles, an admin's unless told otherwise."""
    return DeviceStanding("alice-laptop", frozenset(roles or ("admin",)), enabled, key_retired)


def knock(*names: str, lease_s: int = 0, source: Address | str | None = None) -> Knock:
    """A knock for services by name."""
    return Knock(0, names, lease_s, ip_address(source) if isinstance(source, str) else source)


roles = st.frozensets(st.sampled_from(ROLES), min_size=1)
seconds = st.integers(0, 2**32 - 1) | st.integers(0, 400)
plain_addresses = st.ip_addresses(v=4) | st.ip_addresses(v=6)
_UNUSABLE = ("0.0.0.0", "255.255.255.255", "240.0.0.1", "0.1.2.3", "224.0.0.1", "::", "ff02::1")
awkward_addresses = st.sampled_from([ip_address(text) for text in (*_UNUSABLE, "127.0.0.1", "::1")])
addresses = plain_addresses | awkward_addresses
paths = st.builds(Path, st.ip_addresses(v=4), st.ip_addresses(v=4)) | st.builds(
    Path, st.ip_addresses(v=6), st.ip_addresses(v=6)
)
devices = st.builds(DeviceStanding, st.just("alice-laptop"), roles, st.booleans(), st.booleans())


@dataclass(frozen=True, slots=True)
class Case:
    """One question for the decision."""

    knock: Knock
    path: Path
    device: DeviceStanding
    services: tuple[Service, ...]

    def asking(self, *names: str) -> Case:
        """The same, for other services."""
        return replace(self, knock=replace(self.knock, services=names))


@st.composite
def configured_services(draw: st.DrawFn) -> tuple[Service, ...]:
    """What a configuration may hold: names apart, roles, lengths and hosts of any kind."""
    names = draw(st.lists(st.sampled_from(NAMES), unique=True))
    made = []
    for name in names:
        max_lease_s = draw(st.integers(1, 86_400))
        made.append(
            Service(
                name,
                tcp=(PortRange(8443, 8443),),
                udp=(),
                roles=draw(st.frozensets(st.sampled_from(ROLES), min_size=1)),
                lease_s=draw(st.integers(1, max_lease_s)),
                max_lease_s=max_lease_s,
                source=draw(st.sampled_from(SourcePolicy)),
                hosts=tuple(draw(st.lists(plain_addresses, max_size=2))),
            )
        )
    return tuple(made)


@st.composite
def cases(draw: st.DrawFn, device: st.SearchStrategy[DeviceStanding] = devices) -> Case:
    """Any question; often one that is granted, since what is refused proves less."""
    services = draw(configured_services())
    who = draw(device)
    configured = [each.name for each in services]
    allowed = [each.name for each in services if each.roles & who.roles]
    pool = draw(st.sampled_from([allowed or configured or NAMES, configured or NAMES, NAMES + UNCONFIGURED]))
    names = draw(st.lists(st.sampled_from(pool), max_size=MAX_SERVICES, unique=True))
    path = draw(paths)
    same_family = st.ip_addresses(v=4) if path.source.version == 4 else st.ip_addresses(v=6)
    source = draw(st.none() | same_family | addresses)
    return Case(Knock(draw(st.integers(0, 2**64 - 1)), tuple(names), draw(seconds), source), path, who, services)


good_devices = st.builds(DeviceStanding, st.just("alice-laptop"), roles, st.just(True), st.just(False))
