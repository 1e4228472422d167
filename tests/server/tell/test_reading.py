"""Reading a trail back: every record in its order, over rotated files, and what is missing or damaged counted."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from spa_server.tell.audit import AuditTrail
from spa_server.tell.reading import LONGEST_LINE, Trail, lines_from, parsed
from tests.server.report.trails import ROOT, knock, line, write
from tests.server.tell.told import TIME_MS, granted

EVER = (0, 10**14)


def seqs(trail: Trail, since_ms: int = EVER[0], until_ms: int = EVER[1]) -> list[int]:
    return [record.seq for record in trail.records(since_ms, until_ms)]


def test_what_the_server_wrote_is_read_back_over_all_files(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    writer = AuditTrail(path, largest_bytes=3000, most_files=50, wall_ms=lambda: TIME_MS)
    for number in range(40):
        writer.append(granted(f"s{number}"))
    writer.close()
    assert len(list(tmp_path.glob("audit.jsonl.0*"))) > 2
    trail = Trail(path)
    assert seqs(trail) == list(range(1, 41))
    assert (trail.passed.damaged, trail.passed.missing, trail.passed.repeated) == (0, 0, 0)
    oldest = trail.oldest()
    assert oldest is not None
    assert oldest.seq == 1


def test_each_field_is_read_where_it_stands() -> None:
    record = parsed(line(9, knock("bob-laptop", "2001:db8::1", (("web", 30), ("ssh", 60)), delegate="ci"), TIME_MS, 42))
    assert record is not None
    assert (record.seq, record.time_ms, record.action, record.outcome) == (9, TIME_MS, "granted", "success")
    assert (record.user, record.actor, record.device, record.delegate) == ("bob", "", "bob-laptop", "ci")
    assert (record.source, record.services, record.risk) == ("2001:db8::1", (("web", 30), ("ssh", 60)), 42)


def test_who_did_it_and_whom_it_concerns_are_kept_apart() -> None:
    record = parsed(line(1, granted(actor=ROOT), TIME_MS))
    assert record is not None
    assert (record.actor, record.user) == ("erin", "alice")


def test_fields_of_another_type_are_empty_and_never_an_error() -> None:
    odds: list[Any] = [None, 7, "x", [], {}, [[]], {"name": 3}, True, 1e400, float("nan")]
    for odd in odds:
        told: dict[str, Any] = {"seq": 1, "@timestamp": "2026-03-01T00:00:00.000Z"}
        for name in ("event", "user", "device", "source", "session", "message"):
            told[name] = odd
        told["spa"] = {"services": odd, "about": odd, "delegate": odd}
        assert parsed(json.dumps(told).encode()) is not None
        told["event"] = {"action": odd, "category": odd, "risk_score": odd, "reason": odd}
        told["user"] = {"name": odd, "effective": odd, "target": odd}
        assert parsed(json.dumps(told).encode()) is not None


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'"text"',
        b'{"seq":1}',
        b'{"seq":true,"@timestamp":"2026-03-01T00:00:00.000Z"}',
        b'{"seq":-1,"@timestamp":"2026-03-01T00:00:00.000Z"}',
        b'{"seq":1,"@timestamp":"yesterday"}',
        b'{"seq":1,"@timestamp":7}',
        b"[" * 100_000,
        b"\xff\xfe",
    ],
)
def test_what_is_no_record_is_none(text: bytes) -> None:
    assert parsed(text) is None


def test_damaged_lines_and_missing_numbers_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    lines = [line(number, granted(), TIME_MS + number) for number in (1, 2, 5, 6, 10, 10)]
    path.write_bytes(lines[0] + b"not a record\n" + b"".join(lines[1:]) + lines[0][:40])
    trail = Trail(path)
    assert seqs(trail) == [1, 2, 5, 6, 10, 10]
    assert (trail.passed.damaged, trail.passed.missing, trail.passed.gaps, trail.passed.repeated) == (2, 5, 2, 1)


def test_only_the_period_is_read_and_its_bounds_are_no_gaps(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    write(path, *((granted(), TIME_MS + number * 1000) for number in range(10)))
    trail = Trail(path)
    assert seqs(trail, TIME_MS + 3000, TIME_MS + 6000) == [4, 5, 6]
    assert trail.passed.gaps == 0


def test_a_time_in_another_form_counts_as_what_it_is(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    lines = [
        b'{"seq":1,"@timestamp":"2026-03-01T01:30:00+02:00"}\n',
        b'{"@timestamp":"2026-02-28T23:59:59.999Z","seq":2}\n',
        b'{"seq":3,"@timestamp":"2026-03-01T00:00:00.000Z"}\n',
    ]
    path.write_bytes(b"".join(lines))
    midnight_ms = 1_772_323_200_000
    assert seqs(Trail(path), midnight_ms, EVER[1]) == [3]
    assert seqs(Trail(path), 0, midnight_ms) == [1, 2]


def test_old_files_are_passed_over_whole_but_not_one_that_was_changed_since(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    old = tmp_path / "audit.jsonl.000000000005"
    write(old, *((granted(), TIME_MS + number) for number in range(5)))
    write(path, *((granted(), TIME_MS + 10_000_000 + number) for number in range(5)), first=6)
    os.utime(old, ns=(0, (TIME_MS + 5) * 1_000_000))
    trail = Trail(path)
    assert seqs(trail, TIME_MS + 5_000_000, EVER[1]) == [6, 7, 8, 9, 10]
    assert trail.passed.files == 1
    os.utime(old, ns=(0, (TIME_MS + 6_000_000) * 1_000_000))
    trail = Trail(path)
    assert seqs(trail, TIME_MS + 5_000_000, EVER[1]) == [6, 7, 8, 9, 10]
    assert trail.passed.files == 2


def test_a_file_that_is_put_aside_while_it_is_read_is_read_once(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    for number in (5, 10):
        last = tmp_path / f"audit.jsonl.{number:012d}"
        write(last, *((granted(), TIME_MS) for _ in range(5)), first=number - 4)
    write(path, *((granted(), TIME_MS) for _ in range(5)), first=11)
    trail, found = Trail(path), []
    for record in trail.records(*EVER):
        found.append(record.seq)
        if record.seq == 3:
            path.rename(f"{path}.000000000015")
            write(path, (granted(), TIME_MS), first=16)
            (tmp_path / "audit.jsonl.000000000005").unlink()
    assert found == list(range(1, 16))
    assert trail.passed.gaps == 0


def test_a_file_that_was_deleted_meanwhile_is_a_gap(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    for number in (5, 10):
        write(tmp_path / f"audit.jsonl.{number:012d}", *((granted(), TIME_MS) for _ in range(5)), first=number - 4)
    write(path, (granted(), TIME_MS), first=11)
    trail, found = Trail(path), []
    for record in trail.records(*EVER):
        found.append(record.seq)
        (tmp_path / "audit.jsonl.000000000010").unlink(missing_ok=True)
    assert found == [1, 2, 3, 4, 5, 11]
    assert (trail.passed.gaps, trail.passed.missing) == (1, 5)


def test_a_line_without_end_takes_no_memory_and_counts_as_damaged(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    path.write_bytes(line(1, granted(), TIME_MS) + b"x" * (3 * LONGEST_LINE) + b"\n" + line(2, granted(), TIME_MS))
    trail = Trail(path)
    assert seqs(trail) == [1, 2]
    assert trail.passed.damaged > 0


def test_all_bytes_are_told_of(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    write(path, *((granted(), TIME_MS) for _ in range(100)))
    told: list[int] = []
    trail = Trail(path, told.append)
    assert seqs(trail) == list(range(1, 101))
    assert sum(told) == trail.size() == path.stat().st_size


def test_a_trail_that_is_not_there_has_no_records(tmp_path: Path) -> None:
    trail = Trail(tmp_path / "audit.jsonl")
    assert (seqs(trail), trail.oldest(), trail.size()) == ([], None, 0)


def test_a_link_in_the_place_of_the_trail_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(line(1, granted(), TIME_MS))
    (tmp_path / "audit.jsonl").symlink_to("secret")
    with pytest.raises(OSError, match="symbolic links"):
        seqs(Trail(tmp_path / "audit.jsonl"))


def test_whole_lines_alone_are_taken_from_a_file_that_grows(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    path.write_bytes(b"one\ntwo\nthr")
    with path.open("rb") as file:
        assert lines_from(file.fileno(), 0) == ([b"one", b"two"], 8)
        assert lines_from(file.fileno(), 8) == ([], 8)
        path.write_bytes(b"one\ntwo\nthree\n")
        assert lines_from(file.fileno(), 8) == ([b"three"], 14)
