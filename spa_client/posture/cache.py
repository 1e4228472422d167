"""The last look at this device's health, kept so that not every knock has to look.

After the line that a knock needs (`last`) stands how each fact was found, for whoever asks. Losing the file costs a
look. It must not know how one looks.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from spa_client.posture import last
from spa_client.posture.findings import (
    MAX_DAYS,
    MAX_UPTIME_S,
    Finding,
    Findings,
    Name,
    Number,
)
from spa_client.posture.tree import content
from spa_client.secret_file import make_folder, write_file
from spa_protocol.posture import MAX_SYSTEM, Fact, PostureSource

MAX_FILE = 64 * 1024
_FACTS = ("disk_encrypted", "screen_lock", "firewall", "secure_boot")


@dataclass(frozen=True, slots=True)
class Looked:
    """What was found, so many seconds ago."""

    findings: Findings
    age_s: int


class Cache:
    """The last look, in a file that only its user reads. `None` for a path remembers nothing."""

    def __init__(self, path: Path | None) -> None:
        self._path = path

    def read(self, now: last.Moment) -> Looked | None:
        """The last look, if there is one whose age is known."""
        kept = self._content()
        age_s = last.age_s(kept, now)
        if age_s is None:
            return None
        try:
            return Looked(_findings(json.loads(kept.partition(b"\n")[2])), age_s)
        except (ValueError, TypeError, KeyError, RecursionError):
            return None

    def write(self, findings: Findings, now: last.Moment) -> None:
        """Keep a look, if it can be written."""
        if self._path is None:
            return
        head = last.line(findings.posture(), now).decode("ascii")
        with contextlib.suppress(OSError):
            make_folder(self._path.parent)
            write_file(self._path, f"{head}\n{json.dumps(_plain(findings))}\n")

    def _content(self) -> bytes:
        return (content(self._path, MAX_FILE) if self._path is not None else None) or b""


def _plain(findings: Findings) -> dict[str, Any]:
    plain = asdict(findings)
    plain["source"] = findings.source.value
    for fact in _FACTS:
        plain[fact]["fact"] = plain[fact]["fact"].value
    return plain


def _findings(value: dict[str, Any]) -> Findings:
    """Raises KeyError, TypeError and ValueError for what is none."""
    disk, lock, firewall, boot = (_read(value[name], Finding, "fact", _fact) for name in _FACTS)
    return Findings(
        PostureSource(value["source"]),
        disk,
        lock,
        firewall,
        boot,
        _read(value["patch_age_days"], Number, "value", lambda each: _count(each, MAX_DAYS)),
        _read(value["uptime_s"], Number, "value", lambda each: _count(each, MAX_UPTIME_S)),
        _read(value["system"], Name, "value", _system),
    )


def _read(value: dict[str, Any], kind: Callable[..., Any], key: str, check: Callable[[Any], object]) -> Any:
    rest = {name: value[name] for name in ("how", "unknown", "remedy")}
    if not all(isinstance(each, str) for each in rest.values()):
        raise TypeError("a text")
    return kind(check(value[key]), **rest)


def _fact(value: Any) -> Fact:
    if type(value) is not int:
        raise TypeError("a fact")
    return Fact(value)


def _count(value: Any, most: int) -> int | None:
    if value is not None and (type(value) is not int or not 0 <= value <= most):
        raise ValueError("a number")
    return value


def _system(value: Any) -> str:
    if not isinstance(value, str) or len(value) > MAX_SYSTEM or not value.isascii() or not (value + " ").isprintable():
        raise ValueError("a system's name")
    return value
