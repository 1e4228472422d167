"""How a snapshot looks on a terminal of any size, with colours or without: never more lines than there are.

What does not fit is left out from the end and counted. Texts come from outside: they are set as they are, never as
markup, and what a terminal would obey in them is written out. It must not know where the values come from.
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence

from rich.text import Text

from spa_server.tell.printable import printable
from spa_server.watch.columns import Column, table
from spa_server.watch.snapshot import Counted, Inside, Rates, Snapshot, Turned

ROOMY = 22
"""From so many lines on, empty ones stand between the parts, and each service has its own counters."""
MIDDLING = 14
VERY_WIDE, WIDE, NARROW = 100, 76, 56
STEP_UP, TOO_MUCH = 30, 60
"""Where a risk asks for a second factor and where it refuses, unless configured otherwise."""
SHORT_MS = 10_000
_MOST_FAULTS = 3
_MOST_DOORS = 8
_DAY_MS = 86_400_000


def screen(snapshot: Snapshot, rates: Rates, width: int, height: int) -> list[Text]:
    """All of it, on at most `height` lines of `width` characters."""
    blank = [Text()] if height >= ROOMY else []
    top = [_title(snapshot, width), _state(snapshot)]
    if height >= MIDDLING:
        top.append(_line(", ".join(snapshot.processes) or "no process", "dim"))
    top += [_line(f"! {fault}", "bold red") for fault in snapshot.faults[:_MOST_FAULTS]]
    top += [*blank, *_doors(snapshot, rates, width)] if blank else _gate(snapshot, rates)
    if height >= MIDDLING and snapshot.results:
        top.append(_results(snapshot))
    bottom = [_line(f"not shown: {each}", "yellow") for each in snapshot.missing[: max(1, height // 6)]]
    people = _people(snapshot, width, height - len(top) - len(bottom), blank)
    lines = [*top, *people][: height - len(bottom)] + bottom
    for line in lines:
        line.truncate(width, overflow="ellipsis")
    return lines[:height]


def _people(snapshot: Snapshot, width: int, left: int, blank: list[Text]) -> list[Text]:
    """Who is inside, and who was refused lately, on so many lines."""
    inside, refusals = snapshot.inside, snapshot.refusals or ()
    wants_inside = 0 if inside is None else len(blank) + 1 + max(1, len(inside))
    wants_refusals = len(blank) + 1 + len(refusals) if refusals else 0
    for_refusals = min(wants_refusals, max(left // 3, left - wants_inside)) if left >= 6 + 2 * len(blank) else 0
    lines: list[Text] = []
    if inside is not None:
        lines += blank + _inside(inside, snapshot.time_ms, width, left - for_refusals - len(blank))
    if for_refusals >= len(blank) + 2:
        lines += blank + _refused(refusals, snapshot.time_ms, width, for_refusals - len(blank))
    return lines


def _title(snapshot: Snapshot, width: int) -> Text:
    date = "%Y-%m-%d " if width >= NARROW else ""
    left, right = f"spa-perimeter  {_at(snapshot.time_ms).strftime(date + '%H:%M:%S')}Z", "q ends"
    return Text(f"{left}{right:>{max(0, width - len(left))}}", style="bold", no_wrap=True, overflow="crop")


def _state(snapshot: Snapshot) -> Text:
    line = Text(no_wrap=True, overflow="ellipsis")
    stands = {True: ("closed", "green"), False: ("NOT UP", "bold red"), None: ("not known", "yellow")}
    word, style = stands[snapshot.perimeter]
    line.append("perimeter ").append(word, style=style).append("  server ")
    if not snapshot.is_running:
        return line.append("NOT RUNNING", style="bold red")
    line.append("running", style="green").append(f" {length(snapshot.up_s * 1000)}")
    return line.append(f"  {snapshot.holders} devices and invites, {snapshot.tags_armed} tags armed", style="dim")


def _gate(snapshot: Snapshot, rates: Rates) -> list[Text]:
    """The gate's counters alone, in one line."""
    lines = []
    for door in snapshot.doors[:1]:
        admitted, dropped = _rates(rates, door)
        lines.append(_line(f"gate  {door.admitted:,} in ({admitted}/s)  {door.dropped:,} dropped ({dropped}/s)"))
    return lines


