"""Which of several perimeters is meant where a command names none: a file that holds one name.

Only a convenience: one that is missing, damaged or names what is not there means that nothing is chosen. It must not
know what a perimeter is, nor where the file is.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

from spa_client.secret_file import write_file


class DefaultChoice:
    """The choice kept in a file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self, names: tuple[str, ...]) -> str | None:
        """The one of these names that is chosen, or None."""
        try:
            chosen = self._path.read_text("utf-8").strip()
        except (OSError, UnicodeDecodeError):
            return None
        return chosen if chosen in names else None

    def write(self, name: str) -> None:
        """Choose a name. Raises OSError."""
        write_file(self._path, f"{name}\n")

    def forget(self) -> None:
        """Choose none. Raises OSError."""
        with contextlib.suppress(FileNotFoundError):
            self._path.unlink()
