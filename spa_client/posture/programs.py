"""Asking programs: all at once, each for a short time, and whatever they do is an answer.

A program that hangs is killed, with its children; one that talks without end is cut off. It must not know what the
answers mean.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from subprocess import Popen

TIMEOUT_S = 1.0
"""How long they may take, all together."""
MAX_OUTPUT = 64 * 1024
_KILLED_WITHIN_S = 0.2

Command = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Ran:
    """What came of a program. `code`: its exit code, None where it did not end by itself. `text`: what it printed, on
    either stream. `fault`: why there is nothing to read, else "".
    """

    code: int | None
    text: str = ""
    fault: str = ""


Runner = Callable[[tuple[Command, ...]], tuple[Ran, ...]]
"""Runs commands side by side; their outcomes in the same order. It raises nothing."""


def run(commands: tuple[Command, ...], timeout_s: float = TIMEOUT_S) -> tuple[Ran, ...]:
    """The commands' outcomes, after `timeout_s` and a little at the most. Raises nothing."""
    until_s = time.monotonic() + timeout_s
    # Threads, because Windows has no other way to read from several pipes with a limit of time.
    runs = [_Run(command) for command in commands]
    return tuple(each.outcome(until_s, timeout_s) for each in runs)


class _Run:
    """One program under way."""

    def __init__(self, command: Command) -> None:
        import threading

        self._command = command
        self._fault = ""
        self._text = b""
        self._process: Popen[bytes] | None = None
        try:
            self._process = _start(command)
        except FileNotFoundError:
            self._fault = f"there is no {command[0]} here"
        except (OSError, ValueError) as error:
            self._fault = f"{command[0]} cannot be run ({getattr(error, 'strerror', None) or error})"
        self._thread = threading.Thread(target=self._read, name="spa-posture", daemon=True)
        if self._process is not None:
            self._thread.start()

    def _read(self) -> None:
        process = self._process
        if process is None or process.stdout is None:
            return
        with contextlib.suppress(OSError, ValueError):
            while len(self._text) < MAX_OUTPUT and (piece := os.read(process.stdout.fileno(), MAX_OUTPUT)):
                self._text += piece

    def outcome(self, until_s: float, timeout_s: float) -> Ran:
        process = self._process
        if process is None:
            return Ran(None, fault=self._fault)
        self._thread.join(max(0.0, until_s - time.monotonic()))
        if self._thread.is_alive() or len(self._text) >= MAX_OUTPUT:
            _kill(process)
            return Ran(None, fault=f"{self._command[0]} did not finish within {timeout_s:g} s")
        code = _waited(process, max(0.0, until_s - time.monotonic()))
        if process.stdout is not None:
            process.stdout.close()
        if code is None:
            _kill(process)
            return Ran(None, fault=f"{self._command[0]} did not finish within {timeout_s:g} s")
        return Ran(code, self._text.decode("utf-8", "replace"))


def _start(command: Command) -> Popen[bytes]:
    # Only whoever has to look anew pays for this module.
    import subprocess

    environment = {**os.environ, "LC_ALL": "C", "LANGUAGE": "C"}
    return subprocess.Popen(  # noqa: S603 - fixed commands, and no shell
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=environment,
        start_new_session=True,
        creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
        bufsize=0,
    )


def _waited(process: Popen[bytes], timeout_s: float) -> int | None:
    import subprocess

    try:
        return process.wait(timeout_s)
    except subprocess.TimeoutExpired:
        return None


def _kill(process: Popen[bytes]) -> None:
    """End it and its children. What cannot be killed, because the kernel holds it, is left behind."""
    with contextlib.suppress(OSError):
        if sys.platform == "win32":
            process.kill()
        else:
            # It began a session of its own, so its children are of its group.
            os.killpg(process.pid, signal.SIGKILL)
    _waited(process, _KILLED_WITHIN_S)