def _doors(snapshot: Snapshot, rates: Rates, width: int) -> list[Text]:
    if not snapshot.doors:
        return []
    columns = (
        Column("COUNTED", cut=True),
        Column("ADMITTED", right=True),
        Column("PER SECOND", NARROW, right=True),
        Column("DROPPED", right=True),
        Column("PER SECOND", NARROW, right=True),
    )
    rows = []
    for door in snapshot.doors[: _MOST_DOORS + 1]:
        admitted, dropped = _rates(rates, door)
        name = f"packets to {door.name}" if door.name else "datagrams at the gate"
        rows.append([_plain(each) for each in (name, f"{door.admitted:,}", admitted, f"{door.dropped:,}", dropped)])
    more = len(snapshot.doors) - len(rows)
    return table(columns, rows, width) + ([_line(f"and {more} more services", "dim")] if more else [])


def _rates(rates: Rates, door: Counted) -> tuple[str, str]:
    found = rates.of(door.name)
    return ("-", "-") if found is None else (f"{found[0]:.1f}", f"{found[1]:.1f}")


def _results(snapshot: Snapshot) -> Text:
    told = sorted(snapshot.results.items(), key=lambda item: (item[0] != "granted", -item[1], item[0]))
    counted = ", ".join(f"{name.replace('_', ' ')} {count:,}" for name, count in told)
    return _line(f"knocks  {counted}")


def _inside(inside: Sequence[Inside], now_ms: int, width: int, lines: int) -> list[Text]:
    if lines < 2 or not inside:
        return [_line(f"INSIDE {len(inside)}" if inside else "INSIDE: nobody", "bold")][: max(0, lines)]
    has_delegates = width >= VERY_WIDE and any(each.delegate for each in inside)
    columns = (
        Column(f"INSIDE ({len(inside)})", cut=True),
        *([Column("DELEGATE", cut=True)] if has_delegates else []),
        Column("USER", NARROW, cut=True),
        Column("SERVICE", cut=True),
        Column("SOURCE", NARROW, cut=True),
        Column("SINCE", WIDE),
        Column("LEFT", right=True),
        Column("RISK", right=True),
    )
    fits = len(inside) if len(inside) < lines else lines - 2
    rows = []
    for each in inside[:fits]:
        name = f"{each.device}+{each.delegate}" if each.delegate and not has_delegates else each.device
        left = Text(length(each.left_ms), style="yellow" if each.left_ms < SHORT_MS else "green")
        shown = [name, *([each.delegate or "-"] if has_delegates else []), each.user or "-", each.service or "-"]
        rows.append([*map(_plain, (*shown, each.source, _since(each, now_ms))), left, _risk(each.risk)])
    more = len(inside) - fits
    return table(columns, rows, width) + ([_line(f"and {more} more: spa-server lease list", "dim")] if more else [])


def _refused(refusals: Sequence[Turned], now_ms: int, width: int, lines: int) -> list[Text]:
    columns = (
        Column("REFUSED"),
        Column("DEVICE", cut=True),
        Column("SOURCE", WIDE, cut=True),
        Column("REASON", cut=True),
    )
    rows = [
        [_plain(each) for each in (_clock(turned.time_ms, now_ms), turned.device, turned.source, turned.sentence)]
        for turned in refusals[: lines - 1]
    ]
    return table(columns, rows, width)


def _risk(risk: int | None) -> Text:
    if risk is None:
        return Text("-", style="dim")
    if risk >= TOO_MUCH:
        return Text(f"{risk} !", style="bold red")
    return Text(str(risk), style="yellow" if risk >= STEP_UP else "")


def _since(each: Inside, now_ms: int) -> str:
    if not each.since_ms:
        return "-"
    return ("before " if each.is_older else "") + _clock(each.since_ms, now_ms)


def _clock(time_ms: int, now_ms: int) -> str:
    """The time of day, or the date with it where it is not of today's last hours. UTC."""
    at = _at(time_ms)
    return f"{at:%H:%M:%S}" if abs(now_ms - time_ms) < _DAY_MS // 2 else f"{at:%m-%d %H:%M}"


def length(ms: int) -> str:
    """A length of time in its two largest units."""
    seconds = max(0, ms) // 1000
    for unit_s, name, next_s, next_name in ((86_400, "d", 3600, "h"), (3600, "h", 60, "m"), (60, "m", 1, "s")):
        if seconds >= unit_s:
            return f"{seconds // unit_s}{name} {seconds % unit_s // next_s:02d}{next_name}"
    return f"{seconds}s"


def _plain(text: str) -> Text:
    return Text(printable(text))


def _line(text: str, style: str = "") -> Text:
    return Text(printable(text), style=style, no_wrap=True, overflow="ellipsis")


def _at(time_ms: int) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(time_ms / 1000, datetime.UTC)
