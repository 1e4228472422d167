"""What scripts and cautious people rely on, of every command: exit codes, JSON, no question and no colour without a
terminal, and no secret in anything that is printed.

A new command has to be added here, or the tests say so.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from spa_client import errors
from spa_client.commands import COMMANDS, EXIT_CODES, group
from spa_client.perimeter import Perimeter
from spa_client.storage import Store
from spa_protocol.refusal import Refusal
from spa_protocol.text import BadText, TextKind, decode_key
from tests.client.gatekeeper import Gatekeeper

ROOT = Path(__file__).parents[2]
CODES = {
    "SpaError": 7,
    "BadUsage": 2,
    "Refused": 3,
    "ClockWrong": 3,
    "CodeNeeded": 3,
    "ApprovalNeeded": 3,
    "NoAnswer": 4,
    "NeverOpened": 4,
    "BadConfiguration": 5,
    "NotPermitted": 6,
    "BadSurroundings": 7,
    "SlotsUsedUp": 7,
}
"""Scripts test for these; none may ever change."""
NO_DATA = {"exec", "completion", "proxy", "ssh-config"}
"""What hands the terminal or a connection on, or prints what another program reads."""
LINES = (
    ["list"],
    ["show"],
    ["show", "office"],
    ["default"],
    ["default", "office"],
    ["rename", "office", "work"],
    ["rename", "work", "office"],
    ["posture"],
    ["posture", "nowhere"],
    ["knock", "office"],
    ["knock", "office", "nothing"],
    ["exec", "office", "--", "true"],
    ["delegate", "office", "--service", "web", "--for", "1h"],
    ["delegate", "office", "--service", "NO", "--for", "1h"],
    ["approve", "office", "4711"],
    ["approve", "office", "4711", "--yes"],
    ["deny", "office", "4711", "--yes"],
    ["doctor", "office"],
    ["doctor", "nowhere"],
    ["knock", "office", "--explain"],
    ["keep", "nowhere"],
    ["open", "office", "nothing"],
    ["proxy", "office", "127.0.0.1", "2222"],
    ["ssh-config", "office"],
    ["completion", "bash"],
    ["join"],
    ["join", "spa-invite1qqqq"],
    ["remove", "office"],
    ["remove", "office", "--yes"],
)
"""Each command, with what succeeds and what fails."""


def client(arguments: list[str]) -> subprocess.CompletedProcess[str]:
    """Run it as a script does: with nothing to read from, and no terminal anywhere."""
    return subprocess.run(
        [sys.executable, "-c", "from spa_client.commands import main; main()", *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        start_new_session=True,
        env={**os.environ, "FORCE_COLOR": "1", "TERM": "xterm-256color"},
    )


class TestExitCodes:
    """The numbers."""

    def test_no_error_has_another_code_than_it_had(self) -> None:
        found = {
            name: kind.exit_code
            for name, kind in vars(errors).items()
            if isinstance(kind, type) and issubclass(kind, errors.SpaError)
        }
        assert CODES.items() <= found.items()
        assert set(found.values()) <= set(CODES.values())

    def test_each_is_documented_in_the_help_and_in_the_readme(self) -> None:
        table = set(re.findall(r"^\| (\d) \|", (ROOT / "README.md").read_text(), re.MULTILINE))
        for code in {0, *CODES.values()}:
            assert f"\n  {code}  " in EXIT_CODES
            assert str(code) in table


class TestJson:
    """`--json`, on every command that prints something."""

    def test_every_command_has_it(self) -> None:
        import click

        context = click.Context(group)
        for name in set(COMMANDS) - NO_DATA:
            command = group.get_command(context, name)
            assert command is not None
            assert "--json" in {option for parameter in command.params for option in parameter.opts}, name

    @pytest.mark.parametrize(
        ("arguments", "keys"),
        [
            (["list"], {"name", "default", "label", "hosts"}),
            (["show"], {"name", "hosts", "knock_ports", "label", "device_identity", "server_identity", "services"}),
            (["knock"], {"perimeter", "confirmed", "left_s", "services", "openings", "warnings"}),
            (["posture"], {"perimeter", "send", "told", "source", "age_s", "facts"}),
            (["default"], {"default"}),
            (["rename", "office", "work"], {"renamed", "name"}),
            (["remove", "office", "--yes"], {"removed"}),
        ],
    )
    def test_it_is_one_line_with_at_least_these_keys(
        self, arguments: list[str], keys: set[str], office: Perimeter
    ) -> None:
        done = client([*arguments, "--json"])
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("\n") == 1
        said = json.loads(done.stdout)
        assert keys <= set(said[0] if isinstance(said, list) else said)

    def test_an_error_leaves_standard_output_empty(self, office: Perimeter) -> None:
        done = client(["knock", "nowhere", "--json"])
        assert (done.returncode, done.stdout) == (5, "")
        assert done.stderr.count("\n") == 1


def test_every_command_is_looked_at_here() -> None:
    assert {line[0] for line in LINES} == set(COMMANDS)


def test_without_a_terminal_nothing_is_asked_and_nothing_is_coloured(office: Perimeter) -> None:
    for line in LINES:
        done = client(line)
        said = done.stdout + done.stderr
        assert "Traceback" not in said, line
        assert "\x1b" not in said, line
        assert "\r" not in said, line
        assert not re.search(r"\? ?\[y/N\]|: $", said), line


class TestSecrets:
    """None of them is printed, whatever is asked for and whatever goes wrong."""

    @pytest.fixture
    def secrets(self, server: Gatekeeper, office: Perimeter, store: Store) -> list[str]:
        """What must not be read anywhere: every form of what the secret files hold, and the invite's secret."""
        found = list(self.forms(server.invites[0].invite.secret))
        for path in (store.folder / "office").iterdir():
            for kind in (each for each in TextKind if each.secret):
                try:
                    found += self.forms(decode_key(kind, path.read_text()))
                except BadText:
                    continue
                found.append(path.read_text().strip())
        assert len(found) >= 11, "the key, the gate secret and the invite's"
        return found

    @staticmethod
    def forms(secret: bytes) -> Iterator[str]:
        import base64

        yield secret.hex()
        yield base64.b64encode(secret).decode().rstrip("=")
        yield repr(secret)[2:-1]

    @staticmethod
    def check(done: subprocess.CompletedProcess[str], secrets: list[str]) -> None:
        said = done.stdout + done.stderr
        for secret in secrets:
            assert secret not in said
            assert secret.lower() not in said.lower()

    def test_every_command_keeps_them(self, secrets: list[str]) -> None:
        for line in LINES:
            for arguments in (line, [*line[:1], "--json", *line[1:]]):
                self.check(client(arguments), secrets)

    def test_what_goes_wrong_keeps_them(self, secrets: list[str], server: Gatekeeper, store: Store) -> None:
        server.behaviour.refuse = Refusal.DEVICE_DISABLED
        self.check(client(["knock", "office"]), secrets)
        server.behaviour.refuse, server.behaviour.clock_ms = None, 3_600_000
        self.check(client(["knock", "office"]), secrets)
        for name in ("device.key", "gate.secret"):
            path = store.folder / "office" / name
            kept = path.read_text()
            # One character too many, so that all the rest is right.
            path.write_text(kept.strip() + "Q\n")
            done = client(["show", "office"])
            assert done.returncode == 5
            self.check(done, [*secrets, kept.strip()])
            path.write_text(kept)
            path.chmod(0o644)
            self.check(client(["knock", "office"]), secrets)
            path.chmod(0o600)

    def test_a_key_pasted_in_place_of_an_invite_is_not_repeated(self, secrets: list[str], store: Store) -> None:
        key = (store.folder / "office" / "device.key").read_text().strip()
        done = client(["join", key])
        assert done.returncode == 2
        self.check(done, secrets)
