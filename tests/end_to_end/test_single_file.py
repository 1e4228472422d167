"""The client as one file: on a laptop that has Python, an empty home and nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.docs.blocks import ROOT
from tests.end_to_end.running import RunningServer
from tests.lab import Host, Lab
from tests.systemd.installing import wheels_folder

PYTHON = os.path.realpath(sys.executable)
"""The interpreter itself, which knows nothing of what is installed for the tests."""


@pytest.fixture(scope="module")
def single_file() -> Path:
    """Made as the documentation says, of the wheels that the tests have."""
    env = {**os.environ, "PIP_CONFIG_FILE": os.devnull, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(wheels_folder())}
    done = subprocess.run([ROOT / "tools/single-file"], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return ROOT / "dist" / "spa-client.pyz"


def run(host: Host, single_file: Path, home: Path, *argv: str) -> subprocess.CompletedProcess[str]:
    """Run it there with nothing in its environment but the home."""
    return host.run(
        [PYTHON, "-I", str(single_file), *argv], env={"HOME": str(home), "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
    )


def test_it_joins_and_knocks_with_nothing_installed(
    single_file: Path, server: RunningServer, lab: Lab, tmp_path: Path
) -> None:
    alice, home = lab.clients["alice"], tmp_path / "home"
    home.mkdir()
    bare = alice.run([PYTHON, "-I", "-c", "import nacl"], check=False)
    assert bare.returncode != 0, "the laptop has the libraries already, so nothing is shown"
    assert "Exit codes:" in run(alice, single_file, home, "--help").stdout
    invite = server.invite("alice-laptop")
    assert (
        "joined: office" in run(alice, single_file, home, "join", invite, "--name", "office", "--timeout", "20").stdout
    )
    assert run(alice, single_file, home, "list").stdout.startswith("office  ")
    assert alice.is_kept_out(lab.server.ipv4, 8443)
    assert "open: web" in run(alice, single_file, home, "knock", "office", "--timeout", "20").stdout
    with lab.server.listen_tcp(8443):
        assert alice.reaches_tcp(lab.server.ipv4, 8443)


def test_it_can_be_run_by_itself(single_file: Path) -> None:
    assert single_file.stat().st_mode & 0o111
    assert single_file.read_bytes().startswith(b"#!/usr/bin/env python3\n")


def test_it_holds_the_client_and_its_libraries_and_no_caches(single_file: Path) -> None:
    with zipfile.ZipFile(single_file) as held:
        names = set(held.namelist())
    assert {f"site-packages/{each}/__init__.py" for each in ("spa_client", "spa_protocol", "nacl", "click")} <= names
    assert not [name for name in names if "__pycache__" in name or "/tests/" in name]
