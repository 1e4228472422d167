"""Reading other tables' rules from the kernel: nft's, iptables' and those of iptables-legacy, as one rule book.

The only place here that knows which programs show them. It changes nothing.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import MappingProxyType

from spa_server.enforce.nft_program import SYSTEM_FOLDERS, Item, ruleset_items, run_to_end
from spa_server.enforce.ruleset import HOLD_TABLES, TABLE
from spa_server.examine.iptables_rules import saved_chains
from spa_server.examine.nft_rules import Texts, nft_chains, rule_texts
from spa_server.examine.rules import Chain, RuleBook

TIME_LIMIT_S = 20.0
LEGACY = {"iptables": "ip_tables_names", "ip6tables": "ip6_tables_names"}
"""The files in /proc/net that name the tables of iptables-legacy in use; they are there only where it ever ran."""


def program(name: str) -> str | None:
    """Where a program is, also outside a user's PATH."""
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:{SYSTEM_FOLDERS}")


def output(*argv: str) -> str:
    """What a program prints; empty when it is not there, fails or hangs."""
    found = program(argv[0])
    if found is None:
        return ""
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        code, said, _ = run_to_end([found, *argv[1:]], None, TIME_LIMIT_S)
        return said if code == 0 else ""
    return ""


def read_rules() -> RuleBook:
    """Every rule of other tables. Raises PerimeterError when nft cannot be asked."""
    items = tuple(_with_maps(_others(ruleset_items())))
    saved: list[Chain] = []
    for name in LEGACY:
        if _speaks_xt(items, "ip6" if name.startswith("ip6") else "ip"):
            # By its full name: plain iptables may be the legacy one, whose rules are others.
            saved += saved_chains(output(f"{name}-nft-save") or output(f"{name}-save"), name)
        if legacy_tables(name):
            saved += saved_chains(output(f"{name}-legacy-save"), f"{name}-legacy")
    return rule_book(items, saved, rule_texts(output("nft", "-a", "-t", "list", "ruleset")))


def rule_book(items: Iterable[Item], saved: Sequence[Chain] = (), texts: Texts = MappingProxyType({})) -> RuleBook:
    """nft's objects but our table's, those that iptables shows better in its words."""
    listed = tuple(_others(items))
    known = {(chain.family, chain.table) for chain in saved if "legacy" not in chain.program}
    half_shown = _with_extensions(listed) - known
    hidden = known | half_shown
    shown = tuple(chain for chain in nft_chains(listed, texts) if (chain.family, chain.table) not in hidden)
    return RuleBook((*shown, *saved), tuple(sorted(" ".join(table) for table in half_shown)))


def _with_extensions(items: Iterable[Item]) -> set[tuple[str, str]]:
    """Tables with rules that iptables wrote: nft's JSON names what they match by, not what they say."""
    rules = (item["rule"] for item in items if "rule" in item)
    return {(rule["family"], rule["table"]) for rule in rules if any("xt" in statement for statement in rule["expr"])}


def legacy_tables(name: str) -> tuple[str, ...]:
    """The tables of iptables-legacy that this namespace has."""
    try:
        return tuple(Path("/proc/net", LEGACY[name]).read_text().split())
    except OSError:
        return ()


def _others(items: Iterable[Item]) -> Iterator[Item]:
    for item in items:
        for kind, found in item.items():
            table = found.get("name") if kind == "table" else found.get("table")
            if found.get("family") != "inet" or table not in (TABLE, *HOLD_TABLES):
                yield item


def _speaks_xt(items: Iterable[Item], family: str) -> bool:
    """Whether a family has tables that iptables made: base chains with its names."""
    chains = (item["chain"] for item in items if "chain" in item)
    return any(chain["family"] == family and chain["name"].isupper() and "hook" in chain for chain in chains)


def _with_maps(items: Iterable[Item]) -> Iterator[Item]:
    """The objects, with the elements of maps, which `nft -t` leaves out."""
    for item in items:
        found = item.get("map")
        if found is not None and "elem" not in found:
            listed = output("nft", "-j", "list", "map", found["family"], found["table"], found["name"])
            with contextlib.suppress(ValueError, KeyError):
                yield from (each for each in json.loads(listed)["nftables"] if "map" in each)
                continue
        yield item
