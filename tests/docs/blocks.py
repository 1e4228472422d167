"""What the documentation tells a reader to type: its fenced blocks, by language."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md")))

_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_INLINE = re.compile(r"`(spa-(?:server|client) [^`]+)`")


def blocks(page: Path, language: str) -> list[str]:
    """The contents of the page's blocks of one language, in order."""
    return [match[2] for match in _BLOCK.finditer(page.read_text(encoding="utf-8")) if match[1] == language]


def typed_commands(page: Path) -> Iterator[list[str]]:
    """Every spa-server and spa-client command of a page that is written out, as words."""
    for language in ("console", "sh"):
        for block in blocks(page, language):
            for line in block.splitlines():
                words = shlex.split(line, comments=True)
                if words and words[0] in ("spa-server", "spa-client"):
                    ends = (number for number, word in enumerate(words) if word == "||" or word.startswith((">", "<")))
                    yield words[: next(ends, None)]


def inline_commands(page: Path) -> Iterator[list[str]]:
    """Every `spa-server ...` and `spa-client ...` in running text, as words."""
    for match in _INLINE.finditer(page.read_text(encoding="utf-8")):
        yield match[1].split()


def commands_in_tables(page: Path) -> Iterator[list[str]]:
    """The `spa-server ...` commands that begin a row of a table, as words."""
    for line in page.read_text(encoding="utf-8").splitlines():
        if match := re.match(r"\| `(spa-server [^`]+)` \|", line):
            yield match[1].split()
