"""Running the `nft` program: loading a text in one transaction, and reading the kernel's ruleset.

It must not know what is in either. For set elements there is the faster `nftset`.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from typing import Any

from spa_server import notify
from spa_server.privilege import lending_net_admin

SYSTEM_FOLDERS = "/usr/sbin:/sbin:/usr/local/sbin"
TIME_LIMIT_S = 60.0

_TABLE = re.compile(r"^table (\S+ \S+) \{.*\n(\tflags *\n)?", re.MULTILINE)

Item = dict[str, Any]
"""One object of nft's JSON (libnftables-json(5)), such as {"table": {"family": "inet", "name": "spa"}}."""


class PerimeterError(Exception):
    """The perimeter cannot be changed or read; the message says what to do."""


class NftMissing(PerimeterError):
    """The `nft` program is not there."""

    def __init__(self) -> None:
        super().__init__("nft is not installed: apt-get install nftables")


class NotPermitted(PerimeterError):
    """The kernel does not let this user look at or change the firewall."""

    def __init__(self) -> None:
        super().__init__("changing the firewall needs root (CAP_NET_ADMIN): run it again with sudo")


class RulesetRefused(PerimeterError):
    """nft or the kernel refused the ruleset; nothing was changed."""


def load(text: str) -> None:
    """Load a ruleset text: all of it or, with PerimeterError, nothing."""
    _run(["-f", "-"], text)


def ruleset_text() -> str:
    """Everything in the kernel's ruleset but the elements of named sets, as nft writes it."""
    return _run(["-t", "list", "ruleset"])


def ruleset_items() -> tuple[Item, ...]:
    """Everything in the kernel's ruleset but the elements of named sets, and tables that nft cannot write as JSON.

    The whole ruleset, because nft 1.0.6 fetches all elements for `nft -t list table` (3 s with 240,000 tags) and
    only for `list ruleset` does not (6 ms).
    """
    tables = _TABLE.findall(ruleset_text())
    if not any(nameless for _, nameless in tables):
        return _items("list ruleset")
    # nft 1.0.6 reads freed memory for the JSON of a table whose only flag it does not know (an orphan of ours).
    others = [f"list table {name}" for name, nameless in tables if not nameless]
    return _items("; ".join(others)) if others else ()


def _items(commands: str) -> tuple[Item, ...]:
    answers = (json.loads(line) for line in _run(["-j", "-t", commands]).splitlines())
    return tuple(item for answer in answers for item in answer["nftables"])


def of_kind(items: tuple[Item, ...], kind: str, family: str, table: str) -> Iterator[Item]:
    """The objects of one kind ("chain", "rule", "counter", ...) in one table."""
    for item in items:
        found = item.get(kind)
        if found is not None and (found.get("family"), found.get("table")) == (family, table):
            yield found


def _run(arguments: list[str], text: str | None = None) -> str:
    # An empty folder in PATH would be the present one, where anybody may have put an nft.
    path = ":".join(filter(None, (*os.environ.get("PATH", "").split(":"), SYSTEM_FOLDERS)))
    program = shutil.which("nft", path=path)
    if program is None:
        raise NftMissing
    try:
        code, said, complaint = run_to_end([program, *arguments], text, TIME_LIMIT_S)
    except subprocess.TimeoutExpired as error:
        raise PerimeterError(f"nft did not end within {TIME_LIMIT_S:.0f} s") from error
    if code == 0:
        return said
    if "Operation not permitted" in complaint or "must be root" in complaint:
        raise NotPermitted
    raise RulesetRefused(f"nft refused the ruleset: {_first_line(complaint)}")


def run_to_end(argv: Sequence[str], text: str | None, limit_s: float) -> tuple[int, str, str]:
    """Run a program, with CAP_NET_ADMIN if this process has it; its exit code, output and error output.

    The service manager hears meanwhile that this process lives: its watchdog is for one that is stuck without end.
    Raises subprocess.TimeoutExpired or OSError.
    """
    pipe = subprocess.PIPE
    end_s = time.monotonic() + limit_s
    heartbeat = notify.Heartbeat()
    # A fixed program, no shell; the text is of our own making.
    with (
        lending_net_admin(),
        subprocess.Popen(  # noqa: S603 - as said above
            argv, stdin=pipe if text else None, stdout=pipe, stderr=pipe, text=True, errors="replace"
        ) as running,
    ):
        while True:
            heartbeat.beat()
            left_s = max(end_s - time.monotonic(), 0.0)
            beat_s = heartbeat.left_s()
            try:
                said, complaint = running.communicate(text, left_s if beat_s is None else min(left_s, beat_s))
            except subprocess.TimeoutExpired:
                text = None  # it is being written already
                if time.monotonic() >= end_s:
                    running.kill()
                    raise
            except BaseException:
                running.kill()
                raise
            else:
                return running.returncode, said, complaint


def _first_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[0] if lines else "it gave no reason"
