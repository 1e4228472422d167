"""The report as one page of HTML that needs nothing else: no script, no font, no picture from anywhere.

Figures in, text out. What the figures cannot say (times without records, lines that are damaged) stands before them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from spa_protocol.refusal import Refusal
from spa_server.report import period as times
from spa_server.report.axes import highest
from spa_server.report.figures import Figures, Risk, Span
from spa_server.report.markup import Html, join, tag
from spa_server.report.plot import (
    Series,
    Words,
    bars_by_name,
    bars_over_time,
    grouped,
    legend,
    step_name,
    steps_over_time,
    strips_over_time,
)
from spa_server.report.style import CSS, SECURITY
from spa_server.report.tables import MOST_ROWS, counted, edits, happenings, section, table, who_knocked
from spa_server.tell.reading import Passed, Record

MOST_STRIPS = 8
"""Services with a strip of their own; the others share the last."""
STEP_UP, TOO_MUCH = 30, 60
"""Where the risk asks for a second factor, and where it refuses, unless configured otherwise."""


@dataclass(frozen=True, slots=True)
class About:
    """What the report is of: the host's own names, the file, when it was made, and what reading it met."""

    host: str
    trail: str
    made_ms: int
    passed: Passed
    oldest: Record | None


def page(figures: Figures, about: About) -> str:
    """The whole file."""
    period = figures.period
    spans = _spans(figures, about)
    title = f"Perimeter report: {about.host}"
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=SECURITY),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("meta", name="referrer", content="no-referrer"),
        tag("title", title),
        tag("style", Html(CSS)),
    )
    header = tag(
        "header",
        tag("h1", title),
        tag("p", f"{times.minute(period.since_ms)} to {times.minute(period.until_ms)} UTC"),
        tag("p", f"In steps of {times.length(period.step_ms)}. {_read(figures, about)}", class_="quiet"),
    )
    main = tag(
        "main",
        _tiles(figures),
        _notes(figures, about),
        _knocks(figures, spans),
        _reasons(figures),
        _leases(figures, spans),
        _risk(figures, spans),
        *who_knocked(figures),
        edits(figures),
        happenings(figures),
        _records(figures, about),
    )
    foot = tag("footer", tag("p", f"Made {times.second(about.made_ms)} UTC by spa-server report from {about.trail}."))
    return f"<!doctype html>\n{tag('html', head, tag('body', header, main, foot), lang='en')}\n"


def _read(figures: Figures, about: About) -> str:
    return f"{_many(figures.records, 'record')} from {_many(about.passed.files, 'file')}."


def _spans(figures: Figures, about: About) -> list[Span]:
    spans = list(figures.away)
    oldest_ms = figures.period.until_ms if about.oldest is None else about.oldest.time_ms
    if oldest_ms > figures.period.since_ms:
        end_ms = min(oldest_ms, figures.period.until_ms)
        spans.insert(0, Span(figures.period.since_ms, end_ms, "no record of this time is kept"))
    return spans


def _tiles(figures: Figures) -> Html:
    risks = [score for each in figures.risk.values() if (score := each.most()) is not None]
    knocks = figures.knocks_granted + figures.knocks_refused
    share = f"{100 * figures.knocks_refused / knocks:.1f} % of knocks" if knocks else ""
    tiles = (
        ("Knocks granted", grouped(figures.knocks_granted), "renewals among them"),
        ("Knocks refused", grouped(figures.knocks_refused), share),
        ("Users", counted(figures.users), "who knocked"),
        (
            "Devices",
            counted(figures.devices),
            f"{grouped(figures.enrolled)} enrolled, {grouped(figures.enrolments_refused)} refused",
        ),
        (
            "Most leases at once",
            grouped(figures.leases.most),
            f"{grouped(figures.closed)} given back, {grouped(figures.revoked)} ended",
        ),
        ("Highest risk", str(max(risks)) if risks else "none", "of 100" if risks else "no record has a score"),
        ("Commands", grouped(figures.edits_in_all), "that change or show something secret"),
        ("Alerts", grouped(figures.alerts), "faults and what others changed"),
    )
    return tag(
        "dl",
        *(
            tag("div", tag("dt", name), tag("dd", value, tag("span", note, class_="note")))
            for name, value, note in tiles
        ),
        class_="tiles",
    )


