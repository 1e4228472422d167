"""Running the `nft` program: loading a text in one transaction, and reading the kernel's ruleset.

It must not know what is in either. For set elements there is the faster `nftset`.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from typing import Any

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
    program = shutil.which("nft", path=f"{os.environ.get('PATH', '')}:{SYSTEM_FOLDERS}")
    if program is None:
        raise NftMissing
    try:
        with lending_net_admin():
            done = subprocess.run(  # noqa: S603 - a fixed program, no shell; the text is of our own making
                [program, *arguments], input=text, capture_output=True, text=True, timeout=TIME_LIMIT_S, check=False
            )
    except subprocess.TimeoutExpired as error:
        raise PerimeterError(f"nft did not end within {TIME_LIMIT_S:.0f} s") from error
    if done.returncode == 0:
        return done.stdout
    if "Operation not permitted" in done.stderr or "must be root" in done.stderr:
        raise NotPermitted
    raise RulesetRefused(f"nft refused the ruleset: {_first_line(done.stderr)}")


def _first_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[0] if lines else "it gave no reason"
