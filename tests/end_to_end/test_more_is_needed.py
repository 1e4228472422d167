"""What more a policy may ask of a knock: a one-time code, and somebody else's approval, by a knock of theirs."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from spa_server.remember.one_time import STEP_S, code_of
from tests.end_to_end.governed import governed
from tests.end_to_end.laptop import SCRIPTS
from tests.end_to_end.running import WEB, Laptop, RunningServer, enrolled
from tests.end_to_end.terminal import Terminal
from tests.end_to_end.test_users import secret_on
from tests.lab import Lab

REFUSED = 3
CLIENT = str(SCRIPTS / "spa-client")
VAULT = '[service.vault]\nudp = [9443]\nroles = ["admin"]\nneeds_approval = true\n'
POLICY = """
@id("role-opens") permit (principal, action, resource) when { principal in resource.roles };
@id("stepup-web") forbid (principal, action, resource == Service::"web") unless { context.mfa_age_s <= 3600 };
@id("need-approval") forbid (principal, action in [Action::"open", Action::"renew"], resource)
when { resource.needs_approval && context.approval.count < 1 };
@id("approvers") permit (principal in Role::"approver", action == Action::"approve", resource);
"""


@pytest.fixture
def server(lab: Lab) -> Iterator[RunningServer]:
    with governed(lab, WEB + VAULT, POLICY) as running:
        yield running


@pytest.fixture
def alice(server: RunningServer, lab: Lab) -> Laptop:
    return enrolled(server, lab.clients["alice"], "alice-laptop")


@pytest.fixture
def bob(server: RunningServer, lab: Lab) -> Laptop:
    """Somebody who may approve, and open nothing."""
    laptop = Laptop(lab.clients["neighbour"], server.folder / "bob", server.settle)
    laptop.join(server.invite("bob-laptop", user="bob", roles=("approver",)), name="work")
    return laptop


@pytest.fixture
def secret(server: RunningServer, alice: Laptop) -> bytes:
    """Of Alice's codes."""
    return secret_on(server.command("user", "totp", "alice", "--no-check").stdout)


def code_now(secret: bytes) -> str:
    return code_of(secret, int(time.time()) // STEP_S)


class TestSecondFactor:
    """A code, and by which families it opens."""

    def test_who_is_asked_at_a_terminal_types_it_once_for_both_families(
        self, server: RunningServer, alice: Laptop, secret: bytes
    ) -> None:
        with Terminal(alice.host, [CLIENT, "knock", "office", "web", "--timeout", "20"], alice.env) as terminal:
            terminal.wait_for("A code is needed:")
            code = code_now(secret)
            terminal.type(*code, "Enter")
            assert terminal.status() == 0
            screen = terminal.screen()
        assert screen.count("open: web") == 2
        assert code not in screen
        renewed = alice.client("knock", "office", "web", check=True)
        assert "open: web" in renewed.stdout, "the device has given a second factor"

    def test_a_code_is_given_beforehand_and_counts_once(
        self, server: RunningServer, alice: Laptop, secret: bytes, lab: Lab
    ) -> None:
        refused = alice.client("knock", "office", "web")
        assert (refused.returncode, refused.stdout) == (REFUSED, "")
        assert "a second factor is needed (web); knock again with a code: --code" in refused.stderr
        code = code_now(secret)
        assert alice.client("knock", "office", "web", env={"SPA_CODE": code}).stdout.count("open: web") == 2
        other = enrolled(server, lab.clients["neighbour"], "alice-pc")
        wrong = other.client("knock", "office", "web", "--code", code)
        assert wrong.returncode == REFUSED
        assert "the one-time code is wrong, or was used before" in wrong.stderr


class TestApproval:
    """Two laptops."""

    def test_one_waits_and_gets_in_when_the_other_approves(
        self, server: RunningServer, alice: Laptop, bob: Laptop
    ) -> None:
        refused = alice.client("knock", "office", "vault")
        assert refused.returncode == REFUSED
        number = refused.stderr.split("spa-client approve office ")[1].split()[0]
        own = alice.client("approve", "office", number, "--yes")
        assert own.returncode == REFUSED, "nobody approves their own wish"
        with Terminal(
            alice.host, [CLIENT, "exec", "office", "--service", "vault", "--wait", "--", "echo", "inside"], alice.env
        ) as terminal:
            terminal.wait_for(f"spa-client approve office {number}")
            done = bob.client("approve", "work", number, "--for", "30m", "--yes", check=True)
            assert done.stdout == f"approved: request {number} at work (vault for alice: approved for 1800 s)\n"
            terminal.wait_for("\ninside\n")
            assert terminal.status() == 0
        bob.client("deny", "work", number, "--yes", check=True)
        assert alice.client("knock", "office", "vault").returncode == REFUSED, "what was approved is taken back"

    def test_what_is_denied_stays_closed(self, server: RunningServer, alice: Laptop, bob: Laptop) -> None:
        refused = alice.client("knock", "office", "vault")
        number = refused.stderr.split("spa-client approve office ")[1].split()[0]
        done = bob.client("deny", "work", number, "--yes", check=True)
        assert done.stdout == f"denied: request {number} at work (vault for alice: denied)\n"
        again = bob.client("approve", "work", number, "--yes")
        assert again.returncode == REFUSED
        assert f"no request {number} is waiting" in again.stderr
        assert alice.client("knock", "office", "vault").returncode == REFUSED


def test_a_client_keeps_a_checkpoint_that_the_servers_trail_stands_up_to(server: RunningServer, bob: Laptop) -> None:
    assert bob.client("approve", "work", "1", "--yes").returncode == REFUSED
    shown = bob.client("show", "work", check=True).stdout
    checkpoint = shown.split("audit trail:")[1].split("was at ")[1].split()[0]
    server.command("log", "verify", "--checkpoint", checkpoint)
