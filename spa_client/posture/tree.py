"""Reading the files that tell of a system: under a root that may be another than "/", briefly, and whatever is in them.

It must not know what the files mean.
"""

from __future__ import annotations

import os
from pathlib import Path

MAX_READ = 256 * 1024


def content(path: Path, limit: int = MAX_READ) -> bytes | None:
    """A file's bytes, the first of them; None where it cannot be read. A pipe or a device is not waited for."""
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOCTTY", 0)
    try:
        descriptor = os.open(path, flags)
    except (OSError, ValueError):
        return None
    try:
        pieces = bytearray()
        while len(pieces) < limit and (piece := os.read(descriptor, limit - len(pieces))):
            pieces += piece
        return bytes(pieces)
    except OSError:
        return None
    finally:
        os.close(descriptor)


def text(path: Path) -> str | None:
    """A file's text, without what is not UTF-8; None where it cannot be read."""
    read = content(path)
    return None if read is None else read.decode("utf-8", "replace")


def names(folder: Path) -> list[str]:
    """What is in a folder, sorted; nothing where it cannot be listed."""
    try:
        return sorted(path.name for path in folder.iterdir())
    except (OSError, ValueError):
        return []


def changed_s(path: Path) -> float | None:
    """When a file last changed, by the wall clock; None where it is not there."""
    try:
        return path.stat().st_mtime
    except (OSError, ValueError):
        return None


def is_there(path: Path) -> bool:
    """Whether anything is there."""
    return changed_s(path) is not None
