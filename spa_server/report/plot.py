"""Plots as inline SVG: stacked bars and steps over time, bars by name; each with words for who cannot see it.

Colours are classes of the page's style, so that light, dark and paper each have their own; lines differ in their
dashes, too. What a place in a plot says stands in its <title>, which browsers show. It must not know what is counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from spa_server.report import axes
from spa_server.report import period as times
from spa_server.report.figures import Span
from spa_server.report.markup import Html, join, tag
from spa_server.report.period import Period

WIDTH, HEIGHT = 760, 250
_LEFT, _RIGHT, _TOP, _BOTTOM = 62, 26, 14, 42
_INNER_W, _INNER_H = WIDTH - _LEFT - _RIGHT, HEIGHT - _TOP - _BOTTOM
_ROW, _STRIP, _NAME_W, _COUNT_W = 26, 46, 230, 80
_STRIP_LEFT = 160
_STRIP_W = WIDTH - _STRIP_LEFT - _RIGHT


@dataclass(frozen=True, slots=True)
class _Frame:
    """Where in a plot the values are."""

    left: float
    width: float
    top: float
    height: float


_WHOLE = _Frame(_LEFT, _INNER_W, _TOP, _INNER_H)


@dataclass(frozen=True, slots=True)
class Series:
    """One kind of value in each step of the period; None where there is none. `mark`: its class in the style."""

    name: str
    mark: str
    values: Sequence[int | None]


@dataclass(frozen=True, slots=True)
class Words:
    """What a plot is called, and what stands along its upward axis."""

    ident: str
    title: str
    about: str
    upward: str


def bars_over_time(words: Words, period: Period, series: Sequence[Series], spans: Sequence[Span] = ()) -> Html:
    """Bars, one on top of the other in each step."""
    sums = [sum(each.values[step] or 0 for each in series) for step in range(period.steps)]
    top, marks = axes.up(axes.highest([sums]))
    width = _INNER_W / period.steps
    gap = min(1.5, width / 5)
    drawn = []
    for step in range(period.steps):
        below = 0
        for each in series:
            value = each.values[step] or 0
            if value:
                height = value / top * _INNER_H
                drawn.append(
                    tag(
                        "rect",
                        class_=each.mark,
                        x=_n(_LEFT + step * width + gap / 2),
                        y=_n(_TOP + _INNER_H - below / top * _INNER_H - height),
                        width=_n(width - gap),
                        height=_n(height),
                    )
                )
                below += value
    return _framed(words, period, marks, spans, join(*drawn), series)


def steps_over_time(
    words: Words,
    period: Period,
    series: Sequence[Series],
    spans: Sequence[Span] = (),
    *,
    most: int = 0,
    levels: Sequence[Series] = (),
) -> Html:
    """A line for each, level within a step; it breaks where there is no value.

    `most`: what the axis holds at least. `levels`: lines to compare with, which say nothing when pointed at.
    """
    top, marks = axes.up(max(most, axes.highest([each.values for each in series])))
    width = _INNER_W / period.steps
    drawn = []
    for each in (*levels, *series):
        path, joined = [], False
        for step, value in enumerate(each.values):
            if value is None:
                joined = False
                continue
            x, y = _LEFT + step * width, _TOP + _INNER_H * (1 - value / top)
            path.append(f"{'L' if joined else 'M'}{_n(x)} {_n(y)}H{_n(x + width)}")
            joined = True
        if path:
            drawn.append(tag("path", class_=f"line {each.mark}", d="".join(path)))
    return _framed(words, period, marks, spans, join(*drawn), series)


def strips_over_time(words: Words, period: Period, series: Sequence[Series], spans: Sequence[Span] = ()) -> Html:
    """A strip for each, one below the other and all on one scale, filled up to the value of each step."""
    top = max(1, axes.highest([each.values for each in series]))
    height = _TOP + len(series) * _STRIP + _BOTTOM
    bottom, width = height - _BOTTOM, _STRIP_W / period.steps
    frame = _Frame(_STRIP_LEFT, _STRIP_W, _TOP, bottom - _TOP)
    parts = [_away(period, span, frame) for span in spans] + _time_marks(period, frame)
    for number, each in enumerate(series):
        base = _TOP + (number + 1) * _STRIP
        path = [
            f"M{_n(_STRIP_LEFT + step * width)} {base}V{_n(base - value / top * (_STRIP - 12))}h{_n(width)}V{base}Z"
            for step, value in enumerate(each.values)
            if value
        ]
        parts += [
            tag("line", class_="grid", x1=_STRIP_LEFT, x2=WIDTH - _RIGHT, y1=base, y2=base),
            tag("text", _short(each.name, 22), class_="name", x=_STRIP_LEFT - 10, y=base - 5),
            tag("text", f"at most {axes.highest([each.values]):,}", class_="up", x=_STRIP_LEFT - 10, y=base - 20),
            tag("path", class_=each.mark, d="".join(path)),
        ]
    return _svg(words, height, join(*parts, _hits(period, series, frame)))


def bars_by_name(words: Words, rows: Sequence[tuple[str, int, str]], mark: str) -> Html:
    """A bar for each name, with its count; the third of a row is what the bar says when pointed at."""
    height = _ROW * len(rows) + 6
    most = max((count for _, count, _ in rows), default=1)
    room = WIDTH - _NAME_W - _COUNT_W
    drawn = []
    for number, (name, count, says) in enumerate(rows):
        y = number * _ROW + 3
        length = max(1.0, count / most * room)
        drawn += [
            tag(
                "g",
                tag("title", f"{name}: {count:,}. {says}"),
                tag("rect", class_="hit", x=0, y=y, width=WIDTH, height=_ROW),
                tag("text", _short(name), class_="name", x=_NAME_W - 10, y=y + 17),
                tag("rect", class_=mark, x=_NAME_W, y=y + 4, width=_n(length), height=_ROW - 8),
                tag("text", grouped(count), class_="count", x=_n(_NAME_W + length + 7), y=y + 17),
            )
        ]
    return _svg(words, height, join(*drawn))


def legend(series: Sequence[Series], spans: Sequence[Span] = ()) -> Html:
    """Which mark is which."""
    keys = [
        tag("li", tag("svg", tag("path", class_=f"line {each.mark}", d="M1 7H25"), **_key()), tag("bdi", each.name))
        if each.mark.startswith("l")
        else tag(
            "li",
            tag("svg", tag("rect", class_=each.mark, x=5, y=1, width=14, height=12), **_key()),
            tag("bdi", each.name),
        )
        for each in series
    ]
    if spans:
        away = tag("svg", tag("rect", class_="away", x=5, y=1, width=14, height=12), **_key())
        keys.append(tag("li", away, "no records: the server did not run, or they are not kept"))
    return tag("ul", *keys, class_="legend")


def grouped(number: int) -> str:
    """A number with its thousands set apart."""
    return f"{number:,}"


def step_name(period: Period, step: int) -> str:
    """From when to when a step goes."""
    begin = period.first_ms + step * period.step_ms
    end = begin + period.step_ms
    if period.step_ms % 86_400_000 == 0:
        return times.day(begin) if period.step_ms == 86_400_000 else f"{times.day(begin)} to {times.day(end - 1)}"
    return f"{times.minute(begin)} to {times.minute(end)[11:]}"


def _framed(
    words: Words,
    period: Period,
    marks: Sequence[axes.Mark],
    spans: Sequence[Span],
    drawn: Html,
    series: Sequence[Series],
) -> Html:
    bottom, right = _TOP + _INNER_H, _LEFT + _INNER_W
    parts = [_away(period, span, _WHOLE) for span in spans]
    for mark in marks:
        y = bottom - mark.place * _INNER_H
        parts += [
            tag("line", class_="grid", x1=_LEFT, x2=right, y1=_n(y), y2=_n(y)),
            tag("text", mark.text, class_="up", x=_LEFT - 8, y=_n(y + 4)),
        ]
    turned = f"translate(13 {_n(_TOP + _INNER_H / 2)}) rotate(-90)"
    parts += [*_time_marks(period, _WHOLE), tag("text", words.upward, class_="title", transform=turned)]
    return _svg(words, HEIGHT, join(*parts, drawn, _hits(period, series, _WHOLE)))


def _time_marks(period: Period, frame: _Frame) -> list[Html]:
    bottom = frame.top + frame.height
    parts = [tag("line", class_="axis", x1=frame.left, x2=_n(frame.left + frame.width), y1=bottom, y2=bottom)]
    for mark in axes.along(period):
        x = _n(frame.left + mark.place * frame.width)
        parts += [
            tag("line", class_="tick", x1=x, x2=x, y1=bottom, y2=bottom + 5),
            tag("text", mark.text, class_="along", x=x, y=bottom + 19),
        ]
    return [*parts, tag("text", "UTC", class_="title", x=_n(frame.left + frame.width / 2), y=bottom + _BOTTOM - 4)]


def _hits(period: Period, series: Sequence[Series], frame: _Frame) -> Html:
    """Over each step that has something to say, a place to point at."""
    width = frame.width / period.steps
    found = []
    for step in range(period.steps):
        said = [f"{each.name} {value:,}" for each in series if (value := each.values[step]) is not None]
        if any(each.values[step] for each in series):
            title = tag("title", f"{step_name(period, step)}: {', '.join(said)}")
            where = {"x": _n(frame.left + step * width), "y": frame.top, "width": _n(width), "height": frame.height}
            found.append(tag("rect", title, class_="hit", **where))
    return join(*found)


def _away(period: Period, span: Span, frame: _Frame) -> Html:
    whole = period.steps * period.step_ms
    begin = max(0.0, (span.since_ms - period.first_ms) / whole)
    end = min(1.0, (span.until_ms - period.first_ms) / whole)
    title = tag("title", f"{times.second(span.since_ms)} to {times.second(span.until_ms)}: {span.why}")
    where = {"x": _n(frame.left + begin * frame.width), "width": _n(max(0.8, (end - begin) * frame.width))}
    return tag("rect", title, class_="away", y=frame.top, height=frame.height, **where)


def _short(name: str, most: int = 32) -> str:
    return name if len(name) <= most else f"{name[: most - 1]}…"


def _svg(words: Words, height: int, inner: Html) -> Html:
    title, about = f"{words.ident}-title", f"{words.ident}-about"
    return tag(
        "svg",
        tag("title", words.title, id=title),
        tag("desc", words.about, id=about),
        inner,
        role="img",
        aria_labelledby=f"{title} {about}",
        viewBox=f"0 0 {WIDTH} {height}",
        class_="plot",
    )


def _key() -> dict[str, object]:
    return {"viewBox": "0 0 26 14", "class_": "key", "aria_hidden": "true"}


def _n(number: float) -> str:
    return f"{number:.2f}".rstrip("0").rstrip(".")
