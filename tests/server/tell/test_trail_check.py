"""Whatever is changed in an audit trail is found, and named by file, line and number."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spa_protocol.keys import public_key, sign
from spa_server.tell import chain, ecs, trail_files
from spa_server.tell.audit import AuditTrail, NotWritten
from spa_server.tell.trail_check import MOST_FINDINGS, Finding, Known, Report, Trouble, check
from tests.durability.test_unwritable import fill as fill_disk
from tests.durability.test_unwritable import small_disk
from tests.server.tell.told import TIME_MS, files, granted, granting, records

SEED = bytes(range(32))
KEY = public_key(SEED)
SMALL = 2_600
"""Bytes of a file: a few records each."""


def trail_at(path: Path, *, largest_bytes: int = SMALL, most_files: int = 1000) -> AuditTrail:
    return AuditTrail(path, largest_bytes=largest_bytes, most_files=most_files, wall_ms=lambda: TIME_MS)


def fill(trail: AuditTrail, count: int) -> None:
    for number in range(count):
        trail.append(granted(f"s{number}") if number % 2 else granting(f"s{number}"))
        if number % 5 == 4:
            trail.sign(lambda message: sign(SEED, message))


def verified(path: Path, *known: Known, key: bytes = KEY) -> Report:
    """What the verify command finds, which heeds the note in the lock file, too."""
    note = trail_files.note_of(path)
    told = [*known, *([Known(*note, "the lock file")] if note else [])]
    return check(trail_files.lines(path), keys=[key], known=told)


@pytest.fixture(scope="module")
def whole() -> Iterator[Path]:
    """A trail of some twenty records in several files."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "audit.jsonl"
        fill(trail_at(path), 18)
        assert len(files(path)) > 4
        yield path


@contextmanager
def copy_of(path: Path) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(path.parent, folder, dirs_exist_ok=True)
        yield Path(folder) / path.name


def places(path: Path) -> list[tuple[Path, int]]:
    """Every line as its file and number; the record's number is one more than its index."""
    return [(file, number) for file in files(path) for number in range(1, len(file.read_bytes().splitlines()) + 1)]


def change(file: Path, line: int, made: Callable[[bytes], bytes]) -> None:
    """Write the file anew with that line as something else."""
    lines = file.read_bytes().splitlines(keepends=True)
    lines[line - 1] = made(lines[line - 1])
    file.write_bytes(b"".join(lines))


def line_of(file: Path, line: int) -> bytes:
    return file.read_bytes().splitlines(keepends=True)[line - 1]


def at(finding: Finding) -> tuple[str, int]:
    return Path(finding.file).name, finding.line


