"""A server that never answers: the client tells by the port itself."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.end_to_end.observing import Capture
from tests.end_to_end.running import WEB, Laptop, RunningServer
from tests.lab import Lab

UNSAID = "the server did not say for how long"


@pytest.fixture
def server(lab: Lab, folder: Path) -> Iterator[RunningServer]:
    """A server with `replies = false`."""
    with RunningServer(lab, folder, WEB, replies=False) as running:
        yield running


@pytest.fixture
def alice(server: RunningServer, lab: Lab) -> Laptop:
    """Alice's laptop, joined without the server's word."""
    laptop = Laptop(lab.clients["alice"], server.folder / "client", server.settle)
    joined = laptop.client(
        "join", "--name", "office", "--no-answer", "--timeout", "0.3", server.invite("alice-laptop"), check=True
    )
    assert "the server has not confirmed it" in joined.stdout
    server.wait_for_result("enrolled", 1)
    return laptop


def test_knock_wait_sees_the_port_open(server: RunningServer, alice: Laptop, lab: Lab) -> None:
    with lab.server.listen_tcp(8443):
        opened = alice.client("knock", "office", "--wait", "--port", "8443", check=True)
    # Whichever address is seen to accept first.
    either = {f"open: office at {address}; {UNSAID}\n" for address in (lab.server.ipv4, lab.server.ipv6)}
    assert opened.stdout in either
    assert len(server.leases()) == 4


def test_knock_without_wait_cannot_know(server: RunningServer, alice: Laptop) -> None:
    done = alice.client("knock", "office")
    assert done.returncode == 4
    assert done.stderr.count("\n") == 1
    server.wait_for_result("granted", 2)
    assert len(server.leases()) == 4, "it opened all the same"


def test_exec_runs_its_command_once_the_port_is_open(server: RunningServer, alice: Laptop, lab: Lab) -> None:
    with lab.server.listen_tcp(8443):
        done = alice.client("exec", "office", "--port", "8443", "--", "sh", "-c", "echo inside; exit 9")
    assert (done.returncode, done.stdout) == (9, "inside\n")


def test_where_nothing_listens_it_says_so_and_gives_the_code_of_no_answer(server: RunningServer, alice: Laptop) -> None:
    done = alice.client("knock", "office", "--wait", "--port", "8443")
    assert done.returncode == 4
    assert "tcp/8443 did not open" in done.stderr
    assert done.stderr.count("\n") == 1


def test_not_one_packet_comes_from_the_knock_port(server: RunningServer, alice: Laptop, lab: Lab) -> None:
    with Capture(alice.host) as capture:
        alice.client("knock", "office")
        alice.client("knock", "office", "cellar")
        server.wait_for_result("unknown_service", 2)
        assert capture.packets(control=lab.server.ipv4) == []


def test_joining_without_the_flag_ends_with_a_hint_at_it(server: RunningServer, lab: Lab) -> None:
    laptop = Laptop(lab.clients["neighbour"], server.folder / "neighbour", server.settle)
    refused = laptop.client("join", "--timeout", "0.6", server.invite("other-laptop"))
    assert refused.returncode == 4
    assert "--no-answer" in refused.stderr
