"""The last look at this device's health, kept so that not every knock has to look.

Two clocks must agree on its age: one that runs while the computer sleeps, but begins anew with each start, and the wall
clock, which lasts, but can be set. Where they do not agree (a restart, a clock that was set) nothing is known. Losing
the file costs a look. It must not know how one looks.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

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

_AGREE_WITHIN_S = 60
_FORM = 1
_MAX_FILE = 64 * 1024
_FACTS = ("disk_encrypted", "screen_lock", "firewall", "secure_boot")


@dataclass(frozen=True, slots=True)
class Moment:
    """`elapsed_s`: since some moment of this start of the computer, its sleep counted. `wall_s`: the wall clock."""

    elapsed_s: float
    wall_s: float


@dataclass(frozen=True, slots=True)
class Looked:
    """What was found, so many seconds ago."""

    findings: Findings
    age_s: int


class Cache:
    """The last look, in a file that only its user reads. `None` for a path remembers nothing."""

    def __init__(self, path: Path | None) -> None:
        self._path = path

    def read(self, now: Moment) -> Looked | None:
        """The last look, if there is one whose age is known."""
        kept = content(self._path, _MAX_FILE) if self._path is not None else None
        if kept is None:
            return None
        try:
            value = json.loads(kept)
            findings = _findings(value)
            ages = now.elapsed_s - float(value["elapsed_s"]), now.wall_s - float(value["wall_s"])
            # The older of the two: clocks may differ by what the network's time corrected meanwhile.
            known = min(ages) >= -1 and abs(ages[0] - ages[1]) <= _AGREE_WITHIN_S
            return Looked(findings, max(0, int(max(ages)))) if known else None
        except (ValueError, TypeError, KeyError, OverflowError, RecursionError, AttributeError):
            return None

    def write(self, findings: Findings, now: Moment) -> None:
        """Keep a look, if it can be written."""
        if self._path is None:
            return
        value = {"form": _FORM, "elapsed_s": now.elapsed_s, "wall_s": now.wall_s, **_plain(findings)}
        with contextlib.suppress(OSError):
            make_folder(self._path.parent)
            write_file(self._path, json.dumps(value))


def _plain(findings: Findings) -> dict[str, Any]:
    plain = asdict(findings)
    plain["source"] = findings.source.value
    for fact in _FACTS:
        plain[fact]["fact"] = plain[fact]["fact"].value
    return plain


def _findings(value: dict[str, Any]) -> Findings:
    """Raises KeyError, TypeError and ValueError for what is none."""
    if value["form"] != _FORM:
        raise ValueError("another form")
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
