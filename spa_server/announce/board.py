"""The notice board: a file in the runtime folder with the wishes as they stand, replaced whole at each change.

The server and the commands write it, the process that tells people reads it. Nothing secret is on it. That it cannot be
written is logged and stops nobody. It must not know where the wishes are kept.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

log = logging.getLogger("spa.announce")

MOST = 200
"""Notices on the board; of more, the newest."""
_LARGEST = 1 << 20


@dataclass(frozen=True, slots=True)
class Notice:
    """A wish as everybody who is to be told may see it. `by`: who approved; times are seconds since 1970, UTC."""

    number: int
    user: str
    device: str
    service: str
    state: str
    by: tuple[str, ...]
    denied_by: str
    asked_s: int
    waits_until_s: int


class Unreadable(Exception):
    """The board is there and cannot be read, or is none."""


def post(board: Path, notices: Iterable[Notice]) -> None:
    """Put these on the board in the place of what is there. A failure is logged, never raised."""
    text = json.dumps([asdict(each) for each in list(notices)[:MOST]])
    new = board.with_name(f".{board.name}.{os.getpid()}")
    try:
        new.unlink(missing_ok=True)
        handle = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o640)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            os.fchmod(file.fileno(), 0o640)
            file.write(text)
        new.replace(board)
    except OSError as error:
        log.warning("nobody is told of requests: %s cannot be written: %s", board, error.strerror)


def read(board: Path) -> tuple[Notice, ...]:
    """What is on the board; nothing where there is none yet. Raises Unreadable."""
    try:
        with board.open("rb") as file:
            raw = file.read(_LARGEST + 1)
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise Unreadable(f"{board}: {error.strerror}") from error
    if len(raw) > _LARGEST:
        raise Unreadable(f"{board}: it is larger than {_LARGEST} bytes")
    try:
        return tuple(_notice(each) for each in json.loads(raw))
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise Unreadable(f"{board}: this is no notice board: {error}") from error


def _notice(each: dict[str, object]) -> Notice:
    def text(key: str) -> str:
        value = each[key]
        if not isinstance(value, str) or not value.isprintable():
            raise ValueError(key)
        return value

    def number(key: str) -> int:
        value = each[key]
        if not isinstance(value, int):
            raise TypeError(key)
        return value

    by = each["by"]
    if not isinstance(by, list) or not all(isinstance(name, str) and name.isprintable() for name in by):
        raise ValueError("by")
    return Notice(
        number=number("number"),
        user=text("user"),
        device=text("device"),
        service=text("service"),
        state=text("state"),
        by=tuple(by),
        denied_by=text("denied_by"),
        asked_s=number("asked_s"),
        waits_until_s=number("waits_until_s"),
    )
