"""The live view as a whole: one thread looks at the server once in a while, another shows what was seen last.

So that the view can be ended, and says what is wrong, also while the server or the firewall process does not answer.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Sequence
from dataclasses import replace

from rich.text import Text

from spa_server.config import ServerConfig
from spa_server.watch import terminal
from spa_server.watch.gathering import Gathering
from spa_server.watch.screen import screen
from spa_server.watch.snapshot import Rates, Snapshot

LATE_S = 3.0
"""A look that takes so much longer than usual is told of."""


def watch(config: ServerConfig, every_s: float) -> None:
    """Show the view on this terminal until somebody ends it. Raises OSError where the server may not be asked."""
    looking = _Looking(config, every_s)
    looking.start()
    looking.seen.wait()  # what cannot be had at all is said before the screen is taken
    looking.newest()
    try:
        terminal.show(looking.news, lambda width, height: looking.lines(width, height, every_s))
    finally:
        looking.end()


class _Looking(threading.Thread):
    """Looks until it is told to end. `news` has a byte to read after each look."""

    def __init__(self, config: ServerConfig, every_s: float) -> None:
        super().__init__(name="looking", daemon=True)
        self.seen = threading.Event()
        self.news, self._tell = socket.socketpair()
        self._tell.setblocking(False)
        self._config = config
        self._every_s = every_s
        self._over = threading.Event()
        self._snapshots: list[Snapshot] = []
        self._error: BaseException | None = None
        self._rates = Rates()
        self._noted: Snapshot | None = None

    def run(self) -> None:
        """The thread's own."""
        gathering = Gathering(self._config)
        try:
            while not self._over.is_set():
                self._snapshots[:] = [gathering.look()]
                self._say()
                self._over.wait(self._every_s)
        except BaseException as error:
            self._error = error
            self._say()
        finally:
            gathering.close()

    def end(self) -> None:
        """Have it end; a look that hangs is not waited for."""
        self._over.set()
        self.join(timeout=0.5)

    def newest(self) -> Snapshot:
        """What was seen last. Raises what the looking ended with."""
        if self._error is not None:
            raise self._error
        return self._snapshots[0]

    def lines(self, width: int, height: int, every_s: float) -> Sequence[Text]:
        """What is to be shown now."""
        newest = self.newest()
        if newest is not self._noted:
            self._rates.note(newest)
            self._noted = newest
        late_s = time.monotonic() - newest.monotonic_s
        if late_s > every_s + LATE_S:
            late = f"nothing new for {late_s:.0f} s: the server or the firewall process does not answer"
            newest = replace(newest, faults=(late, *newest.faults))
        return screen(newest, self._rates, width, height)

    def _say(self) -> None:
        self.seen.set()
        with contextlib.suppress(BlockingIOError):  # there is more than enough to be read already
            self._tell.send(b"\0")
