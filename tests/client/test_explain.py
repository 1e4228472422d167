"""`spa-client knock --explain`: each step with its time, also of a knock that fails."""

from __future__ import annotations

import json
import re
import socket
import threading

import pytest

from spa_client.commands import run
from spa_client.perimeter import Perimeter
from spa_client.steps import Step, followed, tell
from spa_protocol.answer import AnsweredService
from spa_protocol.refusal import Refusal
from tests.client.gatekeeper import Gatekeeper

Captured = pytest.CaptureFixture[str]


def names(text: str) -> list[str]:
    """The steps' names, in order; every line has to be a step."""
    read = [re.fullmatch(r" *\d+\.\d ms  ([a-z-]+) +.+", line) for line in text.splitlines()]
    return [line[1] if line else f"not a step: {text}" for line in read]


class TestAKnockThatOpens:
    """From the files to the port."""

    def test_each_step_is_told_on_standard_error(self, server: Gatekeeper, office: Perimeter, capsys: Captured) -> None:
        with socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True) as listening:
            port = listening.getsockname()[1]
            server.behaviour.services = (AnsweredService("web", 30, port, 0, False),)
            assert run(["knock", "office", "--explain"]) == 0
        said = capsys.readouterr()
        assert said.out.startswith("open: web ")
        steps = names(said.err)
        assert steps[:3] == ["begun", "read", "resolved"]
        assert steps[3:7] == ["signed", "sent", "signed", "sent"]
        # On a machine that stands still a copy goes out before the answer is read.
        later = [step for step in steps[7:] if step != "sent-again"]
        assert sorted(later) == ["accepted", "accepted", "answer", "answer", "opened"]
        assert f"to 127.0.0.1 udp/{server.port}\n" in said.err
        assert re.search(rf"from ::1 udp/{server.port} after \d+\.\d ms: granted\n", said.err)

    def test_in_json_they_stand_beside_what_opened(self, office: Perimeter, capsys: Captured) -> None:
        assert run(["knock", "office", "--explain", "--json"]) == 0
        said = capsys.readouterr()
        assert said.err == ""
        told = json.loads(said.out)
        assert told["services"][0]["name"] == "web"
        times = [step["at_ms"] for step in told["steps"]]
        assert times == sorted(times)
        assert {"step": "opened", "what": "web at 127.0.0.1 and ::1 for 30 s"}.items() <= told["steps"][-3].items()

    def test_without_the_option_nothing_is_told(self, office: Perimeter, capsys: Captured) -> None:
        assert run(["knock", "office", "--json"]) == 0
        said = capsys.readouterr()
        assert said.err == ""
        assert "steps" not in json.loads(said.out)


class TestAKnockThatFails:
    """The steps until then, and the same line and exit code as ever."""

    def test_refused(self, server: Gatekeeper, office: Perimeter, capsys: Captured) -> None:
        server.behaviour.refuse = Refusal.DEVICE_DISABLED
        assert run(["knock", "office", "--explain"]) == 3
        *steps, line = capsys.readouterr().err.splitlines()
        assert names("\n".join(steps))[-1] == "failed"
        assert any(
            re.search(r"answer +from \S+ \S+ after \S+ ms: refused: the device is disabled", step) for step in steps
        )
        assert line.startswith("spa-client: office refused: ")

    def test_no_answer(self, server: Gatekeeper, office: Perimeter, capsys: Captured) -> None:
        server.behaviour.silent = True
        assert run(["knock", "office", "--explain", "--json", "--timeout", "0.3"]) == 4
        said = capsys.readouterr()
        told = json.loads(said.out)
        assert told["exit_code"] == 4
        assert f"spa-client: {told['error']}\n" == said.err
        assert [step["step"] for step in told["steps"]][-3:] == ["silence", "silence", "failed"]

    def test_no_such_perimeter(self, office: Perimeter, capsys: Captured) -> None:
        assert run(["knock", "nowhere", "--explain"]) == 5
        assert capsys.readouterr().err.splitlines()[-1].startswith("spa-client: no perimeter named nowhere")


class TestFollowing:
    """Who follows, and what."""

    def test_nobody_follows_unless_he_says_so(self) -> None:
        seen: list[Step] = []
        tell("before", "{}", 1)
        with followed(seen.append):
            tell("within", "{} and {}", 1, 2)
        tell("after", "{}", 1)
        assert [(step.name, step.what) for step in seen] == [("within", "1 and 2")]

    def test_what_another_thread_does_is_its_own(self) -> None:
        seen: list[Step] = []
        with followed(seen.append):
            thread = threading.Thread(target=tell, args=("elsewhere", ""))
            thread.start()
            thread.join()
        assert seen == []
