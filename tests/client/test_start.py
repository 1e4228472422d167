"""Asking for help and completing a line read at most: no socket, no file written, no other program."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from spa_client.commands import COMMANDS
from spa_client.perimeter import Perimeter
from spa_client.storage import FOLDER_VARIABLE, Store

WATCHED = """
import json, os, sys
done = []
def watch(event, arguments):
    if event == "open":
        if arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND):
            done.append(f"write {arguments[0]}")
    elif event.split(".")[0] in ("socket", "subprocess") or event in ACTIONS:
        done.append(f"{event} {arguments}")
ACTIONS = {f"os.{name}" for name in ("exec", "fork", "forkpty", "link", "mkdir", "posix_spawn", "putenv", "remove",
    "rename", "rmdir", "symlink", "system", "truncate", "utime")}
from spa_client.commands import run
sys.addaudithook(watch)
try:
    code = run(sys.argv[1:])
except SystemExit as ended:
    code = ended.code
sys.stdout.flush()
print(json.dumps([code, list(done)]), file=sys.stderr)
"""
"""What the command line does from the start of its own code on; the interpreter's own doings are not ours."""


def done_by(*arguments: str, **variables: str) -> tuple[int, list[str], str]:
    """Exit code, what was done that leaves a trace, and what was printed."""
    # Bytecode would be kept by the interpreter, the first time.
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", **variables}
    ran = subprocess.run(
        [sys.executable, "-c", WATCHED, *arguments], capture_output=True, text=True, check=True, env=environment
    )
    code, done = json.loads(ran.stderr.splitlines()[-1])
    return code, done, ran.stdout


def completions() -> Iterator[tuple[str, str, str]]:
    for words, expected in (("", "knock"), ("kn", "knock"), ("knock --wa", "--wait"), ("knock off", "")):
        for shell in ("bash", "zsh", "fish"):
            yield shell, words, expected


@pytest.mark.parametrize(
    "arguments", [["--help"], ["-h"], *([command, "--help"] for command in COMMANDS)], ids=" ".join
)
def test_help_leaves_no_trace(arguments: list[str], office: Perimeter) -> None:
    code, done, said = done_by(*arguments)
    assert (code, done) == (0, [])
    assert "Usage: spa-client" in said


@pytest.mark.parametrize(("shell", "words", "expected"), list(completions()))
def test_completing_a_line_leaves_no_trace(shell: str, words: str, expected: str, office: Perimeter) -> None:
    typed = words.split(" ")
    variables = {"_SPA_CLIENT_COMPLETE": f"{shell}_complete", "COMP_WORDS": f"spa-client {words}"}
    variables["COMP_CWORD"] = typed[-1] if shell == "fish" else str(len(typed))
    code, done, said = done_by(**variables)
    assert (code, done) == (0, [])
    assert expected in said


def test_a_knock_would_be_seen(office: Perimeter, store: Store) -> None:
    _, done, _ = done_by("knock", "office", **{FOLDER_VARIABLE: str(store.folder)})
    assert any(each.startswith("socket.connect") for each in done)
    assert any(each.startswith("write ") and "slots" in each for each in done)
