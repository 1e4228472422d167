"""The client's tests again, on what its modules take for macOS and for Windows (`elsewhere`)."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.client.elsewhere import SYSTEMS

ROOT = Path(__file__).parents[2]
_WHOLE = ("other_systems", "imports", "start", "door", "keep", "proxy", "promises", "completion")
NOT_AGAIN = (*(f"test_{name}.py" for name in _WHOLE), "posture/test_programs.py")
"""Tests of processes of their own, which nobody misleads."""
LONG = "clock or hour or every or used_by_another or a_port_that_refuses"
"""Tests that wait for seconds, and for nothing of the system's."""
MOST_OF_THEM = 200
WITHOUT_MODES = ("windows",)
SCRATCH = """
import sys
from tests.client.elsewhere import move_to
move_to({system!r})
import spa_client
spa_client.__path__.append({folder!r})
import spa_client.scratch
"""


@pytest.fixture(scope="module")
def runs() -> Iterator[dict[str, subprocess.Popen[str]]]:
    """One run for each system, side by side, for they wait more than they work."""
    started = {}
    for system in SYSTEMS:
        words = [
            "-p",
            "tests.client.elsewhere",
            "--as-on",
            system,
            "-p",
            "no:cacheprovider",
            "-q",
            "-k",
            f"not ({LONG})",
        ]
        words += ["tests/client", *(f"--ignore=tests/client/{name}" for name in NOT_AGAIN)]
        words += ["-m", "not file_modes"] if system in WITHOUT_MODES else []
        started[system] = subprocess.Popen(
            [sys.executable, "-m", "pytest", *words],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
    yield started
    for process in started.values():
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


@pytest.mark.parametrize("system", SYSTEMS)
def test_the_client_passes_its_tests_there(runs: dict[str, subprocess.Popen[str]], system: str) -> None:
    out, _ = runs[system].communicate(timeout=500)
    assert runs[system].returncode == 0, out
    passed = re.search(r"(\d+) passed", out)
    assert passed, out
    assert int(passed[1]) >= MOST_OF_THEM


@pytest.mark.parametrize(
    ("system", "code", "error"),
    [
        ("windows", "import fcntl", "No module named 'fcntl' on win32"),
        ("windows", "from os import getuid", "cannot import name 'getuid'"),
        ("windows", "import signal; signal.SIGHUP", "no attribute 'SIGHUP' on that system"),
        ("windows", "def later():\n    import pwd\nlater()", "No module named 'pwd' on win32"),
        ("macos", "import socket; socket.AF_NETLINK", "no attribute 'AF_NETLINK' on that system"),
        ("macos", "import select; select.epoll()", "no attribute 'epoll' on that system"),
    ],
)
def test_a_module_that_needs_more_than_the_system_has_fails_there(
    system: str, code: str, error: str, tmp_path: Path
) -> None:
    assert error in loaded(system, code, tmp_path)


@pytest.mark.parametrize(
    "code",
    [
        "import sys\nif sys.platform != 'win32':\n    import fcntl",
        "try:\n    import fcntl\nexcept ImportError:\n    pass",
        "import signal\ngetattr(signal, 'SIGHUP', None)",
    ],
)
def test_a_module_that_looks_first_does_not(code: str, tmp_path: Path) -> None:
    assert loaded("windows", code, tmp_path) == ""


def loaded(system: str, code: str, folder: Path) -> str:
    """What is said when a module of the client's that holds this code is imported on that system."""
    (folder / "scratch.py").write_text(code)
    script = SCRATCH.format(system=system, folder=str(folder))
    return subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False).stderr
