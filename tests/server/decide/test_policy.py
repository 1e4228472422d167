"""Policies: what is loaded, what they say, and that no fault and nothing unknown ever lets anybody in."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from ipaddress import ip_address
from typing import Any

import cedarpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spa_protocol.posture import Fact, Posture, PostureSource
from spa_server.decide import policy as policy_module
from spa_server.decide import vocabulary
from spa_server.decide.context import Approval, Context
from spa_server.decide.policy import Judgement, Outcome, Policy, PolicyError
from spa_server.decide.vocabulary import DEFAULT_POLICY, Action
from spa_server.service import Sensitivity
from tests.server.decide.asked import context, service

WEB = service("web", "admin")
CONSOLE = replace(service("console", "admin"), groups=frozenset({"consoles"}), sensitivity=Sensitivity.HIGH)
VAULT = replace(service("vault", "admin"), needs_approval=True)
SITE = (WEB, CONSOLE, VAULT)
PERMIT = '@id("role-opens") permit (principal, action, resource) when { principal in resource.roles };\n'


def judged(text: str, who: Context, name: str = "web", action: Action = Action.OPEN) -> Judgement:
    return Policy(text, SITE).judge(who, name, action)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("permit", "unexpected end of input"),
        ("permit (principal, action, resource) when { context.houre > 3 };", "houre"),
        ('permit (principal, action, resource) when { context.hour > "3" };', "expected Long but saw String"),
        ('permit (principal, action == Action::"opne", resource);', "opne"),
        ('permit (principal, action, resource) when { ip("192.0.2") == context.source };', "192.0.2"),
        (
            '@id("a") permit (principal, action, resource); @id("a") forbid (principal, action, resource);',
            "two policies",
        ),
        ('@id("stepup-x") permit (principal, action, resource);', "is a permit"),
        ('@id("t") permit (principal == ?principal, action, resource);', "templates"),
    ],
)
def test_a_text_that_does_not_fit_the_schema_is_no_policy(text: str, said: str) -> None:
    with pytest.raises(PolicyError, match=said):
        Policy(text, SITE)


def test_what_it_names_and_the_configuration_does_not_is_pointed_out() -> None:
    text = 'forbid (principal, action, resource == Service::"wbe");'
    text += 'forbid (principal, action, resource in ServiceGroup::"x");'
    assert [said.split(", ")[0] for said in Policy(text, SITE).unknown] == [
        "policy-1 names service 'wbe'",
        "policy-2 names group 'x'",
    ]
    assert Policy(DEFAULT_POLICY, SITE).unknown == ()


@pytest.mark.parametrize(
    ("who", "name", "action", "outcome"),
    [
        (context("admin"), "web", Action.OPEN, Outcome.ALLOWED),
        (context("admin"), "web", Action.RENEW, Outcome.ALLOWED),
        (context("guest"), "web", Action.OPEN, Outcome.NOT_PERMITTED),
        (context("guest"), "vault", Action.OPEN, Outcome.NOT_PERMITTED),
        (context("admin"), "vault", Action.OPEN, Outcome.APPROVAL),
        (context("admin", approval=Approval(frozenset({"bob"}), 60)), "vault", Action.OPEN, Outcome.ALLOWED),
        (context("guest", approval=Approval(frozenset({"bob"}), 60)), "vault", Action.OPEN, Outcome.NOT_PERMITTED),
        (context("admin"), "web", Action.APPROVE, Outcome.NOT_PERMITTED),
        (context("approver"), "vault", Action.APPROVE, Outcome.ALLOWED),
        (context("admin"), "nowhere", Action.OPEN, Outcome.FAULT),
    ],
)
def test_what_the_policy_says_that_holds_where_none_is_written(
    who: Context, name: str, action: Action, outcome: Outcome
) -> None:
    assert judged(DEFAULT_POLICY, who, name, action).outcome is outcome


STEPUP = '@id("stepup-console") forbid (principal, action, resource in ServiceGroup::"consoles")'
STEPUP += " unless { context.mfa_age_s <= 3600 };\n"
NEVER = '@id("night") forbid (principal, action, resource) when { context.hour >= 22 };\n'


@pytest.mark.parametrize(
    ("text", "who", "outcome", "ids"),
    [
        (PERMIT + STEPUP, context("admin"), Outcome.STEP_UP, ("stepup-console",)),
        (PERMIT + STEPUP, context("admin", mfa_age_s=3600), Outcome.ALLOWED, ("role-opens",)),
        (PERMIT + STEPUP, context("admin", mfa_age_s=3601), Outcome.STEP_UP, ("stepup-console",)),
        # A second factor would not help, so none is asked for.
        (PERMIT + STEPUP, context("guest"), Outcome.NOT_PERMITTED, ()),
        (PERMIT + STEPUP + NEVER, context("admin", hour=23), Outcome.FORBIDDEN, ("night", "stepup-console")),
        (STEPUP, context("admin"), Outcome.NOT_PERMITTED, ()),
    ],
)
def test_more_is_asked_for_only_where_more_would_do(
    text: str, who: Context, outcome: Outcome, ids: tuple[str, ...]
) -> None:
    judgement = judged(text, who, "console")
    assert (judgement.outcome, judgement.policies) == (outcome, ids)


@pytest.mark.parametrize(
    "asks",
    [
        'context.posture.disk_encrypted == "yes"',
        "context.posture.patch_age_days <= 30",
        "context.posture.uptime_s <= 86400 * 365 * 20",
        "context.posture_age_s <= 600",
        "context.mfa_age_s <= 31536000",
        "context.approval.count >= 1",
        "context.approval.left_s > 0",
        'context.approval.by.contains(User::"bob")',
        "context.device.attested",
    ],
)
def test_whatever_good_a_policy_asks_for_saying_nothing_does_not_meet_it(asks: str) -> None:
    for text in (
        f"permit (principal, action, resource) when {{ {asks} }};",
        f"permit (principal, action, resource); forbid (principal, action, resource) unless {{ {asks} }};",
    ):
        assert not judged(text, context("admin")).is_allowed
        assert not judged(text, context("admin", posture=Posture(), posture_age_s=2_000_000_000)).is_allowed


def test_an_error_refuses_although_a_permit_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Overflow is an error that no schema finds: without the rule, the forbid would be passed over."""
    text = PERMIT + '@id("x") forbid (principal, action, resource) when { context.risk * 9223372036854775807 > 5 };'
    assert judged(text, context("admin", risk=0)).is_allowed
    judgement = judged(text, context("admin", risk=50))
    assert judgement.outcome is Outcome.FAULT
    assert "overflow" in " ".join(judgement.errors)
    policy = Policy(PERMIT, SITE)
    monkeypatch.setattr(cedarpy, "is_authorized", lambda *_: 1 / 0)
    assert policy.judge(context("admin"), "web", Action.OPEN).outcome is Outcome.FAULT


