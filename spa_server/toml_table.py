"""A TOML table taken key by key, with every problem noted instead of the first one raised.

Knows TOML's types and how a problem reads; nothing of what any key is for.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import PurePosixPath
from typing import TypeVar

Kind = TypeVar("Kind", bound=StrEnum)
Item = TypeVar("Item")
Default = TypeVar("Default")

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_LONGEST_SAID = 60
_MOST_ITEMS = 256


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong: the full key, what was said (empty where nothing was), and what is allowed there."""

    key: str
    said: str
    allowed: str

    def __str__(self) -> str:
        if not self.said:
            return f"{self.key}: {self.allowed}" if self.key else self.allowed
        return f"{self.key}: {self.said} is not allowed; it takes {self.allowed}"


class Bad(ValueError):
    """A value that cannot be taken; the message says what can."""


def say(value: object) -> str:
    """A value as the file would have it, on one line and not too long."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "a table"
    try:
        said = json.dumps(value, default=str)
    except ValueError:  # an integer of more digits than Python will print
        return "a huge number"
    return said if len(said) <= _LONGEST_SAID else said[: _LONGEST_SAID - 3] + "..."


def under(path: str, key: str) -> str:
    """The full name of `key` in the table `path`, quoted where TOML would quote it."""
    name = key if _BARE_KEY.fullmatch(key) else say(key)
    return f"{path}.{name}" if path else name


class Table:
    """One table. A reader returns the value, or the default where the key is absent or its value was refused."""

    def __init__(self, path: str, values: dict[str, object], problems: list[Problem]) -> None:
        self.path = path
        self._values = values
        self._problems = problems
        self._known: list[str] = []

    def note(self, key: str, allowed: str, *, said: str | None = None) -> None:
        """Note a problem with `key`; what was said is the file's value unless given."""
        if said is None:
            said = say(self._values[key]) if key in self._values else ""
        self._problems.append(Problem(under(self.path, key), said, allowed))

    def given(self, key: str) -> bool:
        """Whether the file has this key."""
        return key in self._values

    def is_list(self, key: str) -> bool:
        """Whether the file has a list there."""
        return isinstance(self._values.get(key), list)

    def under(self, key: str, values: dict[str, object]) -> Table:
        """The table that stands under a key of this one; its problems come with this one's."""
        return Table(under(self.path, key), values, self._problems)

    def one(self, key: str, read: Callable[[object], Item], default: Default) -> Item | Default:
        """The value as `read` takes it; `read` raises Bad with what it takes."""
        self._known.append(key)
        if key not in self._values:
            return default
        try:
            return read(self._values[key])
        except Bad as error:
            self.note(key, str(error))
            return default

    def many(
        self, key: str, read: Callable[[object], Item], what: str, default: Iterable[Item] = (), *, least: int = 1
    ) -> tuple[Item, ...]:
        """A list of at least `least` items without repetition, each as `read` takes it."""
        self._known.append(key)
        if key not in self._values:
            return tuple(default)
        values = self._values[key]
        if not isinstance(values, list) or len(values) < least:
            self.note(key, f"a list of {what}")
            return tuple(default)
        if len(values) > _MOST_ITEMS:
            self.note(key, f"at most {_MOST_ITEMS} items", said=f"{len(values)} items")
            return tuple(default)
        items: list[Item] = []
        for value in values:
            try:
                item = read(value)
            except Bad as error:
                self.note(key, str(error), said=say(value))
                continue
            if item in items:
                self.note(key, "each item once", said=f"{say(value)} a second time")
            else:
                items.append(item)
        return tuple(items)

    def required(self, key: str, what: str) -> None:
        """Note it if the file does not have this key."""
        if key not in self._values:
            self.note(key, f"this is missing; it takes {what}")

    def finish(self) -> None:
        """Note every key that no reader asked for."""
        for key in self._values:
            if key not in self._known:
                near = difflib.get_close_matches(key, self._known, n=1)
                hint = f"did you mean {near[0]}?" if near else f"known here: {', '.join(self._known)}"
                self.note(key, f"unknown key; {hint}", said="")


def whole(first: int, last: int, unit: str = "") -> Callable[[object], int]:
    """Takes a whole number within bounds. A bool is none, though Python counts it as one."""
    what = f"a whole number{' of ' + unit if unit else ''} from {first} to {last}"

    def read(value: object) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not first <= value <= last:
            raise Bad(what)
        return value

    return read


def flag(value: object) -> bool:
    """Takes true or false."""
    if not isinstance(value, bool):
        raise Bad("true or false")
    return value


def choice(kind: type[Kind]) -> Callable[[object], Kind]:
    """Takes one of the names of an enumeration."""

    def read(value: object) -> Kind:
        for member in kind:
            if value == member.value:
                return member
        raise Bad(" or ".join(json.dumps(member.value) for member in kind))

    return read


def text(valid: Callable[[str], bool], what: str) -> Callable[[object], str]:
    """Takes text that passes a check."""

    def read(value: object) -> str:
        if not isinstance(value, str) or not valid(value):
            raise Bad(what)
        return value

    return read


def table(value: object) -> dict[str, object]:
    """Takes a table."""
    if not isinstance(value, dict):
        raise Bad("a table")
    return value


def absolute_path(longest: int = 4095) -> Callable[[object], str]:
    """Takes the absolute path of a file or folder."""
    what = f"an absolute path of at most {longest} bytes"

    def read(value: object) -> str:
        if not isinstance(value, str) or not PurePosixPath(value).is_absolute() or not value.isprintable():
            raise Bad(what)
        if len(value.encode()) > longest or ".." in PurePosixPath(value).parts:
            raise Bad(what)
        return value

    return read
