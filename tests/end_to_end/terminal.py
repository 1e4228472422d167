"""Somebody at a terminal: tmux holds a real one in a namespace, types and pastes into it, and reads its screen.

It must not know what runs there, nor pytest.
"""

from __future__ import annotations

import itertools
import os
import shlex
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from types import TracebackType

from tests.lab import Host, LabError
from tests.stalls import wait_until

_counter = itertools.count(1)


class Terminal:
    """A terminal of 120 columns and 60 lines in which a command runs; its screen stays when the command has ended."""

    def __init__(self, host: Host, argv: Sequence[str], env: Mapping[str, str]) -> None:
        if shutil.which("tmux") is None:
            raise LabError("missing programs: apt-get install -y tmux")
        self._server = f"spa-{os.getpid()}-{next(_counter)}"
        self._start = ["ip", "netns", "exec", host.name, *argv]
        self._env = {**env, "LC_ALL": "C.UTF-8"}

    def __enter__(self) -> Terminal:
        # `remain-on-exit` has to stand before the command starts, which may end at once.
        self._tmux("start-server", ";", "set-option", "-g", "remain-on-exit", "on", ";",
                   "new-session", "-d", "-x", "120", "-y", "60", shlex.join(self._start))  # fmt: skip
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            print(self.screen())
        self._tmux("kill-server")

    def type(self, *keys: str) -> None:
        """Press keys, under tmux's names for them."""
        self._tmux("send-keys", *keys)

    def paste(self, text: str) -> None:
        """Paste a text, as a person does with the mouse."""
        self._tmux("set-buffer", text, ";", "paste-buffer")

    def screen(self) -> str:
        """What can be read, lines that the terminal broke put together again."""
        return self._tmux("capture-pane", "-p", "-J")

    def wait_for(self, text: str) -> str:
        """Wait until that can be read; the screen."""
        wait_until(lambda: text in self.screen(), f"{text!r} on the screen")
        return self.screen()

    def status(self) -> int:
        """Wait for the command's end; its exit status."""
        # Either may be known first: that all it printed has been read, and what its status was.
        wait_until(lambda: self._asked("#{pane_dead} #{pane_dead_status}").startswith("1 "), "the command's end")
        return int(self._asked("#{pane_dead_status}"))

    def _asked(self, what: str) -> str:
        return self._tmux("display-message", "-p", what).strip()

    def _tmux(self, *words: str) -> str:
        argv = ["tmux", "-u", "-f", "/dev/null", "-L", self._server, *words]
        return subprocess.run(argv, env=self._env, capture_output=True, text=True, timeout=90, check=True).stdout
