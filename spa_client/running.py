"""Running another command in our place: its signals, its exit status.

It must not know why the command is run.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from types import FrameType

NOT_FOUND = 127
CANNOT_RUN = 126


def run_command(words: Sequence[str]) -> int:
    """Run a command to its end, and return its status; 128 + N when signal N ended it, as shells say it."""
    with _Relay() as relay:
        try:
            # The user's own command, as the user gave it, without a shell in between.
            child = subprocess.Popen(words)  # noqa: S603 - running it is what was asked for
        except FileNotFoundError:
            return _cannot(f"{words[0]}: no such command; is it installed, and spelt as it is?", NOT_FOUND)
        except OSError as error:
            return _cannot(f"{words[0]}: {error.strerror or error}", CANNOT_RUN)
        relay.follow(child)
        status = _wait(child)
    return 128 - status if status < 0 else status


def _wait(child: subprocess.Popen[bytes]) -> int:
    if sys.platform != "win32":
        return _wait_for_signals(child)
    while True:
        # An unlimited wait on Windows cannot be interrupted, not even by Ctrl-C.
        with contextlib.suppress(subprocess.TimeoutExpired):
            return child.wait(timeout=0.5)


if sys.platform != "win32":

    def _wait_for_signals(child: subprocess.Popen[bytes]) -> int:
        """Wait on a socket that every signal writes to, the child's end too.

        In a plain wait a signal that comes just before it begins, or that the kernel gives to another thread, would be
        handed on when the child has ended.
        """
        read, write = socket.socketpair()
        read.setblocking(False)
        write.setblocking(False)
        former = signal.signal(signal.SIGCHLD, lambda *_: None)
        former_fd = signal.set_wakeup_fd(write.fileno(), warn_on_full_buffer=False)
        try:
            while (status := child.poll()) is None:
                select.select([read], [], [])
                with contextlib.suppress(BlockingIOError):
                    read.recv(4096)
            return status
        finally:
            signal.set_wakeup_fd(former_fd)
            signal.signal(signal.SIGCHLD, former)
            read.close()
            write.close()


def _cannot(sentence: str, code: int) -> int:
    sys.stderr.write(f"spa-client: {sentence}\n")
    return code


class _Relay:
    """Hands signals that are meant for the command on to it, while its block runs."""

    def __init__(self) -> None:
        self._child: subprocess.Popen[bytes] | None = None
        self._early: list[int] = []

    def __enter__(self) -> _Relay:
        # What is ignored, as under nohup, stays ignored; the command inherits that.
        wanted = [number for number in _relayed() if signal.getsignal(number) is not signal.SIG_IGN]
        self._before = {number: signal.signal(number, self._arrived) for number in wanted}
        return self

    def __exit__(self, *exc: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def follow(self, child: subprocess.Popen[bytes]) -> None:
        """From now on signals go to this process; those that came while it was being started first."""
        self._child = child
        for number in self._early:
            self._hand_on(child, number)

    def _arrived(self, number: int, frame: FrameType | None) -> None:
        if self._child is None:
            self._early.append(number)
        else:
            self._hand_on(self._child, number)

    @staticmethod
    def _hand_on(child: subprocess.Popen[bytes], number: int) -> None:
        if number == signal.SIGINT and _terminal_sent_it():
            return
        with contextlib.suppress(OSError, ValueError):
            child.send_signal(number)


def _relayed() -> Iterator[signal.Signals]:
    yield signal.SIGINT
    yield signal.SIGTERM
    if sys.platform != "win32":
        yield signal.SIGHUP


def _terminal_sent_it() -> bool:
    """Whether an interrupt most likely came from Ctrl-C, which the command has then received by itself.

    A second one would make many programs give up at once.
    """
    if sys.platform == "win32":
        return True
    for descriptor in (0, 1, 2):
        with contextlib.suppress(OSError):
            return os.tcgetpgrp(descriptor) == os.getpgrp()
    return False
