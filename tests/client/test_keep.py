"""`spa-client keep`: a line for each change, and the lease given back at the end."""

from __future__ import annotations

import json
import signal
import sys

import pytest

from spa_client.commands import run
from spa_client.perimeter import Perimeter
from spa_protocol.refusal import Refusal
from tests.client.gatekeeper import Gatekeeper
from tests.client.processes import offered, start_client
from tests.stalls import wait_until


@pytest.mark.skipif(sys.platform == "win32", reason="written for POSIX signals")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_it_with_0_and_gives_the_lease_back(number: int, server: Gatekeeper, office: Perimeter) -> None:
    with start_client("keep", "office", "web") as process:
        assert process.stdout is not None
        first = [process.stdout.readline().decode() for _ in range(2)]
        assert all(line.startswith("open: web (tcp/8443) at ") for line in first)
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (0, b"given back: office\n", b"")
    assert len(server.closes()) == 2


def test_failures_and_the_return_are_told_once_each(server: Gatekeeper, office: Perimeter) -> None:
    server.behaviour.services = (offered("web", 8443, lease_s=1),)
    with start_client("keep", "office") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.readline()
        server.behaviour.refuse = Refusal.DEVICE_DISABLED
        missed = process.stderr.readline().decode()
        server.behaviour.refuse = None
        again = process.stdout.readline().decode()
        process.terminate()
        _, err = process.communicate(timeout=60)
    assert missed.startswith("spa-client: not renewed: office refused: ")
    assert again.startswith("again: open: web")
    assert err == b""


def test_scripts_get_an_object_for_every_event(server: Gatekeeper, office: Perimeter) -> None:
    server.behaviour.services = (offered("web", 8443, lease_s=1),)
    with start_client("keep", "office", "--json") as process:
        assert process.stdout is not None
        events = [json.loads(process.stdout.readline()) for _ in range(2)]
        process.terminate()
        out, _ = process.communicate(timeout=60)
    events += [json.loads(line) for line in out.splitlines()]
    assert [event["event"] for event in events[:2]] == ["opened", "renewed"]
    assert events[0]["services"][0]["tcp_port"] == 8443
    assert events[-1] == {"event": "given_back", "perimeter": "office", "error": None}


def test_the_first_of_two_to_end_leaves_it_open(server: Gatekeeper, office: Perimeter) -> None:
    with start_client("keep", "office") as first, start_client("keep", "office") as second:
        for process in (first, second):
            assert process.stdout is not None
            process.stdout.readline()
            process.stdout.readline()
        first.terminate()
        assert b"left open: office" in first.communicate(timeout=60)[0]
        assert server.closes() == []
        second.terminate()
        assert b"given back: office" in second.communicate(timeout=60)[0]
    wait_until(lambda: len(server.closes()) == 2, "both closes")


def test_what_never_opened_ends_it_with_the_code_of_a_knock(server: Gatekeeper, office: Perimeter) -> None:
    server.behaviour.refuse = Refusal.NOTHING_ALLOWED
    assert run(["keep", "office"]) == 3
    assert run(["keep", "home"]) == 5