def _notes(figures: Figures, about: About) -> Html:
    """What there is to know of the records before one trusts the figures."""
    passed, notes = about.passed, []
    if about.oldest is None:
        notes.append("The trail holds no record at all.")
    elif about.oldest.time_ms > figures.period.since_ms:
        begins = times.second(about.oldest.time_ms)
        if about.oldest.seq <= 1:
            notes.append(f"The trail begins within the period, at {begins}.")
        else:
            notes.append(f"Records from before {begins} are not kept, so what happened until then is not counted here.")
    elif not figures.records:
        notes.append("There is no record in this period.")
    if figures.away:
        notes.append(f"{_times(len(figures.away)).capitalize()} the server did not run; the plots show when, in grey.")
    if passed.gaps:
        missing = f"{_many(passed.missing, 'record')} missing, {_times(passed.gaps)} in a row"
        notes.append(f"{missing}: their numbers are left out. What they told is not counted here.")
    if passed.repeated:
        notes.append(f"{_times(passed.repeated).capitalize()} a record's number comes again, or goes back.")
    if passed.damaged:
        notes.append(f"{_many(passed.damaged, 'line')} could not be read, and what they told is not counted here.")
    if figures.set_back:
        notes.append(
            f"{_times(figures.set_back).capitalize()} the time goes back: the clock was set, or several wrote at once."
            " Records count where their own time puts them."
        )
    if figures.unanswered:
        about_to = _many(figures.unanswered, "grant or enrolment", "grants or enrolments")
        notes.append(f"{about_to} about to be made: no second record says what came of it.")
    if not notes:
        return tag("p", "No record of this period is missing or damaged, as far as their numbers tell.", class_="quiet")
    return tag("ul", *(tag("li", note) for note in notes), class_="notes")


def _knocks(figures: Figures, spans: Sequence[Span]) -> Html:
    series = [Series("granted", "granted", figures.granted), Series("refused", "refused", figures.refused)]
    step = times.length(figures.period.step_ms)
    words = Words(
        "knocks",
        "Knocks over time",
        f"{grouped(figures.knocks_granted)} granted and {grouped(figures.knocks_refused)} refused, in steps of {step}.",
        f"knocks in {step}",
    )
    if not figures.knocks_granted + figures.knocks_refused:
        return _nothing(words, "Nobody knocked in this period.")
    plot = bars_over_time(words, figures.period, series, spans)
    return _figure(words, join(plot, legend(series, spans), _numbers(figures, series)))


def _reasons(figures: Figures) -> Html:
    rows = [(reason.replace("_", " "), count, _means(reason)) for reason, count in figures.reasons.most_common(20)]
    rest = sum(figures.reasons.values()) - sum(count for _, count, _ in rows)
    if rest:
        rows.append(("other reasons", rest, ""))
    words = Words("reasons", "Refusals by reason", "; ".join(f"{name} {count}" for name, count, _ in rows) + ".", "")
    if not rows:
        return _nothing(words, "Nobody who passed the gate was refused in this period.")
    meanings = tag("ul", *(tag("li", f"{name}: {says}") for name, _, says in rows if says))
    explained = tag("details", tag("summary", "What the reasons mean"), meanings)
    return _figure(words, join(bars_by_name(words, rows, "refused"), explained))


