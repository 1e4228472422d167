"""A one-time code: sent when the server asks for it, once, and by one family only."""

from __future__ import annotations

from dataclasses import replace

import pytest

import spa_client
from spa_client.commands import run
from spa_client.commands.options import CODE_VARIABLE
from spa_client.errors import BadUsage, CodeNeeded, NoAnswer, Refused
from spa_client.holding import Cause, Change, Held, Holding, Missed
from spa_client.knocking import Request
from spa_client.perimeter import Perimeter
from spa_client.second_factor import given_once
from spa_client.storage import Store
from spa_protocol.answer import AnsweredService
from spa_protocol.knock import Knock
from spa_protocol.refusal import Refusal
from tests.client.gatekeeper import Gatekeeper
from tests.stalls import wait_until

Captured = pytest.CaptureFixture[str]


def codes(server: Gatekeeper) -> list[str]:
    """What the knocks said, in order; "" where none."""
    return [seen.message.code for seen in server.requests if isinstance(seen.message, Knock)]


@pytest.fixture
def asking(server: Gatekeeper, office: Perimeter) -> Gatekeeper:
    """A server that opens for a code, 123456 or 00000000."""
    server.behaviour.codes = ["123456", "00000000"]
    return server


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What a person types when asked, the first first; empty where there is no terminal."""
    words: list[str] = []
    monkeypatch.setattr("spa_client.signing.person._has_terminal", lambda: bool(words))
    monkeypatch.setattr("getpass.getpass", lambda prompt: words.pop(0))
    return words


class TestSending:
    """When a code goes out."""

    def test_the_code_is_sent_when_it_is_asked_for_and_in_one_knock(self, asking: Gatekeeper, store: Store) -> None:
        opened = spa_client.knock("office", "web", code="123456", store=store)
        assert len(opened.addresses) == 2, "both families are open"
        assert codes(asking) == ["", "", "123456", ""]

    def test_a_code_is_kept_where_none_is_asked_for(self, server: Gatekeeper, office: Perimeter, store: Store) -> None:
        spa_client.knock("office", code=lambda: pytest.fail("it was not needed"), store=store)
        assert set(codes(server)) == {""}

    def test_what_is_called_for_it_is_called_once(self, asking: Gatekeeper, store: Store) -> None:
        asked: list[None] = []

        def code() -> str:
            asked.append(None)
            return "0000 0000"

        spa_client.knock("office", code=code, store=store)
        assert len(asked) == 1
        assert "00000000" in codes(asking)

    def test_a_wrong_code_is_said_to_be_wrong_and_not_sent_again(self, asking: Gatekeeper, store: Store) -> None:
        with pytest.raises(Refused, match="code is wrong") as caught:
            spa_client.knock("office", code="654321", store=store)
        assert caught.value.refusal is Refusal.CODE_WRONG
        assert codes(asking).count("654321") == 1

    def test_without_a_code_the_error_says_what_to_do(self, asking: Gatekeeper, store: Store) -> None:
        with pytest.raises(CodeNeeded, match="knock again with a code: --code") as caught:
            spa_client.knock("office", store=store)
        assert caught.value.exit_code == 3

    def test_an_answer_that_is_lost_does_not_cost_another_code(
        self, asking: Gatekeeper, office: Perimeter, store: Store
    ) -> None:
        def code() -> str:
            asking.behaviour.lose_answers = 1
            return "123456"

        opened = spa_client.knock("office", code=code, timeout_s=2.5, store=store)
        assert len(opened.addresses) == 2
        assert codes(asking).count("123456") == 1

    @pytest.mark.parametrize("text", ["", "12345", "123456789", "12345a", "\uff11\uff12\uff13\uff14\uff15\uff16"])
    def test_what_cannot_be_a_code_is_not_sent_nor_repeated(self, text: str, asking: Gatekeeper, store: Store) -> None:
        with pytest.raises(BadUsage, match="6 to 8 digits") as caught:
            spa_client.knock("office", code=text, store=store)
        assert not text or text not in str(caught.value)
        assert codes(asking) == []

    def test_a_request_does_not_show_its_code(self) -> None:
        assert "123456" not in repr(Request(code=given_once("123456")))
        assert "123456" not in repr(Knock(0, code="123456"))


class TestHolding:
    """While a lease is held."""

    def test_a_renewal_carries_no_code(self, asking: Gatekeeper, office: Perimeter, store: Store) -> None:
        asking.behaviour.services = (AnsweredService("web", 1, 8443, 0, False),)
        with spa_client.pinhole("office", "web", code="123456", store=store):
            wait_until(lambda: len(asking.knocks()) >= 8, "two renewals")
        assert codes(asking).count("123456") == 1

    def test_a_renewal_that_wants_a_code_is_missed_and_nobody_is_asked(
        self, server: Gatekeeper, office: Perimeter, store: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("spa_client.holding._RETRY_S", 0.05)
        server.behaviour.services = (AnsweredService("web", 1, 8443, 0, False),)
        changes: list[Change] = []
        request = Request(("web",), code=lambda: "123456")
        with Holding(store, office, request, report=changes.append):
            server.behaviour.codes = ["123456"]
            wait_until(lambda: len(changes) >= 2, "the renewal that failed")
            server.behaviour.codes = None
            wait_until(lambda: len(changes) >= 3, "the lease again")
        missed = changes[1]
        assert isinstance(missed, Missed)
        assert isinstance(missed.error, CodeNeeded)
        assert isinstance(changes[2], Held)
        assert changes[2].cause is Cause.AGAIN
        assert set(codes(server)) == {""}


class TestCommands:
    """At a terminal, and without one."""

    def test_a_person_is_asked_and_it_opens(self, asking: Gatekeeper, typed: list[str], capsys: Captured) -> None:
        typed.append("123456")
        assert run(["knock", "office", "web"]) == 0
        assert "open: web" in capsys.readouterr().out

    def test_who_types_nothing_is_refused(self, asking: Gatekeeper, typed: list[str], capsys: Captured) -> None:
        typed.append("")
        assert run(["knock", "office", "web"]) == 3
        assert "a second factor is needed" in capsys.readouterr().err

    def test_without_a_terminal_it_fails_with_what_to_do(
        self, asking: Gatekeeper, typed: list[str], capsys: Captured
    ) -> None:
        assert run(["knock", "office", "web"]) == 3
        said = capsys.readouterr()
        assert said.out == ""
        assert "--code" in said.err
        assert said.err.count("\n") == 1

    def test_the_option_and_the_variable_give_it(
        self, asking: Gatekeeper, typed: list[str], capsys: Captured, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        assert run(["knock", "office", "--code", "123456"]) == 0
        asking.stepped_up.clear()
        monkeypatch.setenv(CODE_VARIABLE, "00000000")
        assert run(["knock", "office"]) == 0
        assert run(["exec", "office", "--code", "1", "--", "true"]) == 122
        assert [code for code in codes(asking) if code] == ["123456", "00000000"]

    def test_a_command_that_is_run_does_not_inherit_a_code_that_is_spent(
        self, asking: Gatekeeper, typed: list[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv(CODE_VARIABLE, "123456")
        assert run(["exec", "office", "--", "sh", "-c", f"test -z ${CODE_VARIABLE}"]) == 0
        assert "123456" in codes(asking)


def test_of_a_server_that_does_not_answer_no_code_is_asked(server: Gatekeeper, office: Perimeter, store: Store) -> None:
    store.save(replace(office, answers=False))
    server.behaviour.silent = True
    with pytest.raises(NoAnswer):
        spa_client.knock("office", code=lambda: pytest.fail("nobody asked"), store=store)