def test_what_nobody_touched_is_as_it_was_written(whole: Path) -> None:
    report = verified(whole)
    assert report.findings == []
    assert (report.first, report.last, report.chained_from) == (1, 21, 1)
    assert (report.signatures, report.signed_to, report.unverified) == (3, 17, 0)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_any_flipped_bit_is_found_where_it_is(whole: Path, data: st.DataObject) -> None:
    with copy_of(whole) as path:
        file = data.draw(st.sampled_from(files(path)))
        content = bytearray(file.read_bytes())
        place = data.draw(st.integers(0, len(content) - 1))
        line = content[:place].count(b"\n") + 1
        content[place] ^= 1 << data.draw(st.integers(0, 7))
        file.write_bytes(content)
        found = verified(path).findings
        assert found
        assert at(found[0]) == (file.name, line)
        seq = places(path).index((file, line)) + 1
        assert found[0].seq == seq


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_dropped_line_is_named(whole: Path, data: st.DataObject) -> None:
    with copy_of(whole) as path:
        all_lines = places(path)
        index = data.draw(st.integers(0, len(all_lines) - 1))
        change(*all_lines[index], lambda _: b"")
        (found,) = verified(path).findings
        assert found.seq == index + 1
        is_last = index == len(all_lines) - 1
        assert found.trouble is (Trouble.CUT if is_last else Trouble.MISSING)
        if not is_last and all_lines[index + 1][0] == all_lines[index][0]:
            assert at(found) == (all_lines[index][0].name, all_lines[index][1])


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_cut_end_is_named_by_the_note_and_by_what_a_client_was_told(whole: Path, data: st.DataObject) -> None:
    with copy_of(whole) as path:
        told = records(path)
        newest = Known(told[-1]["seq"], told[-1]["hash"][:32], "alice-laptop")
        trail_files.lock_file(path).unlink()
        all_lines = places(path)
        left = data.draw(st.integers(1, len(all_lines) - 1))
        for file, line in reversed(all_lines[left:]):
            change(file, line, lambda _: b"")
        for file in files(path)[:-1]:
            if not file.read_bytes():
                file.unlink()
        (found,) = verified(path, newest).findings
        assert (found.trouble, found.seq) == (Trouble.CUT, left + 1)
        assert f"ends at {left}" in found.what


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_any_two_that_were_swapped_are_named(whole: Path, data: st.DataObject) -> None:
    with copy_of(whole) as path:
        all_lines = places(path)
        one, other = sorted(
            data.draw(st.lists(st.integers(0, len(all_lines) - 1), min_size=2, max_size=2, unique=True))
        )
        first, second = line_of(*all_lines[one]), line_of(*all_lines[other])
        change(*all_lines[one], lambda _: second)
        change(*all_lines[other], lambda _: first)
        found = verified(path).findings
        where = {(all_lines[each][0].name, all_lines[each][1]) for each in (one, other)}
        assert {at(each) for each in found} <= where
        assert (all_lines[one][0].name, all_lines[one][1]) in {at(each) for each in found}
        assert {each.seq for each in found} <= {one + 1, other + 1}


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_record_that_was_written_anew_with_a_hash_of_its_own_does_not_fit_the_next(
    whole: Path, data: st.DataObject
) -> None:
    with copy_of(whole) as path:
        all_lines = places(path)
        index = data.draw(st.integers(0, len(all_lines) - 2))
        change(*all_lines[index], forged)
        found = verified(path).findings
        assert found[0].trouble in (Trouble.CHAIN_BROKEN, Trouble.BAD_SIGNATURE)
        assert found[0].seq == index + 2
        assert f"another record {index + 1}" in found[0].what


def forged(line: bytes) -> bytes:
    told = json.loads(line)
    told["message"] = "nothing happened"
    seq, prev = told.pop("seq"), told.pop("prev")
    return chain.sealed(told, seq, prev)[0]


def rewritten(path: Path, start: int) -> None:
    """All of it from that record on written anew, into one file, as whoever has no key can."""
    told, prev = records(path), chain.NO_HASH
    for file in files(path):
        file.unlink()
    with path.open("wb") as anew:
        for record in told:
            if record["seq"] == start:
                record["message"] = "nothing happened"
            seq = record.pop("seq")
            line, prev = chain.sealed(record, seq, prev)
            anew.write(line)
    trail_files.lock_file(path).write_bytes(trail_files.noted(seq, prev))


def test_a_trail_that_was_written_anew_shows_by_its_signatures_and_by_what_clients_were_told(whole: Path) -> None:
    told = records(whole)
    known = Known(told[8]["seq"], told[8]["hash"][:32], "alice-laptop")
    with copy_of(whole) as path:
        rewritten(path, start=3)
        found = verified(path, known).findings
        assert {each.trouble for each in found} == {Trouble.BAD_SIGNATURE, Trouble.OTHER_HASH}
        assert [each.seq for each in found if each.trouble is Trouble.OTHER_HASH] == [9]
        assert [each.seq for each in found if each.trouble is Trouble.BAD_SIGNATURE] == [6, 12, 18]


def test_another_servers_key_verifies_no_signature(whole: Path) -> None:
    found = verified(whole, key=public_key(bytes(32))).findings
    assert [(each.trouble, each.seq) for each in found] == [(Trouble.BAD_SIGNATURE, seq) for seq in (6, 12, 18)]


def test_without_a_key_the_chain_is_verified_and_signatures_are_counted(whole: Path) -> None:
    report = check(trail_files.lines(whole))
    assert (report.findings, report.signatures, report.unverified) == ([], 0, 3)


def test_what_a_client_was_told_is_met_by_its_record(whole: Path) -> None:
    for record in records(whole):
        assert verified(whole, Known(record["seq"], record["hash"][:32], "a client")).findings == []