def _leases(figures: Figures, spans: Sequence[Span]) -> Html:
    peaks = figures.leases.peaks
    names = sorted(peaks, key=lambda name: (-figures.services[name], name))
    alone = names if len(names) <= MOST_STRIPS else names[: MOST_STRIPS - 1]
    series = [Series(name, "granted", peaks[name]) for name in alone]
    others = names[len(alone) :]
    if others:
        most = [max(peaks[name][step] for name in others) for step in range(figures.period.steps)]
        series.append(Series(f"the most of {len(others)} others", "granted", most))
    words = Words(
        "leases",
        "Leases open, by service",
        "; ".join(f"{each.name}: at most {highest([each.values])}" for each in series) + ".",
        "",
    )
    if not series:
        return _nothing(words, "No lease was open in this period.")
    rows = [(name, figures.services[name], max(peaks[name])) for name in names[:MOST_ROWS]]
    granted = table("Grants and renewals", ("Service", "#Granted or renewed", "#Most open at once"), rows)
    plot = strips_over_time(words, figures.period, series, spans)
    note = tag("p", "The most that were open at once in each step, all on one scale.", class_="quiet")
    return _figure(words, join(note, plot, legend([], spans), granted, _numbers(figures, series)))


def _risk(figures: Figures, spans: Sequence[Span]) -> Html:
    steps = range(figures.period.steps)
    none = Risk()
    median = [figures.risk.get(step, none).median() for step in steps]
    most = [figures.risk.get(step, none).most() for step in steps]
    series = [Series("highest", "l2", most), Series("median", "l1", median)]
    words = Words(
        "risk",
        "Session risk over time",
        f"Median and highest score of the knocks in each step; the highest of all is {highest([most])}.",
        "score, 0 to 100",
    )
    if not figures.risk:
        return _nothing(words, "No record of this period has a risk score.")
    levels = [
        Series(f"second factor from {STEP_UP}, refused from {TOO_MUCH}, by default", "lq", [STEP_UP] * len(steps)),
        Series("", "lq", [TOO_MUCH] * len(steps)),
    ]
    plot = steps_over_time(words, figures.period, series, spans, most=100, levels=levels)
    return _figure(words, join(plot, legend([*series, levels[0]], spans), _numbers(figures, series)))


def _records(figures: Figures, about: About) -> Html:
    passed, rows = about.passed, []
    for name, record in (("First record", figures.first), ("Last record", figures.last)):
        if record is not None:
            said = f"number {record.seq}, {times.second(record.time_ms)}: {record.action}"
            rows.append((name, said))
    rows += [
        ("Records", grouped(figures.records)),
        ("Missing", f"{grouped(passed.missing)}" + (f", {_times(passed.gaps)} in a row" if passed.gaps else "")),
        ("Damaged lines", grouped(passed.damaged)),
    ]
    if figures.last_checkpoint is not None:
        last = figures.last_checkpoint
        said = f"{grouped(figures.checkpoints)}, the last one record {last.seq} of {times.second(last.time_ms)}"
        rows.append(("Signed checkpoints", said))
    note = tag("p", "This report counts records; it does not verify that none was altered.", class_="quiet")
    return section("The records", join(table("", ("What", "Is"), rows), note))


def _many(number: int, one: str, several: str = "") -> str:
    return f"{grouped(number)} {one if number == 1 else several or one + 's'}"


def _times(number: int) -> str:
    return "once" if number == 1 else f"{grouped(number)} times"


def _means(reason: str) -> str:
    try:
        return Refusal[reason.upper()].template.replace("{about}", "…").replace("{skew}", "…")
    except KeyError:
        return ""


def _numbers(figures: Figures, series: Sequence[Series]) -> Html:
    """The numbers behind a plot, for who cannot see it or wants them."""
    rows = [
        (step_name(figures.period, step), *("" if (value := each.values[step]) is None else value for each in series))
        for step in range(figures.period.steps)
        if any(each.values[step] for each in series)
    ]
    shown = table("Steps without any are left out", ("Time (UTC)", *(f"#{each.name}" for each in series)), rows)
    return tag("details", tag("summary", "The numbers"), shown)


def _figure(words: Words, inner: Html) -> Html:
    return tag("figure", tag("figcaption", tag("h2", words.title)), inner)


def _nothing(words: Words, said: str) -> Html:
    return section(words.title, tag("p", said, class_="empty"))
