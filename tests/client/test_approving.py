"""What somebody has to approve first: asking and waiting, and deciding on it from another device."""

from __future__ import annotations

import json
import threading
from dataclasses import replace

import pytest

import spa_client
from spa_client.approving import Wish, decide
from spa_client.commands import run
from spa_client.enrol import join
from spa_client.errors import ApprovalNeeded, NoAnswer, Refused
from spa_client.knocking import Request
from spa_client.opening import Wait, knock_until_open
from spa_client.perimeter import Perimeter
from spa_client.storage import Store
from spa_protocol.knock import Action
from spa_protocol.refusal import Refusal
from tests.client.gatekeeper import Gatekeeper
from tests.stalls import wait_until

Captured = pytest.CaptureFixture[str]


@pytest.fixture
def waiting(server: Gatekeeper, office: Perimeter, monkeypatch: pytest.MonkeyPatch) -> Gatekeeper:
    """A server at which request 4711 waits."""
    monkeypatch.setattr("spa_client.opening._APPROVAL_EVERY_S", 0.05)
    server.behaviour.requests = [4711]
    return server


class TestAsking:
    """Whoever wants it."""

    def test_the_refusal_names_the_request_and_the_command(
        self, waiting: Gatekeeper, office: Perimeter, store: Store
    ) -> None:
        with pytest.raises(ApprovalNeeded, match="spa-client approve office 4711") as caught:
            spa_client.knock("office", store=store)
        assert (caught.value.exit_code, caught.value.about) == (3, "4711")

    def test_who_waits_says_so_once_and_gets_in_when_it_is_approved(
        self, waiting: Gatekeeper, office: Perimeter, store: Store
    ) -> None:
        told: list[ApprovalNeeded] = []
        waiter = threading.Thread(target=lambda: knock_until_open(store, office, Request(), Wait(approval=told.append)))
        waiter.start()
        wait_until(lambda: len(waiting.knocks()) >= 6, "two more knocks")
        assert waiter.is_alive()
        waiting.behaviour.requests.clear()
        waiter.join(60)
        assert not waiter.is_alive()
        assert [error.about for error in told] == ["4711"]

    def test_who_waits_knocks_with_one_slot_for_each_family(
        self, waiting: Gatekeeper, office: Perimeter, store: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        asked: list[bool] = []

        def once(store: Store, perimeter: Perimeter, request: Request) -> object:
            asked.append(request.sparing)
            if len(asked) < 3:
                raise ApprovalNeeded("ask", Refusal.APPROVAL_NEEDED, "4711")
            raise NoAnswer("no")  # which ends nothing: the server may be back

        monkeypatch.setattr("spa_client.opening.knock_once", once)

        def slept(pause_s: float) -> None:
            assert pause_s > 0
            if len(asked) >= 4:
                raise KeyboardInterrupt

        monkeypatch.setattr("time.sleep", slept)
        with pytest.raises(KeyboardInterrupt):
            knock_until_open(store, office, Request(), Wait(approval=lambda error: None))
        assert asked == [False, True, True, True]

    def test_who_waits_is_told_when_it_was_denied(self, waiting: Gatekeeper, office: Perimeter, store: Store) -> None:
        def deny(error: ApprovalNeeded) -> None:
            waiting.behaviour.requests = [4712]

        with pytest.raises(ApprovalNeeded, match="request 4711 at office was denied, or has expired") as caught:
            knock_until_open(store, office, Request(), Wait(approval=deny))
        assert caught.value.about == "4712"

    def test_nobody_waits_unasked(self, waiting: Gatekeeper, capsys: Captured) -> None:
        assert run(["exec", "office", "--", "true"]) == 123
        assert run(["knock", "office"]) == 3
        assert "spa-client approve office 4711" in capsys.readouterr().err


class TestDeciding:
    """Whoever may."""

    def test_an_approval_is_one_knock_that_names_the_request_and_a_time(
        self, waiting: Gatekeeper, store: Store, capsys: Captured
    ) -> None:
        assert run(["approve", "office", "4711", "--for", "30m", "--yes"]) == 0
        assert capsys.readouterr().out == "approved: request 4711 at office (web for bob: approve)\n"
        (knock,) = waiting.decisions()
        assert (knock.action, knock.request, knock.lease_s) == (Action.APPROVE, 4711, 1800)
        assert (knock.services, knock.source, knock.code) == ((), None, "")

    def test_a_denial_is_one_too(self, waiting: Gatekeeper, store: Store, capsys: Captured) -> None:
        assert run(["deny", "office", "4711", "--yes", "--json"]) == 0
        said = json.loads(capsys.readouterr().out)
        assert said == {"denied": 4711, "perimeter": "office", "said": "web for bob: deny"}
        (knock,) = waiting.decisions()
        assert (knock.action, knock.lease_s) == (Action.DENY, 0)

    def test_one_device_waits_and_another_lets_it_in(
        self, waiting: Gatekeeper, office: Perimeter, store: Store
    ) -> None:
        other = join(waiting.invite().text(), store=store, name="boss")
        memory = store.memory(other.name)

        def ask(error: ApprovalNeeded) -> None:
            decide(other, Wish(int(error.about), Action.APPROVE), memory)

        assert knock_until_open(store, office, Request(), Wait(approval=ask)).addresses

    def test_what_does_not_wait_is_refused(self, waiting: Gatekeeper, capsys: Captured) -> None:
        assert run(["approve", "office", "1", "--yes"]) == 3
        assert "no request 1 is waiting" in capsys.readouterr().err

    def test_a_code_can_be_asked_for(self, waiting: Gatekeeper, office: Perimeter, store: Store) -> None:
        waiting.behaviour.codes = ["123456"]
        memory = store.memory("office")
        with pytest.raises(Refused, match="second factor"):
            decide(office, Wish(4711, Action.APPROVE), memory)
        assert decide(office, Wish(4711, Action.APPROVE), memory, code=lambda: "123456") == "web for bob: approve"
        assert [knock.code for knock in waiting.decisions()] == ["", "", "123456"]

    def test_an_answer_that_is_lost_is_said_to_leave_it_open(
        self, waiting: Gatekeeper, office: Perimeter, store: Store
    ) -> None:
        waiting.behaviour.silent = True
        with pytest.raises(NoAnswer, match="may be decided all the same"):
            decide(office, Wish(4711, Action.DENY), store.memory("office"), timeout_s=0.3)

    def test_a_family_that_is_not_heard_leaves_it_to_the_other(self, store: Store) -> None:
        with Gatekeeper((4,)) as server:
            server.behaviour.requests = [4711]
            other = replace(join(server.invite().text(), store=store, name="other"), hosts=("::1", "127.0.0.1"))
            assert decide(other, Wish(4711, Action.APPROVE), store.memory("other"), timeout_s=2.0)
            assert len(server.decisions()) == 1

    @pytest.mark.parametrize("command", ["approve", "deny"])
    def test_without_a_terminal_nothing_is_decided_unless_told_to(
        self, command: str, waiting: Gatekeeper, capsys: Captured, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("spa_client.commands.deciding.at_terminal", lambda: False)
        assert run([command, "office", "4711"]) == 2
        assert "give --yes" in capsys.readouterr().err
        assert waiting.decisions() == []

    @pytest.mark.parametrize(("answer", "code"), [("y\n", 0), ("n\n", 2)])
    def test_at_a_terminal_the_person_is_asked(
        self, answer: str, code: int, waiting: Gatekeeper, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("spa_client.commands.deciding.at_terminal", lambda: True)
        monkeypatch.setattr("click.confirm", lambda *asked, **how: answer == "y\n")
        assert run(["deny", "office", "4711"]) == code
        assert len(waiting.decisions()) == (code == 0)
