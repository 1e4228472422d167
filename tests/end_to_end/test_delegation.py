"""Delegation by the commands: alice's laptop lets a CI machine in for a while, and nobody tells the server."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.running import Laptop, RunningServer
from tests.lab import Lab

SERVICES = """
[service.web]
tcp = [8443]
roles = ["admin"]

[service.ssh]
tcp = [22]
roles = ["admin"]
"""


@pytest.fixture
def server(lab: Lab, folder: Path) -> Iterator[RunningServer]:
    """A server with two services."""
    with RunningServer(lab, folder, SERVICES) as running:
        yield running


@pytest.fixture
def machine(lab: Lab, tmp_path: Path) -> Laptop:
    """A CI machine that has never enrolled anywhere."""
    return Laptop(lab.clients["stranger"], tmp_path / "ci")


def delegated(alice: Laptop, *words: str) -> str:
    """The line that `delegate` prints."""
    return alice.client("delegate", "office", "--to", "ci", *words, check=True).stdout.strip()


def audit(server: RunningServer) -> list[dict[str, Any]]:
    """The audit trail."""
    return [json.loads(line) for line in (server.state / "audit.jsonl").read_text().splitlines()]


def test_a_delegate_knocks_for_what_it_was_given_and_the_records_say_for_whom(
    server: RunningServer, alice: Laptop, machine: Laptop
) -> None:
    machine.join(delegated(alice, "--service", "web", "--for", "1h"))
    to = server.host.ipv4
    with server.host.listen_tcp(8443):
        assert machine.host.is_kept_out(to, 8443)
        told = machine.client("knock", "office", check=True)
        assert "open: web (tcp/8443)" in told.stdout
        assert machine.host.reaches_tcp(to, 8443)
    refused = machine.client("knock", "office", "ssh")
    assert refused.returncode == 3
    assert "the delegation does not include service ssh" in refused.stderr
    assert {each["device"] for each in server.leases()} == {"alice-laptop+ci"}
    for whom in ("alice-laptop", "alice-laptop+ci"):
        assert {each["device"] for each in server.json("why", whom)} == {"alice-laptop+ci"}
    (seen,) = server.json("delegation", "list")
    assert (seen["device"], seen["name"], seen["services"]) == ("alice-laptop", "ci", ["web"])
    granted = [line for line in audit(server) if line["event"]["action"] == "granted"]
    assert {(line["device"]["id"], line["spa"]["delegate"]) for line in granted} == {("alice-laptop", "ci")}
    assert "granted ci for alice-laptop (alice)" in granted[-1]["message"]


def test_it_is_taken_back_alone_and_its_lease_with_it(server: RunningServer, alice: Laptop, machine: Laptop) -> None:
    machine.join(delegated(alice, "--service", "web", "--for", "1h"))
    machine.client("knock", "office", "--for", "300", check=True)
    told = server.command("delegation", "revoke", "alice-laptop", "ci")
    assert "what alice-laptop delegated to ci is void" in told.stdout
    assert machine.host.is_kept_out(server.host.ipv4, 8443)
    refused = machine.client("knock", "office")
    assert refused.returncode == 3
    assert "the delegation was revoked" in refused.stderr
    assert server.leases() == []
    alice.client("knock", "office", check=True)


def test_it_goes_with_the_device(server: RunningServer, alice: Laptop, machine: Laptop) -> None:
    machine.join(delegated(alice, "--service", "web", "--for", "1h"))
    machine.client("knock", "office", "--for", "300", check=True)
    server.command("device", "disable", "alice-laptop")
    assert machine.host.is_kept_out(server.host.ipv4, 8443)
    refused = machine.client("knock", "office")
    assert (refused.returncode, "the device is disabled" in refused.stderr) == (3, True)


def test_it_ends_by_itself_and_no_lease_outlives_it(server: RunningServer, alice: Laptop, machine: Laptop) -> None:
    issued_s = time.time()
    machine.join(delegated(alice, "--service", "web", "--for", "12s"))
    machine.client("knock", "office", "--for", "300", check=True)
    ends = [each["left_ms"] / 1000 + time.time() for each in server.leases()]
    assert ends
    assert max(ends) <= issued_s + 14
    time.sleep(max(0.0, issued_s + 13 - time.time()))
    assert machine.host.is_kept_out(server.host.ipv4, 8443)
    refused = machine.client("knock", "office")
    assert (refused.returncode, "the delegation has expired" in refused.stderr) == (3, True)


def test_what_cannot_be_delegated_is_said_in_a_line(alice: Laptop, machine: Laptop) -> None:
    line = delegated(alice, "--service", "web", "--for", "1h")
    machine.join(line)
    for laptop, words, said in (
        (machine, ("--service", "web", "--for", "1h"), "was itself delegated to this computer"),
        (alice, ("--service", "Web", "--for", "1h"), "cannot be a service"),
        (alice, ("--service", "web", "--for", "1 hour"), "write it as 90s, 15m, 1h or 7d"),
        (alice, ("--service", "web", "--for", "0s"), "for a second at least"),
        (alice, ("--service", "web", "--service", "web", "--for", "1h"), "each once"),
        (alice, ("--service", "web", "--for", "1h", "--to", "a b"), "cannot name a delegate"),
    ):
        done = laptop.client("delegate", "office", *words)
        assert done.returncode == 2, done.stderr
        assert said in done.stderr
        assert done.stdout == ""
    shown = machine.client("show", "office", check=True)
    assert "by alice-laptop to ci" in shown.stdout
    damaged = machine.client("join", "--name", "other", line[:-4] + "QQQQ")
    assert (damaged.returncode, "checksum is wrong" in damaged.stderr) == (2, True)
