"""Since when somebody is inside: the unbroken row of grants, from the end of a trail that grows and is put aside."""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path

import pytest

from spa_server.tell import event_types
from spa_server.tell.audit import AuditTrail
from spa_server.tell.events import Event
from spa_server.watch import newest
from spa_server.watch.newest import Newest, Stay
from tests.server.report.trails import ROOT, START_MS, knock, line, write

WHO = ("alice-laptop", "web", "192.0.2.7")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "audit.jsonl"


def stay(path: Path, who: tuple[str, str, str] = WHO) -> Stay | None:
    seen = Newest(path)
    seen.look()
    seen.close()
    return seen.stay(*who)


def since_s(path: Path, who: tuple[str, str, str] = WHO) -> float | None:
    found = stay(path, who)
    return None if found is None else (found.since_ms - START_MS) / 1000


def test_renewals_are_one_stay_with_the_newest_risk(path: Path) -> None:
    write(path, *((knock(), START_MS + 15_000 * number, 10 + number) for number in range(10)))
    found = stay(path)
    assert found == Stay(START_MS, START_MS + 165_000, False, "alice", 19)


def test_a_renewal_without_a_score_keeps_the_last_one(path: Path) -> None:
    write(path, (knock(), START_MS, 7), (knock(), START_MS + 15_000))
    found = stay(path)
    assert found is not None
    assert found.risk == 7


def test_a_grant_after_the_end_begins_anew(path: Path) -> None:
    write(path, (knock(), START_MS), (knock(), START_MS + 60_000))
    assert since_s(path) == 60


def test_each_delegate_source_and_service_has_a_stay_of_its_own(path: Path) -> None:
    write(
        path,
        (knock(), START_MS),
        (knock(delegate="ci"), START_MS + 1000),
        (knock(source="192.0.2.8"), START_MS + 2000),
        (knock(services=(("ssh", 30),)), START_MS + 3000),
    )
    others = (("alice-laptop+ci", *WHO[1:]), (*WHO[:2], "192.0.2.8"), ("alice-laptop", "ssh", WHO[2]))
    assert [since_s(path, who) for who in (WHO, *others)] == [0, 1, 2, 3]


@pytest.mark.parametrize(
    "ended",
    [
        Event(
            event_types.CLOSED, "", device="alice-laptop", source=ip_address("192.0.2.7"), services=(("web", 0),)
        ),
        Event(event_types.REVOKED, "", device="alice-laptop", actor=ROOT),
        Event(event_types.REVOKED, "", source=ip_address("192.0.2.7"), actor=ROOT),
    ],
)  # fmt: skip
def test_what_was_ended_begins_anew(path: Path, ended: Event) -> None:
    write(path, (knock(), START_MS), (ended, START_MS + 5000), (knock(), START_MS + 10_000))
    assert since_s(path) == 10


def test_a_refused_renewal_ends_nothing(path: Path) -> None:
    write(path, (knock(), START_MS), (knock(reason="stale"), START_MS + 5000), (knock(), START_MS + 10_000))
    assert since_s(path) == 0


def test_a_clock_that_was_set_back_begins_a_stay_anew(path: Path) -> None:
    write(path, (knock(), START_MS + 3_600_000), (knock(), START_MS))
    assert since_s(path) == 0


def test_what_may_have_begun_before_what_was_read_says_so(path: Path) -> None:
    write(path, (knock(), START_MS), (knock(source="192.0.2.8"), START_MS + 60_000), first=700)
    found = [stay(path, who) for who in (WHO, (*WHO[:2], "192.0.2.8"))]
    assert [each is not None and each.is_older for each in found] == [True, False]


def test_only_the_end_of_a_long_trail_is_read(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(newest, "FIRST_READ", 3000)
    write(path, *((knock(), START_MS + 15_000 * number) for number in range(1000)))
    found = stay(path)
    assert found is not None
    assert found.is_older
    assert found.since_ms > START_MS + 15_000 * 980


def test_a_trail_is_followed_as_it_grows_and_over_its_rotation(path: Path) -> None:
    trail = AuditTrail(path, largest_bytes=2000, most_files=100)
    seen = Newest(path)
    for number in range(60):
        trail.append(knock(), START_MS + 15_000 * number)
        seen.look()
        found = seen.stay(*WHO)
        assert found is not None
        assert (found.since_ms, found.until_ms) == (START_MS, START_MS + 15_000 * number + 30_000)
    assert len(list(path.parent.glob("audit.jsonl.0*"))) > 5
    trail.close()
    seen.close()


def test_half_a_line_waits_for_its_other_half(path: Path) -> None:
    text = line(1, knock(), START_MS)
    path.write_bytes(text[:50])
    seen = Newest(path)
    seen.look()
    assert seen.stay(*WHO) is None
    with path.open("ab") as file:
        file.write(text[50:])
    seen.look()
    assert seen.stay(*WHO) is not None
    seen.close()


def test_a_trail_that_was_emptied_is_read_from_its_beginning(path: Path) -> None:
    write(path, *((knock(), START_MS) for _ in range(10)))
    seen = Newest(path)
    seen.look()
    path.write_bytes(line(11, knock(source="192.0.2.8"), START_MS + 1000))
    seen.look()
    assert seen.stay(*WHO[:2], "192.0.2.8") is not None
    seen.close()


def test_damaged_lines_are_passed_over(path: Path) -> None:
    path.write_bytes(b"\n{\n" + line(1, knock(), START_MS) + b"\xff\xff\n")
    assert since_s(path) == 0


def test_stays_beyond_number_do_not_fill_the_memory(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(newest, "MOST_STAYS", 5)
    write(path, *((knock(source=f"192.0.2.{number}"), START_MS) for number in range(20)))
    assert since_s(path, (*WHO[:2], "192.0.2.14")) is None
    assert since_s(path, (*WHO[:2], "192.0.2.19")) == 0