def without(values: dict[str, Any], path: tuple[str, ...]) -> dict[str, Any]:
    (first, *rest) = path
    if rest:
        return {**values, first: without(values[first], tuple(rest))}
    return {key: value for key, value in values.items() if key != first}


def paths(values: dict[str, Any], above: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    found = []
    for key, value in values.items():
        found.append((*above, key))
        if isinstance(value, dict) and not {"__entity", "__extn"} & value.keys():
            found += paths(value, (*above, key))
    return found


WHOLE = context(
    "admin",
    posture=Posture(3, PostureSource.CLIENT, Fact.YES, Fact.YES, Fact.YES, Fact.YES, 1, 60, "debian 12"),
    posture_age_s=3,
    mfa_age_s=5,
    approval=Approval(frozenset({"bob"}), 60),
)
EVERY_PATH = paths(vocabulary.question(WHOLE, "web", Action.OPEN)["context"])  # type: ignore[arg-type]


@pytest.mark.parametrize("path", EVERY_PATH, ids=".".join)
@pytest.mark.parametrize("spoil", [without, "mistyped"], ids=["missing", "mistyped"])
def test_a_context_with_an_attribute_missing_or_of_another_type_lets_nobody_in(
    path: tuple[str, ...], spoil: Callable[..., Any] | str, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = Policy("permit (principal, action, resource);", SITE)
    assert policy.judge(WHOLE, "web", Action.OPEN).is_allowed
    real = vocabulary.question

    def spoilt(context: Context, service: str, action: Action) -> dict[str, object]:
        asked: dict[str, Any] = dict(real(context, service, action))
        asked["context"] = without(asked["context"], path) if callable(spoil) else mistyped(asked["context"], path)
        return asked

    monkeypatch.setattr(policy_module, "question", spoilt)
    assert policy.judge(WHOLE, "web", Action.OPEN).outcome is Outcome.FAULT


def mistyped(values: dict[str, Any], path: tuple[str, ...]) -> dict[str, Any]:
    (first, *rest) = path
    if rest:
        return {**values, first: mistyped(values[first], tuple(rest))}
    return {**values, first: 1.5}


facts = st.sampled_from(Fact)
postures = st.none() | st.builds(
    Posture,
    st.integers(0, 2**32 - 1),
    st.sampled_from(PostureSource),
    facts,
    facts,
    facts,
    facts,
    st.none() | st.integers(0, 65_534),
    st.none() | st.integers(0, 2**32 - 2),
    st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=24),
)
contexts = st.builds(
    Context,
    user=st.sampled_from(("alice", 'bob"', "üser\n")),
    roles=st.frozensets(st.sampled_from(("admin", "dev", "approver")), max_size=3),
    device=st.text(max_size=8),
    delegate=st.sampled_from(("", "ci")),
    attested=st.booleans(),
    posture=postures,
    posture_age_s=st.none() | st.integers(0, 2**40),
    risk=st.integers(0, 100),
    source=st.ip_addresses(v=4) | st.ip_addresses(v=6),
    hour=st.integers(0, 23),
    minute=st.integers(0, 59),
    weekday=st.integers(1, 7),
    mfa_age_s=st.none() | st.integers(0, 2**40),
    approval=st.builds(Approval, st.frozensets(st.sampled_from(("bob", "carol"))), st.integers(0, 3600)),
    renews=st.booleans(),
)
CONDITIONS = (
    "principal in resource.roles",
    "context.hour >= 8 && context.hour < 18",
    'context.posture.disk_encrypted == "yes"',
    "context.posture.patch_age_days > 30",
    "context.risk >= 30",
    "context.mfa_age_s > 3600",
    "context.approval.count < 2",
    'context.source.isInRange(ip("10.0.0.0/8"))',
    'resource.sensitivity == "high"',
    'context.device.delegate == ""',
)
GOOD = ('context.posture.disk_encrypted == "yes"', "context.posture.patch_age_days <= 30", "context.mfa_age_s < 60")
rules = st.builds(
    lambda effect, kind, condition: f"{effect} (principal, action, resource) {kind} {{ {condition} }};\n",
    st.sampled_from(("permit", "forbid")),
    st.sampled_from(("when", "unless")),
    st.sampled_from(CONDITIONS),
)
names = st.sampled_from([each.name for each in SITE])


@given(st.lists(rules, max_size=5), rules.filter(lambda rule: rule.startswith("forbid")), contexts, names)
def test_a_further_forbid_never_adds_a_grant(text: list[str], further: str, who: Context, name: str) -> None:
    if judged("".join([*text, further]), who, name).is_allowed:
        assert judged("".join(text), who, name).is_allowed


@given(contexts, names)
def test_no_context_that_there_can_be_is_a_fault(who: Context, name: str) -> None:
    judgement = judged(DEFAULT_POLICY, who, name)
    assert judgement.outcome is not Outcome.FAULT, judgement.errors
    assert judgement.is_allowed == ("admin" in who.roles and (name != "vault" or bool(who.approval.by)))


@given(st.lists(rules, max_size=5), contexts, names)
def test_what_becomes_unknown_never_adds_a_grant_where_good_is_asked_for(
    text: list[str], who: Context, name: str
) -> None:
    """Forbids that ask for something good, in the forms that the documentation teaches."""
    good = "".join(
        f'@id("{number}") forbid (principal, action, resource) unless {{ {condition} }};\n'
        for number, condition in enumerate(
            (
                'context.posture.disk_encrypted == "yes"',
                "context.posture.patch_age_days <= 30",
                "context.mfa_age_s < 60",
            )
        )
    )
    less = replace(who, posture=None, posture_age_s=None, mfa_age_s=None)
    if judged(PERMIT + good, less, name).is_allowed:
        assert judged(PERMIT + good, who, name).is_allowed


def test_an_ipv4_address_matches_its_networks_only() -> None:
    text = PERMIT + 'forbid (principal, action, resource) when { context.source.isInRange(ip("192.0.2.0/24")) };'
    assert not judged(text, context("admin", source=ip_address("192.0.2.9"))).is_allowed
    assert judged(text, context("admin", source=ip_address("192.0.3.9"))).is_allowed
    assert judged(text, context("admin", source=ip_address("2001:db8::1"))).is_allowed


def test_every_part_of_the_context_reaches_the_policy_as_the_schema_names_it() -> None:
    asked = vocabulary.question(replace(WHOLE, delegate="ci", attested=True, risk=7, minute=30), "web", Action.RENEW)
    assert asked["principal"] == {"type": "User", "id": "alice"}
    assert asked["action"] == {"type": "Action", "id": "renew"}
    assert asked["resource"] == {"type": "Service", "id": "web"}
    bob = {"__entity": {"type": "User", "id": "bob"}}
    owner = {"__entity": {"type": "User", "id": "alice"}}
    assert asked["context"] == {
        "device": {"name": "alice-laptop", "owner": owner, "delegate": "ci", "attested": True},
        "posture": {
            "known": True,
            "disk_encrypted": "yes",
            "screen_lock": "yes",
            "firewall": "yes",
            "secure_boot": "yes",
            "patch_age_days": 1,
            "uptime_s": 60,
            "system": "debian 12",
            "source": "client",
        },
        "posture_age_s": 3,
        "risk": 7,
        "source": {"__extn": {"fn": "ip", "arg": "192.0.2.7"}},
        "hour": 12,
        "minute": 30,
        "weekday": 3,
        "mfa_age_s": 5,
        "approval": {"by": [bob], "count": 1, "left_s": 60},
    }
    silent = vocabulary.asked(context())["posture"]
    unknown = dict.fromkeys(("disk_encrypted", "screen_lock", "firewall", "secure_boot"), "unknown")
    ages = {"patch_age_days": vocabulary.UNKNOWN, "uptime_s": vocabulary.UNKNOWN}
    assert silent == {"known": False, **unknown, **ages, "system": "", "source": ""}


def test_a_policy_is_known_by_its_text() -> None:
    policy = Policy(PERMIT + NEVER, SITE)
    assert policy.text == PERMIT + NEVER
    assert policy.hash == hashlib.sha256((PERMIT + NEVER).encode()).hexdigest()
    assert policy.ids == ("role-opens", "night")


def test_an_error_names_the_policy_by_its_own_id() -> None:
    with pytest.raises(PolicyError) as caught:
        Policy(PERMIT + '@id("late") forbid (principal, action, resource) when { context.hour > "x" };', SITE)
    assert caught.value.problems == ("for policy `late`, unexpected type: expected Long but saw String",)
    assert str(caught.value) == caught.value.problems[0]
    two = '@id("a") forbid (principal, action, resource) when { context.x };'
    with pytest.raises(PolicyError) as caught:
        Policy(two + two.replace('"a"', '"b"').replace("context.x", "context.y"), SITE)
    assert str(caught.value) == "\n".join(caught.value.problems)
    assert len(caught.value.problems) == 6, "each for three actions"


def test_a_judgement_says_what_went_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    policy = Policy(PERMIT, SITE)
    nowhere = policy.judge(context("admin"), "nowhere", Action.OPEN)
    assert (nowhere.outcome, nowhere.policies) == (Outcome.FAULT, ())
    assert nowhere.errors
    monkeypatch.setattr(cedarpy, "is_authorized", lambda *_: 1 / 0)
    assert policy.judge(context("admin"), "web", Action.OPEN) == Judgement(Outcome.FAULT, (), ("division by zero",))


def test_what_is_named_twice_is_pointed_out_once_and_found_in_conditions_too() -> None:
    text = 'forbid (principal, action, resource) when { resource in [ServiceGroup::"x", ServiceGroup::"x"] };'
    assert Policy(text, SITE).unknown == ("policy-1 names group 'x', which server.toml does not",)