def test_rotation_that_deleted_the_oldest_leaves_what_can_be_verified_and_says_from_where(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    fill(trail_at(path, most_files=3), 40)
    report = verified(path, Known(2, "ab" * 16, "alice-laptop"))
    assert report.findings == []
    assert report.first == report.deleted_to + 1 > 1
    assert [each.seq for each in report.beyond] == [2]
    oldest = files(path)[0]
    oldest.unlink()
    (found,) = verified(path).findings
    assert (found.trouble, found.seq) == (Trouble.MISSING, report.first)


def test_a_file_that_is_gone_from_the_middle_is_a_gap(whole: Path) -> None:
    with copy_of(whole) as path:
        gone, after = files(path)[1:3]
        numbers = [json.loads(line)["seq"] for line in gone.read_bytes().splitlines()]
        gone.unlink()
        (found,) = verified(path).findings
        assert (found.trouble, found.seq, at(found)) == (Trouble.MISSING, numbers[0], (after.name, 1))
        assert str(numbers[-1]) in found.what


def unchained(count: int) -> bytes:
    """Records as older versions wrote them."""
    return b"".join(
        ecs.canonical({**ecs.record(granted(), TIME_MS), "seq": seq}) + b"\n" for seq in range(1, count + 1)
    )


def test_a_trail_of_an_older_version_is_carried_on_and_says_where_the_chain_begins(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    path.write_bytes(unchained(3))
    fill(trail_at(path, largest_bytes=1 << 20), 4)
    begun = records(path)[3]
    assert (begun["seq"], begun["event"]["action"], begun["spa"]["about"]) == (4, "chain-begun", "3")
    report = verified(path)
    assert (report.findings, report.first, report.chained_from, report.last) == ([], 1, 4, 8)
    change(path, 3, lambda line: line.replace(b"alice", b"mallo"))
    (found,) = verified(path).findings
    assert (found.trouble, found.line, found.seq) == (Trouble.CHAIN_BROKEN, 3, 3)


def test_a_record_of_an_older_version_after_the_chain_began_is_found(whole: Path) -> None:
    with copy_of(whole) as path:
        change(path, 1, lambda line: line.replace(b',"hash":"', b',"hush":"'))
        found = verified(path).findings
        assert (found[0].trouble, found[0].line) == (Trouble.EDITED, 1)


def test_a_half_written_record_that_was_cut_away_leaves_a_verifiable_trail(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    fill(trail_at(path), 3)
    whole_line = path.read_bytes().splitlines(keepends=True)[-1]
    with path.open("ab") as file:
        file.write(whole_line[:99])
    assert [each.trouble for each in verified(path).findings] == [Trouble.UNFINISHED, Trouble.NO_RECORD]
    fill(trail_at(path), 3)
    report = verified(path)
    assert (report.findings, report.last) == ([], 7)
    assert "trail-repaired" in [record["event"]["action"] for record in records(path)]


@pytest.mark.parametrize("is_running", [True, False])
def test_records_that_were_cut_off_stay_missing_whoever_goes_on(tmp_path: Path, is_running: bool) -> None:
    path = tmp_path / "audit.jsonl"
    writer = trail_at(path, largest_bytes=1 << 20)
    fill(writer, 4)
    os.truncate(path, sum(map(len, path.read_bytes().splitlines(keepends=True)[:2])))
    fill(writer if is_running else trail_at(path, largest_bytes=1 << 20), 2)
    (found,) = verified(path).findings
    assert (found.trouble, found.seq, found.line) == (Trouble.MISSING, 3, 3)
    assert "3 to 4" in found.what
    assert records(path)[2]["event"]["action"] == "trail-repaired"


def test_of_very_many_findings_the_first_are_named_and_the_others_counted(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    path.write_bytes(b"nonsense\n" * (MOST_FINDINGS + 7))
    report = check(trail_files.lines(path))
    assert (len(report.findings), report.more_findings) == (MOST_FINDINGS, 7)
    assert {each.trouble for each in report.findings} == {Trouble.NO_RECORD}


def test_a_full_disk_at_a_rotation_makes_room_and_the_deletion_is_on_record_afterwards(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk") as disk:
        path = disk / "audit.jsonl"
        trail = trail_at(path, largest_bytes=100_000, most_files=3)
        while len(files(path)) < 3 or path.stat().st_size < 99_000:
            trail.append(granted())
        fill_disk(disk)
        before = len(files(path))
        for _ in range(10):
            with contextlib.suppress(NotWritten):
                trail.append(granted())
        assert len(files(path)) == before
        report = verified(path)
        assert report.findings == []
        assert report.first == report.deleted_to + 1 > 1
