"""The decision, rule by rule: which knock gets what, and which reason the others hear."""

from __future__ import annotations

import pytest

from spa_protocol.knock import MAX_SERVICES, Knock
from spa_protocol.refusal import Refusal
from spa_server.decide.decision import (
    DeviceStanding,
    Grant,
    Path,
    Refused,
    decide,
    freshness,
    services_of_roles,
)
from spa_server.decide.policy import Judgement, Outcome
from spa_server.service import Service, SourcePolicy
from tests.server.decide.asked import V4, V6, decide_by_default, device, knock, service

WEB = service("web")
SSH = service("ssh", "admin", "dev")
VAULT = service("vault", source=SourcePolicy.SIGNED)
ONLY_V4 = service("old", hosts=("198.51.100.9",))
SITE = (WEB, SSH, VAULT, ONLY_V4)
MANY = tuple(service(f"web-{number}") for number in range(MAX_SERVICES + 1))


def granted(decision: Grant | Refused) -> Grant:
    assert isinstance(decision, Grant), decision
    return decision


@pytest.mark.parametrize(
    ("asked", "path", "who", "services", "reason", "about"),
    [
        (knock("web"), V4, device(enabled=False), SITE, Refusal.DEVICE_DISABLED, ""),
        (knock("web"), V4, device(key_retired=True), SITE, Refusal.KEY_RETIRED, ""),
        (knock("nowhere"), V4, device(), SITE, Refusal.UNKNOWN_SERVICE, "nowhere"),
        (knock("web", "nowhere"), V4, device(), SITE, Refusal.UNKNOWN_SERVICE, "nowhere"),
        (knock("web"), V4, device("dev"), SITE, Refusal.SERVICE_NOT_ALLOWED, "web"),
        (knock("ssh", "web"), V4, device("dev"), SITE, Refusal.SERVICE_NOT_ALLOWED, "web"),
        (knock("web"), V4, device("guest"), SITE, Refusal.SERVICE_NOT_ALLOWED, "web"),
        (knock(), V4, device("guest"), SITE, Refusal.NOTHING_ALLOWED, ""),
        (knock(), V4, device(), (), Refusal.NOTHING_ALLOWED, ""),
        (knock(), V4, device(), MANY, Refusal.NAME_SERVICES, ""),
        (knock("vault"), V4, device(), SITE, Refusal.SOURCE_NOT_SIGNED, "vault"),
        (knock("web", "vault"), V4, device(), SITE, Refusal.SOURCE_NOT_SIGNED, "vault"),
        (knock("web", source="2001:db8::9"), V4, device(), SITE, Refusal.SOURCE_FAMILY, "2001:db8::9"),
        (knock("web", source="192.0.2.9"), V6, device(), SITE, Refusal.SOURCE_FAMILY, "192.0.2.9"),
        (knock("old"), V6, device(), SITE, Refusal.SERVICE_FAMILY, "old"),
        (knock("web", "old"), V6, device(), SITE, Refusal.SERVICE_FAMILY, "old"),
        (knock("web", source="224.0.0.1"), V4, device(), SITE, Refusal.SOURCE_UNUSABLE, "224.0.0.1"),
        (knock("web", source="0.0.0.0"), V4, device(), SITE, Refusal.SOURCE_UNUSABLE, "0.0.0.0"),
        (knock("web", source="255.255.255.255"), V4, device(), SITE, Refusal.SOURCE_UNUSABLE, "255.255.255.255"),
        (knock("web", source="0.1.2.3"), V4, device(), SITE, Refusal.SOURCE_UNUSABLE, "0.1.2.3"),
        (knock("web", source="240.0.0.1"), V4, device(), SITE, Refusal.SOURCE_UNUSABLE, "240.0.0.1"),
        (knock("web", source="ff02::1"), V6, device(), SITE, Refusal.SOURCE_UNUSABLE, "ff02::1"),
        (knock("web", source="::"), V6, device(), SITE, Refusal.SOURCE_UNUSABLE, "::"),
    ],
)
def test_what_is_refused_and_why(
    asked: Knock, path: Path, who: DeviceStanding, services: tuple[Service, ...], reason: Refusal, about: str
) -> None:
    assert decide_by_default(asked, path, who, services) == Refused(reason, about)


@pytest.mark.parametrize(
    ("asked", "who", "names"),
    [
        (knock("web"), device(), ["web"]),
        (knock("ssh", "web"), device(), ["ssh", "web"]),
        (knock("ssh"), device("dev"), ["ssh"]),
        (knock(), device("dev"), ["ssh"]),
        (knock("ssh"), device("dev", "guest"), ["ssh"]),
    ],
)
def test_what_is_granted(asked: Knock, who: DeviceStanding, names: list[str]) -> None:
    grant = granted(decide_by_default(asked, V4, who, SITE))
    assert [item.service.name for item in grant.services] == names


