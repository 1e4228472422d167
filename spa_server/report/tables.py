"""The tables of the page: who knocked most, what operators did, what happened to the server.

A table is of texts and numbers; what is in it is its callers' business, and escaped whatever it is.
"""

from __future__ import annotations

from collections.abc import Sequence

from spa_server.report import period as times
from spa_server.report.figures import Figures, Tallies
from spa_server.report.markup import Html, tag
from spa_server.report.plot import grouped
from spa_server.tell.reading import Record

MOST_ROWS = 15
"""Names in a table; those with the most."""


def who_knocked(figures: Figures) -> list[Html]:
    """Those with the most knocks: users, devices, sources, each a table of its own."""
    head = ("#Granted", "#Refused", "Last knock (UTC)")
    parts = []
    for title, first, tallies in (
        ("Users", "User", figures.users),
        ("Devices", "Device", figures.devices),
        ("Sources", "Source address", figures.sources),
    ):
        rows = [
            (name, tally.granted, tally.refused, times.second(tally.last_ms)) for name, tally in tallies.top(MOST_ROWS)
        ]
        shown = "those who knocked most" if len(tallies.of) > len(rows) else "all who knocked"
        parts.append(section(title, table(f"{counted(tallies)} in all; {shown}", (first, *head), rows)))
    return parts


def edits(figures: Figures) -> Html:
    """What operators did, the newest first."""
    rows = [
        (times.second(each.time_ms), each.actor, each.action, each.message, _outcome(each))
        for each in reversed(figures.edits)
    ]
    head = ("Time (UTC)", "By", "What", "Said", "Outcome")
    return section("Commands of operators", table(_shown(rows, figures.edits_in_all), head, rows))


def happenings(figures: Figures) -> Html:
    """What happened to the server, the newest first; alerts stand out."""
    rows = [
        (
            times.second(each.time_ms),
            tag("span", each.action, class_="bad") if each.kind == "alert" else each.action,
            each.message,
        )
        for each in reversed(figures.happenings)
    ]
    head = ("Time (UTC)", "What", "Said")
    return section("What happened to the server", table(_shown(rows, figures.happenings_in_all), head, rows))


def _shown(rows: Sequence[object], in_all: int) -> str:
    return f"The newest {len(rows)} of {grouped(in_all)}" if in_all > len(rows) else f"{len(rows)} in all"


def _outcome(record: Record) -> Html:
    said = f"{record.outcome}: {record.about}" if record.about and record.outcome != "success" else record.outcome
    return tag("span", said, class_="bad" if record.outcome == "failure" else None)


def counted(tallies: Tallies) -> str:
    """How many names there are, or that there are more than were kept."""
    return grouped(len(tallies.of)) if not tallies.given_up else f"over {grouped(len(tallies.of))}"


def table(caption: str, head: Sequence[str], rows: Sequence[Sequence[object]]) -> Html:
    """A table; a heading that begins with # is of a column of numbers."""
    if not rows:
        return tag("p", "None.", class_="empty")
    kinds = [_kind(name) for name in head]
    top = [
        tag("th", name.removeprefix("#"), scope="col", class_=kind if kind == "number" else None)
        for name, kind in zip(head, kinds, strict=True)
    ]
    body = [tag("tr", *(_cell(value, kind) for value, kind in zip(row, kinds, strict=True))) for row in rows]
    parts = [tag("caption", caption)] if caption else []
    return tag("div", tag("table", *parts, tag("thead", tag("tr", *top)), tag("tbody", *body)), class_="wide")


def _kind(head: str) -> str | None:
    """How the cells under a heading are set: the class of the style."""
    if head.startswith("#"):
        return "number"
    if "(UTC)" in head:
        return "time"
    return "long" if head in ("Said", "Outcome") else None


def _cell(value: object, kind: str | None) -> Html:
    inner = value if isinstance(value, Html) else grouped(value) if isinstance(value, int) else tag("bdi", value)
    return tag("td", inner, class_=kind)


def section(title: str, inner: Html) -> Html:
    """A part of the page under its heading."""
    return tag("section", tag("h2", title), inner)
