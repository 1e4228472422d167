"""What holds for every knock, device and configuration there can be."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address

from hypothesis import assume, given
from hypothesis import strategies as st

from spa_protocol.knock import MAX_SERVICES
from spa_protocol.refusal import Refusal
from spa_server.decide.decision import Grant, Refused, freshness, services_of_roles
from spa_server.service import Service, SourcePolicy
from tests.server.decide.asked import (
    UNCONFIGURED,
    Case,
    cases,
    configured_services,
    decide_by_default,
    good_devices,
    roles,
)

NOT_A_HOSTS = {ip_address(text) for text in ("255.255.255.255", "240.0.0.1", "0.1.2.3", "224.0.0.1", "ff02::1")}


def decided(case: Case) -> Grant | Refused:
    return decide_by_default(case.knock, case.path, case.device, case.services)


@given(cases())
def test_whatever_is_granted_was_allowed_in_every_respect(case: Case) -> None:
    grant, knock = decided(case), case.knock
    if isinstance(grant, Refused):
        return
    assert case.device.enabled
    assert not case.device.key_retired
    assert 1 <= len(grant.services) <= MAX_SERVICES
    assert grant.destination == case.path.destination
    assert grant.source == (knock.source or case.path.source)
    assert grant.source.version == grant.destination.version
    assert not grant.source.is_multicast
    assert not grant.source.is_unspecified
    assert grant.source not in NOT_A_HOSTS
    for item in grant.services:
        assert item.service in case.services
        assert item.service.roles & case.device.roles
        assert 1 <= item.lease_s <= item.service.max_lease_s
        assert item.lease_s == item.service.lease_s if knock.lease_s == 0 else item.lease_s <= knock.lease_s
        assert knock.source is not None or item.service.source is SourcePolicy.SEEN
        assert not item.service.hosts or any(host.version == grant.source.version for host in item.service.hosts)


@given(cases(good_devices))
def test_a_knock_gets_exactly_what_it_asked_for_or_nothing(case: Case) -> None:
    decision = decided(case)
    if isinstance(decision, Grant):
        allowed = tuple(each.name for each in services_of_roles(case.device.roles, case.services))
        assert tuple(item.service.name for item in decision.services) == (case.knock.services or allowed)


@given(cases(good_devices))
def test_what_is_refused_is_refused_for_a_reason_that_is_true(case: Case) -> None:
    decision = decided(case)
    if isinstance(decision, Grant):
        return
    by_name = {service.name: service for service in case.services}
    named = by_name.get(decision.about)
    match decision.refusal:
        case Refusal.UNKNOWN_SERVICE:
            assert decision.about in case.knock.services
            assert named is None
        case Refusal.SERVICE_NOT_ALLOWED:
            assert named is not None
            assert named.roles.isdisjoint(case.device.roles)
        case Refusal.NOTHING_ALLOWED:
            assert not services_of_roles(case.device.roles, case.services)
        case Refusal.NAME_SERVICES:
            assert len(services_of_roles(case.device.roles, case.services)) > MAX_SERVICES
        case Refusal.SOURCE_NOT_SIGNED:
            assert case.knock.source is None
            assert named is not None
            assert named.source is SourcePolicy.SIGNED
        case Refusal.SERVICE_FAMILY:
            assert named is not None
            assert all(host.version != case.path.destination.version for host in named.hosts)
        case reason:
            assert reason in (Refusal.SOURCE_FAMILY, Refusal.SOURCE_UNUSABLE)
            assert decision.about == str(case.knock.source or case.path.source)


@given(cases())
def test_no_retired_key_and_no_disabled_device_is_ever_let_in(case: Case) -> None:
    disabled = replace(case.device, enabled=False)
    retired = replace(case.device, enabled=True, key_retired=True)
    assert decided(replace(case, device=disabled)) == Refused(Refusal.DEVICE_DISABLED)
    assert decided(replace(case, device=retired)) == Refused(Refusal.KEY_RETIRED)


@given(cases(good_devices), st.sampled_from(UNCONFIGURED))
def test_one_unknown_service_spoils_the_whole_knock(case: Case, unknown: str) -> None:
    others = [name for name in case.knock.services if name != unknown][: MAX_SERVICES - 1]
    decision = decided(case.asking(*others, unknown))
    assert isinstance(decision, Refused)
    assert decision.refusal in (Refusal.UNKNOWN_SERVICE, Refusal.SERVICE_NOT_ALLOWED)


@given(cases(good_devices), st.data())
def test_one_service_not_allowed_spoils_the_whole_knock(case: Case, data: st.DataObject) -> None:
    forbidden = [service.name for service in case.services if not service.roles & case.device.roles]
    assume(forbidden)
    name = data.draw(st.sampled_from(forbidden))
    others = [other for other in case.knock.services if other != name][: MAX_SERVICES - 1]
    decision = decided(case.asking(*others, name))
    assert isinstance(decision, Refused)
    assert decision.refusal in (Refusal.UNKNOWN_SERVICE, Refusal.SERVICE_NOT_ALLOWED)


@given(cases(good_devices), roles)
def test_fewer_roles_never_open_more(case: Case, kept: frozenset[str]) -> None:
    assume(case.knock.services)
    fewer = decided(replace(case, device=replace(case.device, roles=case.device.roles & kept)))
    assert isinstance(fewer, Refused) or fewer == decided(case)


@given(st.integers(0, 2**64 - 1), st.integers(-700_000, 700_000), st.integers(0, 600_000))
def test_a_time_is_fresh_exactly_within_the_skew(now_ms: int, skew_ms: int, max_skew_ms: int) -> None:
    verdict = freshness(now_ms + skew_ms, now_ms, max_skew_ms)
    assert (verdict is None) == (abs(skew_ms) <= max_skew_ms)
    assert verdict is not Refusal.STALE or skew_ms < 0
    assert verdict is not Refusal.EARLY or skew_ms > 0


@given(roles, configured_services())
def test_allowed_are_those_that_share_a_role_in_the_configurations_order(
    held: frozenset[str], services: tuple[Service, ...]
) -> None:
    allowed = services_of_roles(held, services)
    assert [service for service in services if service in allowed] == list(allowed)
    for service in services:
        assert (service in allowed) == (not held.isdisjoint(service.roles))
