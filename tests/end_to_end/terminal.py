"""Somebody at a terminal: tmux holds a real one in a namespace, types and pastes into it, and reads its screen.

It must not know what runs there, nor pytest.
"""

from __future__ import annotations

import itertools
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from types import TracebackType

from tests.lab import Host, LabError
from tests.stalls import wait_until

_ENDED = "ended with "
_STATUS = re.compile(rf"^{_ENDED}(\d+)$", re.MULTILINE)
_counter = itertools.count(1)


class Terminal:
    """A terminal of 120 columns and 60 lines, or another size, in which a command runs; it stays when that ends."""

    def __init__(
        self, host: Host, argv: Sequence[str], env: Mapping[str, str], size: tuple[int, int] = (120, 60)
    ) -> None:
        if shutil.which("tmux") is None:
            raise LabError("missing programs: apt-get install -y tmux")
        self._server = f"spa-{os.getpid()}-{next(_counter)}"
        self._start = ["ip", "netns", "exec", host.name, *argv]
        self._env = {**env, "LC_ALL": "C.UTF-8"}
        self._size = [str(number) for number in size]

    def __enter__(self) -> Terminal:
        # The shell says how it ended and keeps the terminal: tmux 3.3 at times never learns of a command's end.
        shell = f"trap : INT; {shlex.join(self._start)}; printf '\\n{_ENDED}%s\\n' $?; exec cat"
        columns, lines = self._size
        self._tmux("new-session", "-d", "-x", columns, "-y", lines, shell)
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

    def colours(self) -> str:
        """What can be read, with the escapes that colour it and set it bold."""
        return self._tmux("capture-pane", "-p", "-e")

    def resize(self, columns: int, lines: int) -> None:
        """Give it another size, as a person does who drags the window's corner."""
        self._tmux("resize-window", "-x", str(columns), "-y", str(lines))

    def wait_for(self, text: str) -> str:
        """Wait until that can be read; the screen."""
        wait_until(lambda: text in self.screen(), f"{text!r} on the screen")
        return self.screen()

    def status(self) -> int:
        """Wait for the command's end; its exit status."""
        wait_until(lambda: _STATUS.search(self.screen()) is not None, "the command's end")
        found = _STATUS.search(self.screen())
        assert found is not None
        return int(found[1])

    def _tmux(self, *words: str) -> str:
        argv = ["tmux", "-u", "-f", "/dev/null", "-L", self._server, *words]
        return subprocess.run(argv, env=self._env, capture_output=True, text=True, timeout=90, check=True).stdout
