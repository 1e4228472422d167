"""How the demonstration speaks: one dated line for each step, with what was expected beside what was seen.

It must not know what is being shown.
"""

from __future__ import annotations

import os
import sys
from datetime import UTC, datetime
from typing import TextIO

BOLD, DIM, RED, GREEN = "1", "2", "31", "32"
STAMP_WIDTH = len("2026-01-01 00:00:00.000Z")
ACTOR_WIDTH = 9


class Console:
    """Prints steps, and counts those that did not go as expected. Colours are for terminals only."""

    def __init__(self, out: TextIO = sys.stdout) -> None:
        self._out = out
        self._colours = out.isatty() and "NO_COLOR" not in os.environ
        self.steps = 0
        self.unexpected: list[str] = []

    def title(self, sentence: str) -> None:
        """A line that stands alone."""
        self._line(self._in(BOLD, sentence))

    def chapter(self, sentence: str) -> None:
        """A heading before some steps."""
        self._line("")
        self.title(sentence)

    def step(self, actor: str, sentence: str, as_expected: bool) -> None:
        """What somebody did and what came of it, and whether that is what should have come of it."""
        self.steps += 1
        if not as_expected:
            self.unexpected.append(f"{actor} {sentence}")
        mark = self._in(GREEN, "ok") if as_expected else self._in(RED, "NO")
        self._line(f"{self._in(DIM, _stamp())}  {mark}  {actor:<{ACTOR_WIDTH}} {sentence}")

    def quote(self, text: str) -> None:
        """What a program printed, or a line of the kernel's."""
        margin = " " * (STAMP_WIDTH + 6 + ACTOR_WIDTH)
        for line in text.strip().splitlines():
            self._line(f"{margin} {self._in(DIM, '|')} {line.strip()}")

    def verdict(self, took_s: float) -> int:
        """The last line; the exit code."""
        self._line("")
        if not self.unexpected:
            self.title(f"All {self.steps} steps went as expected, in {took_s:.1f} s. Nothing is left behind.")
            return 0
        self._line(self._in(RED, f"{len(self.unexpected)} of {self.steps} steps did NOT go as expected:"))
        for sentence in self.unexpected:
            self._line(f"  {sentence}")
        return 1

    def _line(self, text: str) -> None:
        print(text, file=self._out, flush=True)

    def _in(self, colour: str, text: str) -> str:
        return f"\x1b[{colour}m{text}\x1b[0m" if self._colours else text


def _stamp() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3] + "Z"
