"""The terminal of the live view: its own screen, keys without a line's end, and all as it was when the view ends.

However it ends (q, Ctrl-C, SIGTERM, SIGHUP, an error), the shell's screen and settings come back. It must not know
what is shown.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import socket
import sys
import termios
from collections.abc import Callable, Iterator, Sequence

from rich.console import Console, ConsoleDimensions, Group
from rich.live import Live
from rich.text import Text

_ENDS = frozenset({signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT})
_KEYS = frozenset(b"qQ\x03\x04\x1b")
"""q, and what people press when they do not know: Ctrl-C and Ctrl-D where they come as keys, Escape alone."""

REDRAW_S = 1.0

Lines = Callable[[int, int], Sequence[Text]]
"""What is shown now, for a width and a height."""


def is_terminal() -> bool:
    """Whether there is a terminal that can be written on anywhere."""
    return sys.stdout.isatty() and os.environ.get("TERM", "") not in ("", "dumb", "unknown")


def show(news: socket.socket, lines: Lines) -> None:
    """Show `lines` whenever there is something to read in `news`, and once a second, until somebody ends it."""
    console = Console()
    with (
        _woken() as wake,
        _raw_keys() as keys,
        Live(console=console, screen=True, auto_refresh=False, redirect_stdout=False, redirect_stderr=False) as live,
        selectors.DefaultSelector() as selector,
    ):
        selector.register(wake, selectors.EVENT_READ, lambda: bool(_ENDS & set(wake.recv(64))))
        selector.register(news, selectors.EVENT_READ, lambda: not news.recv(64))
        if keys is not None:
            selector.register(keys, selectors.EVENT_READ, lambda: _is_end(os.read(keys, 64)))
        ended = False
        while not ended:
            # Not what COLUMNS and LINES say, which a shell may have exported before its window changed.
            console.size = size = ConsoleDimensions(*os.get_terminal_size(sys.stdout.fileno()))
            live.update(Group(*lines(size.width, size.height)), refresh=True)
            ended = any(key.data() for key, _ in selector.select(REDRAW_S))


def _is_end(pressed: bytes) -> bool:
    """Whether that ends the view: nothing at all is a terminal that hung up, several bytes an arrow or a paste."""
    return not pressed or (len(pressed) == 1 and pressed[0] in _KEYS)


@contextlib.contextmanager
def _woken() -> Iterator[socket.socket]:
    """A socket that gets a byte, its number, for each signal that ends the view or tells of another size."""
    reader, writer = socket.socketpair()
    reader.setblocking(False)
    writer.setblocking(False)
    numbers = (*_ENDS, signal.SIGWINCH)
    before = {number: signal.signal(number, lambda *_: None) for number in numbers}
    old = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
    try:
        yield reader
    finally:
        signal.set_wakeup_fd(old)
        for number, handler in before.items():
            signal.signal(number, handler)
        reader.close()
        writer.close()


@contextlib.contextmanager
def _raw_keys() -> Iterator[int | None]:
    """Standard input with each key as it is pressed, unseen; None where it is no terminal."""
    if not sys.stdin.isatty():
        yield None
        return
    handle = sys.stdin.fileno()
    before = termios.tcgetattr(handle)
    fresh = termios.tcgetattr(handle)
    fresh[3] &= ~(termios.ICANON | termios.ECHO)
    fresh[6][termios.VSUSP] = b"\0"  # a view that is suspended would leave its screen behind
    try:
        termios.tcsetattr(handle, termios.TCSADRAIN, fresh)
        yield handle
    finally:
        termios.tcsetattr(handle, termios.TCSAFLUSH, before)
