"""Being asked to end: by a signal, or by a thread whose work is done.

A command that holds a lease has something to do before it ends, so signals must not end it where it stands. It must not
know what that is.
"""

from __future__ import annotations

import contextlib
import select
import signal
import socket
import sys
from types import FrameType, TracebackType


class Ending:
    """While its block runs, SIGINT, SIGTERM and SIGHUP ask for the end; the second of them ends at once, as ever."""

    def __init__(self) -> None:
        self._ask, self._asked = socket.socketpair()
        self._ask.setblocking(False)
        self._before: dict[signal.Signals, object] = {}

    def __enter__(self) -> Ending:
        # What is ignored, as under nohup, stays ignored.
        wanted = [number for number in _signals() if signal.getsignal(number) is not signal.SIG_IGN]
        self._before = {number: signal.signal(number, self._arrived) for number in wanted}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._restore()
        self._ask.close()
        self._asked.close()

    def ask(self) -> None:
        """Ask for the end; from any thread, and from a signal's handler, where no lock may be waited for."""
        # A full buffer says the same, and after the end nobody listens.
        with contextlib.suppress(OSError):
            self._ask.send(b"\0")

    def wait(self) -> None:
        """Return when the end has been asked for."""
        # On Windows nothing interrupts this call, and the handlers of signals run only between two of them.
        while not select.select([self._asked], [], [], 0.5 if sys.platform == "win32" else None)[0]:
            pass

    def _arrived(self, number: int, frame: FrameType | None) -> None:
        self._restore()
        self.ask()

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]  # it is what signal.signal gave
        self._before = {}


def _signals() -> list[signal.Signals]:
    found = [signal.SIGINT, signal.SIGTERM]
    if sys.platform != "win32":
        found.append(signal.SIGHUP)
    return found
