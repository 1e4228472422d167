"""The policy of a running server: taken over whole or not at all, asked for each knock, explained and tested before."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from spa_protocol.refusal import Refusal
from tests.end_to_end.governed import governed
from tests.end_to_end.laptop import ask_udp
from tests.end_to_end.running import WEB, Laptop, RunningServer, enrolled, open_folder
from tests.lab import Lab

CONFIGURATION, REFUSED = 5, 3
VAULT = '[service.vault]\ntcp = [9443]\nroles = ["admin"]\nsensitivity = "high"\n'
ROLES = '@id("role-opens") permit (principal, action, resource) when { principal in resource.roles };\n'
NO_VAULT = '@id("no-vault") forbid (principal, action, resource == Service::"vault");\n'


@pytest.fixture
def server(lab: Lab) -> Iterator[RunningServer]:
    with governed(lab, WEB + VAULT, ROLES) as running:
        yield running


@pytest.fixture
def alice(server: RunningServer, lab: Lab) -> Laptop:
    return enrolled(server, lab.clients["alice"], "alice-laptop")


def policy_file(server: RunningServer) -> Path:
    return server.folder / "policy.cedar"


def asked(server: RunningServer, laptop: Laptop, *names: str) -> tuple[Refusal | None, str]:
    keys = laptop.keys()
    request = keys.knock(*names, lease_s=60)
    reply = ask_udp(laptop.host, request, server.host.ipv4)
    assert reply is not None, "no answer"
    answer = keys.answer(reply, request)
    assert answer is not None
    return answer.refusal, answer.about


def test_a_reloaded_policy_decides_the_next_knock(server: RunningServer, alice: Laptop) -> None:
    assert asked(server, alice, "vault")[0] is None
    policy_file(server).write_text(ROLES + NO_VAULT)
    assert asked(server, alice, "vault")[0] is None, "an edit counts when it is reloaded"
    server.command("reload")
    assert asked(server, alice, "vault") == (Refusal.POLICY_FORBIDS, "no-vault")
    assert asked(server, alice, "web")[0] is None
    assert "the policy forbids it (no-vault)" in server.command("why", "alice-laptop").stdout


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("permit (", "policy.cedar:"),
        (ROLES + "forbid (principal, action, resource) when { context.hours > 5 };", "hours"),
        (None, "there is no"),
    ],
)
def test_a_policy_that_is_not_good_changes_nothing(
    server: RunningServer, alice: Laptop, text: str | None, said: str
) -> None:
    policy_file(server).write_text(ROLES + NO_VAULT)
    server.command("reload")
    policy_file(server).unlink() if text is None else policy_file(server).write_text(text)
    for command in (("reload",), ("policy", "check")):
        done = server.command(*command, check=False)
        assert done.returncode == CONFIGURATION, done.stderr
        assert said in done.stderr
    assert asked(server, alice, "vault") == (Refusal.POLICY_FORBIDS, "no-vault")
    assert asked(server, alice, "web")[0] is None


def test_a_server_does_not_start_by_a_policy_that_is_not_good(server: RunningServer) -> None:
    """In the foreground; the units go by the last good one."""
    server.stop()
    policy_file(server).write_text("permit (")
    done = server.command("run", check=False)
    assert done.returncode == CONFIGURATION
    assert "policy.cedar" in done.stderr


def test_a_fault_of_evaluation_opens_nothing_and_is_in_the_log(server: RunningServer, alice: Laptop) -> None:
    sum_ = '@id("sum") forbid (principal, action, resource) when { context.weekday + 9223372036854775807 < 0 };'
    policy_file(server).write_text(ROLES + sum_)
    server.command("reload")
    assert asked(server, alice, "web") == (Refusal.POLICY_FAULT, "web")
    assert "policy cannot be evaluated" in server.log()


def explained(server: RunningServer, *words: str) -> str:
    return server.command("policy", "explain", *words).stdout


def test_explain_says_which_policy_decided_and_what_would_change_it(server: RunningServer, alice: Laptop) -> None:
    policy_file(server).write_text(
        ROLES
        + '@id("night") forbid (principal, action, resource) when { context.hour < 8 || context.hour >= 18 };\n'
        + '@id("stepup-vault") forbid (principal, action, resource == Service::"vault")\n'
        + "unless { context.mfa_age_s <= 60 };\n"
        + '@id("healthy") forbid (principal, action, resource == Service::"web")\n'
        + 'unless { context.posture.disk_encrypted == "yes" };\n'
    )
    said = explained(server, "alice-laptop", "vault", "--at", "2026-01-07 12:00")
    assert "vault opens with a second factor (stepup-vault)" in said
    assert "if a second factor were given now: vault opens (role-opens)" in said
    said = explained(server, "alice-laptop", "web", "--at", "2026-01-07 12:00")
    assert "web stays shut: forbidden (healthy)" in said
    assert "if disk_encrypted were yes: web opens" in said
    said = explained(server, "alice-laptop", "web", "--at", "2026-01-07 19:00", "--posture", "disk_encrypted=yes")
    assert "forbidden (night)" in said
    assert "if it were Thursday, 08:00: web opens" in said
    told = json.loads(
        server.command(
            "policy", "explain", "alice-laptop", "web", "--at", "12:00", "--posture", "disk_encrypted=yes", "--json"
        ).stdout
    )
    assert told["allowed"] is True
    assert "the device had not the role admin" in {each["if"] for each in told["supposed"]}


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("nobody", "web"), REFUSED, "there is no device nobody"),
        (("alice-laptop", "wbe"), REFUSED, "there is no service wbe; server.toml has: web, vault"),
        (("alice-laptop", "web", "--at", "noon"), 2, "a local time"),
        (("alice-laptop", "web", "--from", "here"), 2, "here"),
        (("alice-laptop", "web", "--posture", "disk=yes"), 2, "facts: disk_encrypted"),
    ],
)
def test_what_explain_cannot_answer(
    server: RunningServer, alice: Laptop, words: tuple[str, ...], code: int, said: str
) -> None:
    done = server.command("policy", "explain", *words, check=False)
    assert done.returncode == code, done.stderr
    assert said in done.stderr


def put_to_it(server: RunningServer, text: str) -> subprocess.CompletedProcess[str]:
    cases = server.folder / "cases.toml"
    cases.write_text(text)
    return server.command("policy", "test", str(cases), check=False)


CASE = '[[case]]\nname = "{}"\nuser = "alice"\nroles = ["admin"]\nservice = "vault"\nexpect = "{}"\n'


def test_cases_pass_or_fail_by_name(server: RunningServer) -> None:
    policy_file(server).write_text(ROLES + NO_VAULT)
    good, bad = CASE.format("nobody opens the vault", "refuse"), CASE.format("an admin does", "allow")
    done = put_to_it(server, good)
    assert (done.returncode, done.stdout) == (0, "1 cases, 0 failed\n")
    done = put_to_it(server, good + bad)
    assert done.returncode == REFUSED
    assert "FAILED  an admin does: expected allow, and it was forbidden (no-vault)" in done.stdout
    assert "2 cases, 1 failed" in done.stdout


def test_a_mistake_in_the_cases_is_named(server: RunningServer) -> None:
    done = put_to_it(server, CASE.format("x", "yes") + 'at = "noon"\nrisk = 101\ncolour = "red"\n')
    assert done.returncode == CONFIGURATION
    for key in ("expect", "at", "risk", "colour"):
        assert f"case 1.{key}" in done.stderr or f".{key}" in done.stderr, done.stderr


def test_without_a_file_what_holds_is_built_in(lab: Lab) -> None:
    with open_folder() as folder:
        made = RunningServer(lab, folder, WEB)
        said = made.command("policy", "check").stdout
    assert "built-in policy: good; 3 policies" in said or "policy.cedar: good; 3 policies" in said


def test_the_knocks_of_the_past_are_put_to_another_policy(server: RunningServer, alice: Laptop) -> None:
    for name in ("vault", "web", "web"):
        assert asked(server, alice, name)[0] is None
    policy_file(server).write_text(ROLES + NO_VAULT)
    server.command("reload")
    assert asked(server, alice, "vault")[0] is Refusal.POLICY_FORBIDS
    told = server.json("policy", "show-log")
    assert (told["asked"], told["unknown"]) == (4, 0)
    (different,) = told["different"]
    assert (different["service"], different["was"], different["judgement"]["policies"]) == (
        "vault",
        "granted",
        ["no-vault"],
    )
    looser = server.folder / "looser.cedar"
    looser.write_text(ROLES)
    said = server.command("policy", "show-log", "--policy", str(looser)).stdout
    assert "policy_forbids" in said
    assert "vault opens (role-opens)" in said
    assert "4 services asked for, 1 would have ended otherwise" in said
