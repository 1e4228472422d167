"""Whether the perimeter in the kernel is the configured one, whose it is, and whether every lease in it ends. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from spa_server.enforce.ruleset import TABLE
from spa_server.examine.findings import Finding, Severity

APPLY = "spa-server perimeter apply"
COMPARED = ("set", "chain")


def standing_findings(standing: str, expected: str) -> Iterator[Finding]:
    """How the table that stands differs from the one that the configuration makes; both as nft prints them."""
    here, wanted = _parts(standing), _parts(expected)
    if not here:
        yield Finding(
            "perimeter-down",
            Severity.DANGER,
            "no perimeter stands: every service is as open as the rest of the firewall leaves it",
            f"no table inet {TABLE}",
            APPLY,
        )
        return
    if not wanted:
        yield Finding("perimeter-uncompared", Severity.NOTE, "the perimeter could not be compared with server.toml")
        return
    missing = [name for name in wanted if name not in here]
    changed = [name for name in wanted if name in here and here[name] != wanted[name]]
    extra = [name for name in here if name not in wanted]
    if missing or changed or extra:
        said = [f"{word}: {', '.join(names)}" for word, names in _words(missing, changed, extra) if names]
        yield Finding(
            "perimeter-differs",
            Severity.DANGER,
            "the perimeter in the kernel is not the one that server.toml says",
            "; ".join(said),
            APPLY,
        )
    else:
        yield Finding(
            "perimeter-stands",
            Severity.OK,
            "the perimeter stands, rule for rule as server.toml says",
            f"{sum(name.startswith('chain ') for name in here)} chains",
        )


def _words(*lists: Sequence[str]) -> Iterator[tuple[str, Sequence[str]]]:
    yield from zip(("missing", "changed", "not of the configuration"), lists, strict=True)


def _parts(text: str) -> dict[str, list[str]]:
    """Each set and chain of the table, with its definition and rules as nft prints them; what they count is left out.

    Text, because nft 1.0.6 cannot write an orphaned table as JSON.
    """
    parts: dict[str, list[str]] = {}
    name = ""
    for line in text.splitlines():
        words = line.split()
        if words[:1] and words[0] in COMPARED and words[-1] == "{":
            name = " ".join(words[:2])
            parts[name] = []
        elif words == ["}"]:
            name = ""
        elif name and words:
            parts[name].append(" ".join(words))
    return parts


def ownership_findings(*, can_own: bool | None, owned: bool, kernel: str) -> Iterator[Finding]:
    """Whether the table can be flushed away. `can_own` is None where that could not be tried."""
    if owned:
        yield Finding("perimeter-owned", Severity.OK, "the table is owned: nobody else can change or flush it", kernel)
    elif can_own is False:
        yield Finding(
            "perimeter-flushable",
            Severity.WARNING,
            "this kernel lets any root process flush the perimeter; spa-perimeter puts it back when it sees that",
            f"Linux {kernel}: owned, persistent tables are there since 6.9",
            "systemctl enable --now spa-perimeter; better, run Linux 6.9 or newer",
        )
    elif can_own:
        yield Finding(
            "perimeter-orphan",
            Severity.WARNING,
            "nothing owns the perimeter's table now, so whatever flushes the ruleset opens the services",
            "its owner does not run",
            "systemctl restart spa-perimeter",
        )


def lease_findings(elements: Iterable[Any]) -> Iterator[Finding]:
    """A lease without an end was put in by hand: this program makes none."""
    endless = [json.dumps(_key(each)) for each in elements if not _ends(each)]
    for key in endless[:5]:
        address = 6 if key.count(":") > 1 else 4
        words = " . ".join(str(word) for word in _words_of(key))
        yield Finding(
            "lease-endless",
            Severity.DANGER,
            f"a lease has no end: {words}",
            f"an element of leases{address} without timeout, out of {len(endless)}",
            f"spa-server lease revoke {_words_of(key)[0]}",
        )


def _words_of(key: str) -> list[Any]:
    found = json.loads(key)
    return found if isinstance(found, list) else [found]


def _key(element: Any) -> Any:
    value = element["elem"]["val"] if isinstance(element, dict) and "elem" in element else element
    return value["concat"] if isinstance(value, dict) and "concat" in value else value


def _ends(element: Any) -> bool:
    return isinstance(element, dict) and "elem" in element and "expires" in element["elem"]
