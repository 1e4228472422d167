"""What a user's own service manager is given: systemd's reads the unit, and the plist is one."""

from __future__ import annotations

import os
import plistlib
import shutil
import subprocess
from pathlib import Path

import click
import pytest

from spa_client.commands import group
from tests.docs.blocks import ROOT, blocks

UNIT = ROOT / "systemd/user/spa-client-open@.service"


def verify(unit: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    """What systemd, as a user's manager, says of the unit."""
    env = {**os.environ, "XDG_RUNTIME_DIR": str(folder)}
    words = ["systemd-analyze", "--user", "verify", str(unit)]
    return subprocess.run(words, env=env, capture_output=True, text=True, check=False)


def test_systemd_finds_nothing_wrong_with_the_unit(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.fail("missing: apt-get install -y systemd")
    done = verify(UNIT, tmp_path)
    assert (done.returncode, done.stderr) == (0, "")


def test_and_would_find_what_is_wrong(tmp_path: Path) -> None:
    wrong = tmp_path / UNIT.name
    wrong.write_text(UNIT.read_text().replace("/usr/bin/env", "/no/such/program"))
    assert verify(wrong, tmp_path).returncode != 0


def test_the_commands_of_unit_and_plist_are_the_clients() -> None:
    start = next(line for line in UNIT.read_text().splitlines() if line.startswith("ExecStart="))
    plist = plistlib.loads(blocks(ROOT / "docs/clients.md", "xml")[0].encode())
    for words in (start.split()[1:], plist["ProgramArguments"]):
        assert Path(words[0]).name == "spa-client"
        command = group.get_command(click.Context(group), words[1])
        assert command is not None
        command.make_context(words[1], list(words[2:]))