def test_a_disabled_device_hears_that_before_anything_else() -> None:
    assert decide_by_default(knock("nowhere"), V4, device(enabled=False, key_retired=True), SITE) == Refused(
        Refusal.DEVICE_DISABLED
    )


def test_as_many_services_as_one_knock_opens_need_no_names() -> None:
    grant = granted(decide_by_default(knock(), V4, device(), MANY[:MAX_SERVICES]))
    assert [item.service for item in grant.services] == list(MANY[:MAX_SERVICES])


@pytest.mark.parametrize(("wanted_s", "given_s"), [(0, 30), (1, 1), (29, 29), (300, 300), (301, 300), (2**32 - 1, 300)])
def test_a_lease_lasts_as_long_as_asked_and_no_longer_than_allowed(wanted_s: int, given_s: int) -> None:
    grant = granted(decide_by_default(knock("web", lease_s=wanted_s), V4, device(), SITE))
    assert [item.lease_s for item in grant.services] == [given_s]


def test_each_service_of_a_knock_has_its_own_greatest_lease() -> None:
    services = (service("short", lease_s=5, max_lease_s=10), service("long", lease_s=50, max_lease_s=100))
    asked, unasked = (granted(decide_by_default(knock(lease_s=wanted), V4, device(), services)) for wanted in (60, 0))
    assert [item.lease_s for item in asked.services] == [10, 60]
    assert [item.lease_s for item in unasked.services] == [5, 50]


@pytest.mark.parametrize("path", [V4, V6], ids=["IPv4", "IPv6"])
def test_as_seen_opens_to_the_address_that_the_knock_came_from(path: Path) -> None:
    grant = granted(decide_by_default(knock("web"), path, device(), SITE))
    assert (grant.source, grant.destination) == (path.source, path.destination)


@pytest.mark.parametrize(("path", "named"), [(V4, "203.0.113.5"), (V6, "2001:db8:5::5")], ids=["IPv4", "IPv6"])
@pytest.mark.parametrize("name", ["web", "vault"])
def test_a_signed_source_is_opened_whoever_delivered_the_knock(path: Path, named: str, name: str) -> None:
    grant = granted(decide_by_default(knock(name, source=named), path, device(), SITE))
    assert (str(grant.source), grant.destination) == (named, path.destination)


def test_a_service_with_a_host_in_each_family_opens_in_each() -> None:
    both = (service("both", hosts=("198.51.100.9", "2001:db8:1::9")),)
    assert all(isinstance(decide_by_default(knock(), path, device(), both), Grant) for path in (V4, V6))


@pytest.mark.parametrize(
    ("skew_ms", "verdict"),
    [
        (0, None),
        (-60_000, None),
        (60_000, None),
        (-60_001, Refusal.STALE),
        (60_001, Refusal.EARLY),
        (-(2**40), Refusal.STALE),
        (2**63, Refusal.EARLY),
    ],
)
def test_freshness_allows_the_skew_to_the_millisecond_and_not_one_more(skew_ms: int, verdict: Refusal | None) -> None:
    now_ms = 1 << 41
    assert freshness(now_ms + skew_ms, now_ms, 60_000) is verdict


def test_any_one_role_allows_and_the_order_is_the_configurations() -> None:
    assert services_of_roles(frozenset(("dev", "guest")), SITE) == (SSH,)
    assert services_of_roles(frozenset(("admin",)), SITE) == SITE
    assert services_of_roles(frozenset(), SITE) == ()


@pytest.mark.parametrize(
    ("judgement", "expected"),
    [
        (Judgement(Outcome.NOT_PERMITTED), Refused(Refusal.SERVICE_NOT_ALLOWED, "web")),
        (Judgement(Outcome.FORBIDDEN, ("a", "b")), Refused(Refusal.POLICY_FORBIDS, "a, b")),
        (Judgement(Outcome.STEP_UP, ("stepup-a",)), Refused(Refusal.STEP_UP_NEEDED, "web")),
        (Judgement(Outcome.APPROVAL, ("need-approval",)), Refused(Refusal.APPROVAL_NEEDED, "web")),
        (Judgement(Outcome.FAULT, (), ("x",)), Refused(Refusal.POLICY_FAULT, "web")),
    ],
)
def test_each_answer_of_the_policy_but_one_is_a_refusal(judgement: Judgement, expected: Refused) -> None:
    assert decide(knock("web"), V4, device(), SITE, lambda _: judgement) == expected
    # Where a second factor would do, somebody who named nothing is told so, too.
    of_nothing = expected if judgement.outcome is Outcome.STEP_UP else Refused(Refusal.NOTHING_ALLOWED)
    assert decide(knock(), V4, device(), SITE, lambda _: judgement) == of_nothing
