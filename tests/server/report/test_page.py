"""The page: well-formed whatever a record holds, in need of nothing else, and with the very numbers of the records."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spa_server.report.figures import LEAD_MS, Figures
from spa_server.report.page import About, page
from spa_server.report.period import Period
from spa_server.tell import event_types
from spa_server.tell.events import Event, Outcome
from spa_server.tell.reading import Trail
from tests.server.report import trails
from tests.server.report.reader import Element, read
from tests.server.report.trails import DAY_MS, HOUR_MS, ROOT, START_MS, knock, write

WEEK = Period(START_MS, START_MS + 7 * DAY_MS)
EVIL = (
    "</title></style><script>alert(1)</script><img src=x onerror=\"alert('2')\">&amp;`"
    "\N{RIGHT-TO-LEFT OVERRIDE}\x00\x1b[31m"
)


def made(path: Path, period: Period = WEEK) -> tuple[str, Figures]:
    trail, figures = Trail(path), Figures(period)
    oldest = trail.oldest()
    figures.take(trail.records(period.since_ms - LEAD_MS, period.until_ms))
    figures.finish()
    return page(figures, About("gw.example.org", str(path), period.until_ms, trail.passed, oldest)), figures


def section(html: Element, title: str) -> Element:
    """The figure or section under that heading."""
    for each in html.all("figure") + html.all("section"):
        if any(head.text() == title for head in each.all("h2")):
            return each
    raise AssertionError(f"there is no {title!r}")


def rows(table: Element) -> list[list[str]]:
    return [[cell.text() for cell in row.all("td")] for row in table.all("tbody")[0].all("tr")]


def number(text: str) -> int:
    return int(text.replace(",", "") or "0")


@pytest.fixture
def trail(tmp_path: Path) -> Path:
    return tmp_path / "audit.jsonl"


def test_the_plots_and_tables_hold_the_numbers_of_the_records(trail: Path) -> None:
    trail.write_bytes(b"".join(trails.month(3000, days=7)))
    text, _ = made(trail)
    html = read(text)
    counts: Counter[tuple[str, str]] = Counter()
    users: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    services: Counter[str] = Counter()
    for told in map(json.loads, trail.read_bytes().splitlines()):
        action = told["event"]["action"]
        if action in ("granted", "refused"):
            step_ms = WEEK.step_ms
            assert step_ms == 2 * HOUR_MS
            hour = int(told["@timestamp"][11:13]) // 2 * 2
            counts[f"{told['@timestamp'][:10]} {hour:02}:00", action] += 1
            users[told["user"]["name"], action] += 1  # type: ignore[index]
        if action == "refused":
            reasons[told["event"]["reason"].replace("_", " ")] += 1
        if action == "granted":
            services.update(each["name"] for each in told["spa"]["services"])
    knocks = section(html, "Knocks over time")
    shown = {(row[0][:16], "granted"): number(row[1]) for row in rows(knocks.all("table")[0])}
    shown |= {(row[0][:16], "refused"): number(row[2]) for row in rows(knocks.all("table")[0])}
    assert {key: count for key, count in shown.items() if count} == counts
    pointed = [each.text() for each in knocks.all("svg")[0].all("rect") if each.attributes["class"] == "hit"]
    assert sum(number(re.findall(r"granted ([\d,]+)", each)[0]) for each in pointed) == sum(
        count for (_, action), count in counts.items() if action == "granted"
    )
    bars = section(html, "Refusals by reason").all("g")
    assert {bar.all("text")[0].text(): number(bar.all("text")[1].text()) for bar in bars} == reasons
    leases = section(html, "Leases open, by service").all("table")[0]
    assert {row[0]: number(row[1]) for row in rows(leases)} == services
    people = rows(section(html, "Users").all("table")[0])
    assert len(people) == 15
    for name, granted, refused, _ in people:
        assert (number(granted), number(refused)) == (
            users[name, "granted"],  # type: ignore[index]
            users[name, "refused"],  # type: ignore[index]
        )


def test_bars_are_as_high_as_their_counts(trail: Path) -> None:
    write(
        trail,
        *((knock(), START_MS + 60_000 * number) for number in range(30)),
        *((knock(reason="stale"), START_MS + DAY_MS + number) for number in range(10)),
    )
    knocks = section(read(made(trail)[0]), "Knocks over time").all("svg")[0]
    high = {
        kind: [float(each.attributes["height"]) for each in knocks.all("rect") if each.attributes["class"] == kind]
        for kind in ("granted", "refused")
    }
    assert [len(each) for each in high.values()] == [1, 1]
    assert high["granted"][0] == pytest.approx(3 * high["refused"][0], rel=0.01)


def test_the_risk_is_the_median_and_the_highest_of_each_step(trail: Path) -> None:
    scores = [3, 3, 5, 40, 90]
    write(
        trail,
        *((knock(), START_MS + 1000 * number, score) for number, score in enumerate(scores)),
        (knock(), START_MS + DAY_MS),
    )
    risk = section(read(made(trail)[0]), "Session risk over time")
    assert rows(risk.all("table")[0]) == [["2026-03-01 00:00 to 02:00", "90", "5"]]


@pytest.mark.parametrize("where", ["device", "user", "delegate", "reason", "about", "message", "session"])
def test_no_text_of_a_record_becomes_markup(trail: Path, where: str) -> None:
    told: dict[str, Any] = {where: EVIL}
    refused = replace(knock(reason="stale"), **told)
    edit = replace(
        Event(event_types.INVITED, "an invite", Outcome.FAILURE, actor=ROOT), **({} if where == "reason" else told)
    )
    alert = replace(Event(event_types.PERIMETER_TAMPERED, "somebody"), **({} if where == "reason" else told))
    granted = replace(knock(services=((EVIL, 30),)), **({} if where == "reason" else told))
    write(trail, *((each, START_MS + 1000) for each in (refused, edit, alert, granted)))
    text, _ = made(trail)
    html = read(text)
    assert {each.name for each in html.everything()} <= {
        "head", "meta", "title", "style", "body", "header", "h1", "p", "main", "dl", "div", "dt", "dd", "span", "ul",
        "li", "figure", "figcaption", "h2", "svg", "desc", "line", "text", "rect", "path", "g", "bdi", "details",
        "summary", "table", "caption", "thead", "tbody", "tr", "th", "td", "section", "footer",
    }  # fmt: skip
    assert not [name for each in html.everything() for name in each.attributes if name.startswith("on")]
    assert "alert(1)" in html.text()
    assert text.replace("\n", "").isprintable()


ODD = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=40),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=5,
)
PARTS = st.fixed_dictionaries(
    {},
    optional={
        "event": st.fixed_dictionaries(
            {
                "action": st.sampled_from(["granted", "refused", "closed", "revoked", "started", "stopped", "granting"])
                | ODD
            },
            optional=dict.fromkeys(("reason", "outcome", "category", "type", "kind", "risk_score"), ODD),
        ),
        "spa": st.fixed_dictionaries(
            {},
            optional={
                "services": st.lists(
                    st.fixed_dictionaries({"name": st.text(max_size=20), "seconds": st.integers()}), max_size=3
                )
                | ODD,
                "about": ODD,
                "delegate": ODD,
            },
        ),
        **dict.fromkeys(("user", "device", "source", "message", "hash", "prev", "signature"), ODD),
    },
)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(
    st.lists(st.tuples(PARTS, st.integers(-DAY_MS, 8 * DAY_MS), st.integers(0, 50)), max_size=12),
    st.binary(max_size=30),
)
def test_whatever_a_trail_holds_the_page_is_well_formed(
    trail: Path, told: list[tuple[dict[str, Any], int, int]], noise: bytes
) -> None:
    stamp = "2026-03-{:02}T{:02}:{:02}:00.000Z"
    lines = []
    for parts, at_ms, seq in told:
        minute = max(0, at_ms) // 60_000
        lines.append(
            json.dumps(
                {**parts, "seq": seq, "@timestamp": stamp.format(1 + minute // 1440, minute // 60 % 24, minute % 60)}
            ).encode()
        )
    trail.write_bytes(b"\n".join([*lines, noise]))
    read(made(trail)[0])


def test_it_needs_nothing_from_anywhere_and_says_so_to_the_browser(trail: Path) -> None:
    trail.write_bytes(b"".join(trails.month(300, days=7)))
    text, _ = made(trail)
    html = read(text)
    assert re.findall(r"(?:https?:)?//[^\s]|url\(|@import|src=|href=|javascript:", text) == []
    assert not html.all("script")
    assert not [each for each in html.everything() if "style" in each.attributes]
    policy = next(
        each.attributes["content"]
        for each in html.all("meta")
        if each.attributes.get("http-equiv") == "Content-Security-Policy"
    )
    style = html.all("style")[0].text()
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert policy == f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"


def test_each_picture_has_words_for_who_cannot_see_it(trail: Path) -> None:
    trail.write_bytes(b"".join(trails.month(300, days=7)))
    html = read(made(trail)[0])
    plots = [each for each in html.all("svg") if each.attributes.get("class") == "plot"]
    assert len(plots) == 4
    idents = [each.attributes["id"] for each in html.everything() if "id" in each.attributes]
    assert len(idents) == len(set(idents))
    for plot in plots:
        assert plot.attributes["role"] == "img"
        assert set(plot.attributes["aria-labelledby"].split()) <= set(idents)
        assert plot.all("title")[0].text()
        assert plot.all("desc")[0].text()
    assert html.attributes["lang"] == "en"
    for table in html.all("table"):
        assert all(head.attributes.get("scope") == "col" for head in table.all("th"))


def test_an_empty_period_says_that_it_is_empty(trail: Path) -> None:
    write(trail, (knock(), START_MS - 40 * DAY_MS))
    text = read(made(trail)[0]).text()
    for said in ("There is no record in this period.", "Nobody knocked in this period.", "No lease was open"):
        assert said in text


def test_a_trail_that_is_not_there_says_so(trail: Path) -> None:
    assert "The trail holds no record at all." in read(made(trail)[0]).text()


def test_one_record_is_enough(trail: Path) -> None:
    write(trail, (knock(), START_MS + DAY_MS, 12))
    html = read(made(trail)[0])
    assert rows(section(html, "Users").all("table")[0]) == [["alice", "1", "0", "2026-03-02 00:00:00"]]
    assert "number 1, 2026-03-02 00:00:00: granted" in html.text()


def test_what_is_missing_is_said(trail: Path) -> None:
    lines = [trails.line(seq, knock(), START_MS + seq) for seq in (4, 5, 9)]
    trail.write_bytes(lines[0] + b"what is this\n" + lines[1] + lines[2])
    text = read(made(trail)[0]).text()
    assert "3 records missing, once in a row" in text
    assert "1 line could not be read" in text
    assert "Records from before 2026-03-01 00:00:00 are not kept" in text


def test_times_without_the_server_are_shown_and_told(trail: Path) -> None:
    started, stopped = Event(event_types.STARTED, "ready"), Event(event_types.STOPPED, "ends")
    write(
        trail,
        (started, START_MS),
        (knock(), START_MS + HOUR_MS),
        (stopped, START_MS + DAY_MS),
        (started, START_MS + 2 * DAY_MS),
        (knock(), START_MS + 2 * DAY_MS + HOUR_MS),
        (started, START_MS + 3 * DAY_MS),
        (stopped, START_MS + 6 * DAY_MS),
    )
    html = read(made(trail)[0])
    assert "3 times the server did not run" in html.text()
    knocks = section(html, "Knocks over time").all("svg")[0]
    away = [each.text() for each in knocks.all("rect") if each.attributes["class"] == "away"]
    assert away == [
        "2026-03-02 00:00:00 to 2026-03-03 00:00:00: the server was stopped",
        "2026-03-03 01:00:00 to 2026-03-04 00:00:00: the server ended at some time here without saying so",
        "2026-03-07 00:00:00 to 2026-03-08 00:00:00: the server was stopped",
    ]


@pytest.mark.parametrize(("first", "times"), [(700, 1), (1, 0)])
def test_a_start_tells_that_the_server_had_not_run_before_unless_it_is_the_first(
    trail: Path, first: int, times: int
) -> None:
    write(trail, (Event(event_types.STARTED, "ready"), START_MS + 2 * DAY_MS), first=first)
    _, figures = made(trail)
    assert [(span.since_ms, span.until_ms) for span in figures.away] == [(START_MS, START_MS + 2 * DAY_MS)] * times


def test_a_clock_that_was_set_back_is_told_and_harms_no_count(trail: Path) -> None:
    times = (START_MS + 5 * DAY_MS, START_MS + DAY_MS, START_MS + DAY_MS + 1000)
    write(trail, *((knock(), at_ms) for at_ms in times))
    text, figures = made(trail)
    assert "Once the time goes back" in read(text).text()
    assert figures.knocks_granted == 3


def test_a_grant_of_which_nothing_more_is_said_is_counted(trail: Path) -> None:
    about_to = replace(knock(session="s1"), type=event_types.GRANTING, outcome=Outcome.UNKNOWN)
    write(
        trail,
        (about_to, START_MS),
        (knock(session="s1"), START_MS + 1),
        (replace(about_to, session="s2"), START_MS + 2),
    )
    _, figures = made(trail)
    assert figures.unanswered == 1


def test_commands_are_listed_with_who_ran_them_and_what_came_of_it(trail: Path) -> None:
    invited = Event(event_types.INVITED, "invite bob-laptop", Outcome.UNKNOWN, actor=ROOT, session="a")
    write(
        trail,
        (invited, START_MS),
        (replace(invited, outcome=Outcome.FAILURE, about="there is one"), START_MS + 1),
        (Event(event_types.RELOADED, "reloaded"), START_MS + 2),
    )
    html = read(made(trail)[0])
    assert rows(section(html, "Commands of operators").all("table")[0]) == [
        ["2026-03-01 00:00:00", "erin", "invited", "invite bob-laptop", "failure: there is one"]
    ]
    assert [row[1] for row in rows(section(html, "What happened to the server").all("table")[0])] == ["reloaded"]


def told_of(path: Path, event: Event, at_ms: int, seq: int, own: dict[str, object]) -> None:
    """Append a record with further fields of our own, as other versions of the server write them."""
    told = json.loads(trails.line(seq, event, at_ms))
    told["spa"] = {**told.get("spa", {}), **own}
    with path.open("ab") as file:
        file.write(json.dumps(told).encode() + b"\n")


def test_refusals_that_one_record_sums_are_all_counted(trail: Path) -> None:
    summed = replace(knock(), type=replace(event_types.REFUSED, name="refusals-summed"), source=None, services=())
    write(trail, (knock(reason="stale"), START_MS))
    told_of(trail, summed, START_MS + 60_000, 2, {"count": 70, "about": "stale 60, code_wrong 10"})
    told_of(trail, summed, START_MS + 90_000, 3, {"count": 5, "about": "stale 60, code_wrong 10"})
    text, figures = made(trail)
    assert figures.knocks_refused == 76
    assert figures.reasons == {"stale": 61, "code_wrong": 10, "(summed)": 5}
    assert rows(section(read(text), "Devices").all("table")[0])[0][:3] == ["alice-laptop", "0", "76"]


def test_checkpoints_are_counted_and_the_last_one_is_named(trail: Path) -> None:
    signed = Event(replace(event_types.TRAIL_REPAIRED, name="checkpoint"), "signed")
    write(trail, (knock(), START_MS))
    for seq in (2, 3):
        told_of(trail, signed, START_MS + 60_000 * seq, seq, {"checkpoint": {"seq": seq, "signature": "00"}})
    html = read(made(trail)[0])
    assert "2, the last one record 3 of 2026-03-01 00:03:00" in section(html, "The records").text()
    assert "None." in section(html, "What happened to the server").text()


def test_names_beyond_number_do_not_fill_the_memory(trail: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("spa_server.report.figures.MOST_NAMES", 10)
    write(
        trail,
        *((knock(source=f"2001:db8::{number:x}"), START_MS + number) for number in range(1, 200)),
        *((knock(), START_MS + 1000 + number) for number in range(5)),
    )
    text, figures = made(trail)
    assert len(figures.sources.of) <= 10
    assert rows(section(read(text), "Sources").all("table")[0])[0][:2] == ["192.0.2.7", "5"]
    assert "over " in section(read(text), "Sources").text()
