"""Log lines that others can provoke at will: a few at once, then one a second, so that nobody fills the log."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping

AT_ONCE = 10
EVERY_S = 1.0


class Seldom:
    """Lines about one kind of thing, to one logger. What is left out is counted in the next line."""

    def __init__(self, log: logging.Logger) -> None:
        self._log = log
        self._may = float(AT_ONCE)
        self._counted_s = time.monotonic()
        self._unsaid = 0

    def warn(self, line: str, extra: Mapping[str, object] | None = None) -> None:
        """Log a warning, unless there were too many lines."""
        self._say(logging.WARNING, line, extra)

    def error(self, line: str) -> None:
        """Log an error in the same way."""
        self._say(logging.ERROR, line)

    def _say(self, level: int, line: str, extra: Mapping[str, object] | None = None) -> None:
        now_s = time.monotonic()
        self._may = min(self._may + (now_s - self._counted_s) / EVERY_S, AT_ONCE)
        self._counted_s = now_s
        if self._may < 1:
            self._unsaid += 1
            return
        more = f" ({self._unsaid} more such lines since the last one)" if self._unsaid else ""
        self._may -= 1
        self._unsaid = 0
        self._log.log(level, "%s%s", line, more, extra=extra)
