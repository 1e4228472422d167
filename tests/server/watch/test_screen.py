"""What stands on the terminal: all that fits, what matters first, and nothing that a name could make it do."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from spa_server.watch.snapshot import Counted, Inside, Rates, Turned
from tests.server.watch.shown import ALICE, BOB, NOW_MS, STALE, shown, snapshot

EVIL = "\x1b]0;owned\x07\x1b[2J\r\n[bold red]x[/]\N{RIGHT-TO-LEFT OVERRIDE}"
TEXTS = st.text(max_size=60)
PEOPLE = st.lists(
    st.builds(
        Inside, TEXTS, TEXTS, TEXTS, TEXTS, TEXTS, st.integers(0, 10**13), st.integers(0, 4 * 10**12), st.booleans(),
        st.none() | st.integers(0, 100),
    ),
    max_size=30,
)  # fmt: skip


def test_who_is_inside_is_told_whole() -> None:
    lines = shown(snapshot())
    alice = next(line for line in lines if line.startswith("alice-laptop"))
    assert alice.split() == ["alice-laptop", "-", "alice", "web", "192.0.2.7", "11:59:00", "28s", "12"]
    bob = next(line for line in lines if line.startswith("bob-laptop"))
    assert bob.split() == ["bob-laptop", "ci", "bob", "ssh", "2001:db8::7", "before", "11:00:00", "4s", "62", "!"]


def test_refusals_faults_processes_and_counters_are_told() -> None:
    text = "\n".join(shown(snapshot(faults=("audit trail: the disk is full",))))
    for said in (
        "perimeter closed  server running 1h 02m",
        "network process 812, firewall process 790",
        "! audit trail: the disk is full",
        "knocks  granted 20, stale 3",
        "11:59:55  carol-laptop  192.0.2.9  stale by 71 s: set its clock",
    ):
        assert said in text
    assert next(line for line in text.splitlines() if "packets to web" in line).split()[3:] == ["400", "-", "2", "-"]


@pytest.mark.parametrize(
    ("width", "height", "said", "unsaid"),
    [
        (80, 24, ("bob-laptop+ci", "192.0.2.7", "INSIDE (2)", "REFUSED", "packets to ssh"), ("DELEGATE",)),
        (40, 10, ("alice-laptop", "web", "28s", "12", "gate  25 in", "perimeter closed"), ("192.0.2.7", "SINCE")),
    ],
)
def test_a_small_terminal_has_what_matters_most(
    width: int, height: int, said: tuple[str, ...], unsaid: tuple[str, ...]
) -> None:
    text = "\n".join(shown(snapshot(), width, height))
    assert not [each for each in said if each not in text]
    assert not [each for each in unsaid if each in text]


def test_those_for_whom_there_is_no_room_are_counted() -> None:
    many = tuple(replace(ALICE, device=f"device-{number:02}") for number in range(50))
    lines = shown(snapshot(inside=many), 80, 24)
    there = [line for line in lines if line.startswith("device-")]
    assert f"and {50 - len(there)} more: spa-server lease list" in lines
    assert "INSIDE (50)" in "\n".join(lines)
    assert any("carol-laptop" in line for line in lines)


@given(PEOPLE, st.lists(st.builds(Turned, st.integers(0, 4 * 10**12), TEXTS, TEXTS, TEXTS), max_size=10), TEXTS,
       st.integers(1, 200), st.integers(1, 60))  # fmt: skip
def test_it_never_takes_more_room_than_there_is(
    inside: list[Inside], refusals: list[Turned], said: str, width: int, height: int
) -> None:
    told = snapshot(inside=tuple(inside), refusals=tuple(refusals), faults=(said,), missing=(said,), processes=(said,))
    lines = shown(told, width, height)
    assert len(lines) <= height
    assert all(cell_len(line) <= width for line in lines)
    assert all(line.isprintable() for line in lines)


def test_a_name_is_shown_and_not_obeyed() -> None:
    told = snapshot(
        inside=(replace(ALICE, device=EVIL, user=EVIL, source=EVIL),),
        refusals=(replace(STALE, device=EVIL, sentence=EVIL),),
        faults=(EVIL,),
        missing=(EVIL,),
        doors=(Counted(EVIL, 1, 1),),
    )
    lines = shown(told, 400, 60)
    assert all(line.isprintable() for line in lines)
    assert "[bold red]x[/]" in "\n".join(lines)


def test_nobody_inside_is_said() -> None:
    assert "INSIDE: nobody" in shown(snapshot(inside=()))


def test_what_may_not_be_seen_is_said_and_not_shown_as_nothing() -> None:
    text = "\n".join(shown(snapshot(inside=None, refusals=None, missing=("who is inside: for root",))))
    assert "not shown: who is inside: for root" in text
    assert "INSIDE" not in text
    assert "REFUSED" not in text


def test_a_server_that_does_not_run_and_a_perimeter_that_is_down_stand_out() -> None:
    text = "\n".join(shown(snapshot(is_running=False, perimeter=False, processes=(), doors=(), results={})))
    assert "perimeter NOT UP  server NOT RUNNING" in text
    assert "perimeter not known" in "\n".join(shown(snapshot(perimeter=None)))


def test_without_colours_there_is_not_one_escape_and_what_is_wrong_has_a_mark() -> None:
    text = "\n".join(shown(snapshot(faults=("the disk is full",))))
    assert "\x1b" not in text
    assert "! the disk is full" in text
    assert "62 !" in text
    assert "\x1b[" in "\n".join(shown(snapshot(), colours=True))


def rated(*told: tuple[float, int, int]) -> tuple[float, float] | None:
    rates = Rates()
    for at_s, admitted, dropped in told:
        rates.note(snapshot(monotonic_s=at_s, doors=(Counted("", admitted, dropped),)))
    return rates.of("")


def test_rates_are_of_the_last_ten_seconds() -> None:
    assert rated((0, 0, 0)) is None
    assert rated((0, 0, 0), (2, 10, 40)) == (5, 20)
    assert rated(*((at_s, at_s * at_s, 0) for at_s in range(31))) == (50, 0)


def test_counts_that_begin_anew_have_no_rate() -> None:
    assert rated((0, 100, 100), (1, 3, 3)) is None
    rates = Rates()
    rates.note(snapshot())
    rates.note(snapshot(monotonic_s=101.0, doors=()))
    assert rates.of("") is None


def test_rates_are_shown() -> None:
    rates = Rates()
    rates.note(snapshot(monotonic_s=95.0, doors=(Counted("", 20, 0),)))
    rates.note(snapshot())
    gate = next(line for line in shown(snapshot(), rates=rates) if line.startswith("datagrams"))
    assert gate.split() == ["datagrams", "at", "the", "gate", "25", "1.0", "1,000", "200.0"]
    assert "gate  25 in (1.0/s)  1,000 dropped (200.0/s)" in shown(snapshot(), 80, 12, rates=rates)


def test_times_of_other_days_have_their_date() -> None:
    old = replace(BOB, since_ms=NOW_MS - 3 * 86_400_000, is_older=False, left_ms=90_061_000)
    line = next(line for line in shown(snapshot(inside=(old,))) if line.startswith("bob-laptop"))
    assert "02-26 12:00" in line
    assert "1d 01h" in line
