"""Keys that people have already, with a real server: OpenSSH's files and agent, and a security key behind them."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.end_to_end.running import Laptop, RunningServer
from tests.lab import Lab
from tests.openssh import KeyAgent, fingerprint, new_key, new_security_key, public_line
from tests.security_key import SoftSecurityKey

SERVICES = """
[service.web]
tcp = [8443]
roles = ["admin"]
lease_s = 4
"""
UNTIL_TOLD = """
import pathlib, sys, time
while not pathlib.Path(sys.argv[1]).exists():
    time.sleep(0.05)
"""


@pytest.fixture
def server(lab: Lab, folder: Path) -> Iterator[RunningServer]:
    """A server with short leases, that takes as many renewals as a test needs."""
    with RunningServer(lab, folder, SERVICES, slots=64, delegate_slots=64) as running:
        yield running


@pytest.fixture
def laptop(lab: Lab, folder: Path) -> Laptop:
    """A laptop that has not joined."""
    return Laptop(lab.clients["alice"], folder / "client")


@pytest.fixture
def security_key(tmp_path: Path) -> SoftSecurityKey:
    return SoftSecurityKey(tmp_path)


@pytest.fixture
def agent(laptop: Laptop, security_key: SoftSecurityKey) -> Iterator[KeyAgent]:
    """The laptop's agent."""
    with KeyAgent(security_key) as running:
        laptop.env.update(running.env)
        yield running


@pytest.fixture
def touched(
    server: RunningServer, laptop: Laptop, agent: KeyAgent, tmp_path: Path, security_key: SoftSecurityKey
) -> Path:
    """The security key's file; the laptop has joined with it."""
    path = new_security_key(tmp_path, security_key)
    agent.add(path)
    laptop.join(server.invite("alice-laptop"), "--agent")
    return path


def test_a_line_of_authorized_keys_makes_a_device_that_its_key_takes_up(
    server: RunningServer, laptop: Laptop, tmp_path: Path
) -> None:
    path = new_key(tmp_path)
    line = f'no-pty,command="backup --now" {public_line(path)}'
    added = server.command("device", "add", "build-1", "--user", "ci", "--role", "admin", "--key", line)
    assert "not honoured, being about SSH sessions: no-pty, command" in added.stderr
    assert f"added build-1, with the key {fingerprint(path)}" in added.stderr
    laptop.join(added.stdout.strip(), "--key", str(path))
    with server.host.listen_tcp(8443):
        laptop.client("knock", "office", check=True)
        assert laptop.host.reaches_tcp(server.host.ipv4, 8443)
    shown = server.command("device", "show", "build-1").stdout
    assert f"ssh-ed25519   {fingerprint(path)}" in shown


def test_a_security_key_is_added_by_its_line_and_goes_through_an_export(
    server: RunningServer, laptop: Laptop, agent: KeyAgent, tmp_path: Path, security_key: SoftSecurityKey
) -> None:
    path = new_security_key(tmp_path, security_key)
    agent.add(path)
    words = ("--user", "alice", "--role", "admin", "--key", f"@{path}.pub")
    laptop.join(json.dumps(server.json("device", "add", "alice-key", *words)), "--agent")
    (folder := tmp_path / "exported").write_text(server.command("device", "export").stdout)
    server.command("device", "remove", "alice-key")
    assert laptop.client("knock", "office", "--timeout", "0.5").returncode == 4
    server.command("device", "import", str(folder))
    (key,) = server.json("device", "show", "alice-key")["keys"]
    assert (key["openssh"], key["fingerprint"]) == ("sk-ssh-ed25519@openssh.com", fingerprint(path))


def test_a_security_key_enrols_by_an_invite_and_opens(
    server: RunningServer, laptop: Laptop, touched: Path, security_key: SoftSecurityKey
) -> None:
    before = security_key.touches
    with server.host.listen_tcp(8443):
        laptop.client("knock", "office", "web", check=True)
        assert laptop.host.reaches_tcp(server.host.ipv4, 8443)
    assert security_key.touches - before == 2, "one for each family"
    assert laptop.client("knock", "office").returncode == 0
    with security_key.left_alone():
        refused = laptop.client("knock", "office")
    assert refused.returncode == 6
    assert refused.stderr.startswith("spa-client: the key agent refused to sign: nobody touched the key")


def test_one_touch_holds_a_lease_however_often_it_is_renewed(
    server: RunningServer, laptop: Laptop, touched: Path, security_key: SoftSecurityKey, tmp_path: Path
) -> None:
    before, told = security_key.touches, tmp_path / "told"
    holding = laptop.start_client("exec", "office", "-s", "web", "--", sys.executable, "-c", UNTIL_TOLD, str(told))
    server.wait_for_result("granted", 8)
    assert {each["device"] for each in server.leases()} == {"alice-laptop+session"}
    told.touch()
    assert holding.wait(60) == 0
    assert security_key.touches - before == 1
    (seen,) = server.json("delegation", "list")
    assert (seen["device"], seen["name"], seen["services"]) == ("alice-laptop", "session", ["web"])
    assert seen["expires_s"] - seen["issued_s"] == 8 * 3600


def test_a_server_that_allows_less_gets_less_after_another_touch(
    lab: Lab, server: RunningServer, laptop: Laptop, touched: Path, security_key: SoftSecurityKey
) -> None:
    server.stop()
    text = server.config.read_text()
    server.config.write_text(text.replace("[server]\n", "[server]\nmax_delegation_s = 600\n", 1))
    server.start()
    before = security_key.touches
    assert laptop.client("exec", "office", "--", "true").returncode == 0
    assert security_key.touches - before == 2
    (seen,) = server.json("delegation", "list")
    assert seen["expires_s"] - seen["issued_s"] == 600
    assert laptop.client("exec", "office", "--touch-every", "5m", "--", "true").returncode == 0
    assert security_key.touches - before == 3


REFUSED = {
    "ssh-rsa AAAA": "keys of type ssh-rsa cannot sign knocks; make one that can: ssh-keygen -t ed25519",
    'from="10.0.0.0/8" {line}': "the option from would not be honoured",
    "no-pty,expiry-time={quote}20300101{quote} {line}": "the option expiry-time would not be honoured",
    "verify-required {line}": "the option verify-required would not be honoured",
    "=,= {line}": "what stands before the key cannot be read",
    "spa-device1qqq": "--key: ",
    "hello": "one begins with ssh-ed25519",
    "@/nonexistent": "/nonexistent: No such file",
    "@{two}": "holds 2 keys; it takes a file with one",
}


@pytest.mark.parametrize(("key", "why"), REFUSED.items())
def test_what_cannot_be_honoured_is_refused_and_adds_nothing(
    key: str, why: str, module_lab: Lab, module_folder: Path, tmp_path: Path
) -> None:
    server = RunningServer(module_lab, _new(module_folder, tmp_path.name))
    line, two = public_line(new_key(tmp_path)), tmp_path / "two"
    two.write_text(f"# both\n{line}\n\n{line}\n")
    given = key.format(line=line, two=two, quote='"')
    done = server.command("device", "add", "x", "--user", "u", "--role", "admin", "--key", given, check=False)
    assert done.returncode in (2, 7)
    assert why in done.stderr
    assert done.stderr.count("\n") == 1
    assert server.json("device", "list") == []


def _new(folder: Path, name: str) -> Path:
    made = folder / name
    made.mkdir(mode=0o755)
    return made
