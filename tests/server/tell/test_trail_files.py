"""The lines of a trail in order, once each, while other processes append and put files aside."""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Iterator
from pathlib import Path

import pytest

from spa_server.tell import trail_files
from spa_server.tell.audit import AuditTrail, NotWritten
from spa_server.tell.trail_check import check
from tests.server.tell.told import files, granted

WRITERS, RECORDS = 3, 150


def writing(path: Path) -> AuditTrail:
    return AuditTrail(path, largest_bytes=3_000, most_files=10_000)


def write(path: Path) -> None:
    trail = writing(path)
    written = 0
    while written < RECORDS:
        try:
            trail.append(granted(str(written)))
            written += 1
        except NotWritten as error:
            assert "another process holds it" in str(error)  # noqa: PT017  a machine that stood still
    trail.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "audit.jsonl"


def numbers(lines: Iterator[trail_files.Line]) -> list[int]:
    return [json.loads(line.text)["seq"] for line in lines]


def test_what_several_processes_write_and_rotate_is_one_chain(path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=write, args=(path,)) for _ in range(WRITERS)]
    for each in writers:
        each.start()
    for each in writers:
        each.join(60)
    assert [each.exitcode for each in writers] == [0] * WRITERS
    assert len(files(path)) > 20
    report = check(trail_files.lines(path))
    assert report.findings == []
    assert (report.first, report.last) == (1, WRITERS * RECORDS)


def test_a_reader_that_waits_sees_each_record_once_though_files_are_put_aside(path: Path) -> None:
    trail = writing(path)
    trail.append(granted())
    turns = iter(range(40))

    def wait() -> bool:
        """Each time the reader has come to the end, more is written; at last nothing more."""
        turn = next(turns, None)
        for _ in range(0 if turn is None else turn % 7):
            trail.append(granted())
        return turn is not None

    read = numbers(trail_files.lines(path, wait))
    assert read == list(range(1, len(read) + 1))
    assert len(read) > 100
    assert len(files(path)) > 10


def test_what_is_put_aside_between_two_looks_is_read_in_its_order(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trail = writing(path)
    for _ in range(9):
        trail.append(granted())
    look, rotations = trail_files.older_files, iter(range(3))
    other = writing(path)
    is_writing = False

    def and_then_rotate(of: Path) -> list[tuple[int, Path]]:
        nonlocal is_writing
        found = look(of)
        if not is_writing and next(rotations, None) is not None:
            is_writing = True  # the writer looks, too
            for _ in range(4):
                other.append(granted())
            is_writing = False
        return found

    with monkeypatch.context() as patched:
        patched.setattr(trail_files, "older_files", and_then_rotate)
        read = numbers(trail_files.lines(path))
    assert read[:9] == list(range(1, 10))
    assert read == list(range(1, len(read) + 1))


def test_no_trail_at_all_is_said(path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        list(trail_files.lines(path))


def test_a_link_is_not_followed(path: Path) -> None:
    path.symlink_to("/etc/passwd")
    with pytest.raises(OSError, match="symbolic links"):
        list(trail_files.lines(path))
