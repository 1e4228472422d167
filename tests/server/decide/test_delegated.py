"""Delegation and closing in the decision: a certificate only ever takes away."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spa_protocol.delegation import MAX_DELEGATED, Certificate
from spa_protocol.knock import Action, Knock
from spa_protocol.refusal import Refusal
from spa_server.decide.decision import Closing, Delegated, Grant, Path, Refused, decide_close
from tests.server.decide.asked import (
    NAMES,
    UNCONFIGURED,
    V4,
    V6,
    Case,
    cases,
    decide_by_default,
    device,
    good_devices,
    knock,
    service,
)

names = st.lists(st.sampled_from(NAMES + UNCONFIGURED), max_size=MAX_DELEGATED, unique=True).map(tuple)
times_s = st.integers(0, 1 << 34)


@st.composite
def delegations(draw: st.DrawFn) -> Delegated:
    issued_s = draw(times_s)
    runs_s = draw(st.integers(1, 1 << 20))
    certificate = Certificate(bytes(32), "ci", draw(names.filter(bool)), issued_s, issued_s + runs_s)
    now_ms = (issued_s + draw(st.integers(-200, 1 << 20))) * 1000 + draw(st.integers(0, 999))
    return Delegated(certificate, draw(st.booleans()), max(0, now_ms), draw(st.integers(60, 1 << 20)), 60_000)


def good(*services: str, left_s: int = 600) -> Delegated:
    return Delegated(Certificate(bytes(32), "ci", services, 1000, 1000 + left_s), False, 1_000_000, 86_400, 60_000)


@given(cases(good_devices), delegations(), st.data())
def test_a_delegate_gets_what_device_and_certificate_both_allow_and_nothing_else(
    case: Case, by: Delegated, data: st.DataObject
) -> None:
    if data.draw(st.booleans()) and case.knock.services:
        # Most certificates drawn at random fit no knock.
        by = replace(by, certificate=replace(by.certificate, services=case.knock.services[:MAX_DELEGATED]))
    asked = replace(case.knock, services=case.knock.services[:MAX_DELEGATED])
    granted = decide_by_default(asked, case.path, case.device, case.services, by)
    if not isinstance(granted, Grant):
        return
    certificate = by.certificate
    opened = {item.service.name for item in granted.services}
    assert opened == set(asked.services or certificate.services) <= set(certificate.services)
    assert not by.revoked
    assert certificate.expires_s - certificate.issued_s <= by.max_s
    assert certificate.issued_s * 1000 <= by.now_ms + by.max_skew_ms
    own_words = replace(asked, services=tuple(item.service.name for item in granted.services))
    alone = decide_by_default(own_words, case.path, case.device, case.services)
    assert isinstance(alone, Grant), "the device itself could not have opened it"
    for item, own in zip(granted.services, alone.services, strict=True):
        assert 0 < item.lease_s <= own.lease_s
        assert by.now_ms + item.lease_s * 1000 <= certificate.expires_s * 1000


@given(cases(), st.none() | delegations())
def test_closing_never_reaches_beyond_the_named_services_and_the_one_source(case: Case, by: Delegated | None) -> None:
    asked = replace(case.knock, lease_s=0, action=Action.CLOSE)
    closing = decide_close(asked, case.path, case.device, case.services, by)
    if isinstance(closing, Closing):
        assert closing.source == (case.path.source if asked.source is None else asked.source)
        assert closing.destination == case.path.destination
        assert {each.name for each in closing.services} <= set(asked.services or (each.name for each in case.services))


def test_a_delegates_lease_is_the_shorter_of_the_two() -> None:
    for left_s, lease_s in ((10, 10), (30, 30), (31, 30)):
        granted = decide_by_default(knock("web"), V4, device(), (service(),), good("web", left_s=left_s))
        assert isinstance(granted, Grant)
        assert granted.services[0].lease_s == lease_s


def test_closing_leaves_out_what_this_family_cannot_have() -> None:
    only_four = service("web", hosts=("198.51.100.9",))
    closing = decide_close(Knock(0, action=Action.CLOSE), V6, device(), (only_four, service("ssh")))
    assert isinstance(closing, Closing)
    assert [each.name for each in closing.services] == ["ssh"]


def test_what_a_device_may_open_no_more_it_may_still_close() -> None:
    closing = decide_close(Knock(0, ("web",), action=Action.CLOSE), V4, device("guest"), (service("web", "admin"),))
    assert isinstance(closing, Closing)


def test_a_revoked_certificate_closes_nothing_either() -> None:
    by = Delegated(good("web").certificate, True, 1_000_000, 86_400, 60_000)
    refused = decide_close(Knock(0, action=Action.CLOSE), V4, device(), (service(),), by)
    assert not isinstance(refused, Closing)
    assert refused.refusal is Refusal.DELEGATION_REVOKED


def by(issued_s: int = 1000, runs_s: int = 600, now_ms: int = 1_000_000, **more: Any) -> Delegated:
    certificate = Certificate(bytes(32), "ci", ("web",), issued_s, issued_s + runs_s)
    return replace(Delegated(certificate, False, now_ms, 86_400, 60_000), **more)


@pytest.mark.parametrize(
    ("delegated", "refused"),
    [
        (by(), None),
        (by(revoked=True), Refused(Refusal.DELEGATION_REVOKED)),
        (by(now_ms=940_000), None),
        (by(now_ms=939_999), Refused(Refusal.DELEGATION_EXPIRED)),
        (by(now_ms=1_599_000), None),
        (by(now_ms=1_599_001), Refused(Refusal.DELEGATION_EXPIRED)),
        (by(now_ms=9_000_000), Refused(Refusal.DELEGATION_EXPIRED)),
        (by(runs_s=86_400), None),
        (by(runs_s=86_401), Refused(Refusal.DELEGATION_TOO_LONG, "86400 s")),
    ],
)
def test_when_a_certificate_is_good(delegated: Delegated, refused: Refused | None) -> None:
    decision = decide_by_default(knock("web"), V4, device(), (service(),), delegated)
    closing = decide_close(replace(knock("web"), action=Action.CLOSE), V4, device(), (service(),), delegated)
    if refused is None:
        assert isinstance(decision, Grant)
        assert isinstance(closing, Closing)
    else:
        assert (decision, closing) == (refused, refused)


def test_a_delegate_gets_all_of_the_certificate_when_it_names_nothing_and_nothing_beyond_it() -> None:
    site = (service(), service("ssh"))
    decision = decide_by_default(knock(), V4, device(), site, by())
    assert isinstance(decision, Grant)
    assert [item.service.name for item in decision.services] == ["web"]
    assert decide_by_default(knock("ssh"), V4, device(), site, by()) == Refused(Refusal.SERVICE_NOT_DELEGATED, "ssh")


@pytest.mark.parametrize(
    ("asked", "path", "refused"),
    [
        (knock("nowhere"), V4, Refused(Refusal.UNKNOWN_SERVICE, "nowhere")),
        (knock("web", source="224.0.0.1"), V4, Refused(Refusal.SOURCE_UNUSABLE, "224.0.0.1")),
        (knock("web", source="192.0.2.9"), V6, Refused(Refusal.SOURCE_FAMILY, "192.0.2.9")),
    ],
)
def test_what_cannot_be_closed(asked: Knock, path: Path, refused: Refused) -> None:
    assert decide_close(replace(asked, action=Action.CLOSE), path, device(), (service(),)) == refused


def test_closing_all_leaves_out_what_the_family_does_not_reach() -> None:
    site = (service(), service("old", hosts=("198.51.100.9",)))
    closing = decide_close(replace(knock(), action=Action.CLOSE), V6, device(), site)
    assert isinstance(closing, Closing)
    assert [each.name for each in closing.services] == ["web"]
