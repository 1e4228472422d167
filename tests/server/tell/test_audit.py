"""The audit trail as a file: numbered without gaps over restarts, rotation and other writers, and mended at its end."""

from __future__ import annotations

import fcntl
import json
import os
import stat
import time
from dataclasses import replace
from pathlib import Path

import pytest

from spa_server.tell import event_types
from spa_server.tell.audit import AuditTrail, NotWritten
from spa_server.tell.events import Actor
from tests.durability.test_unwritable import fill, small_disk
from tests.server.tell.told import TIME_MS, files, granted, granting, numbers, records

MIB = 1 << 20


def trail_at(path: Path, *, largest_bytes: int = MIB, most_files: int = 8) -> AuditTrail:
    return AuditTrail(path, largest_bytes=largest_bytes, most_files=most_files, wall_ms=lambda: TIME_MS)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "audit.jsonl"


def test_a_grant_reads_in_the_words_of_ecs(path: Path) -> None:
    assert trail_at(path).append(granted("ab12")) == 1
    (record,) = records(path)
    assert len(record.pop("hash")) == 64
    assert record == {
        "seq": 1,
        "prev": "0" * 64,
        "@timestamp": "2023-11-14T22:13:20.123Z",
        "ecs": {"version": "8.11.0"},
        "event": {
            "kind": "event",
            "category": ["network"],
            "type": ["allowed"],
            "action": "granted",
            "code": event_types.GRANTED.message_id,
            "outcome": "success",
        },
        "message": "granted alice-laptop (alice) from 192.0.2.7: web 30 s; skew -5 ms",
        "source": {"ip": "192.0.2.7"},
        "destination": {"ip": "198.51.100.1"},
        "session": {"id": "ab12"},
        "device": {"id": "alice-laptop"},
        "user": {"name": "alice"},
        "spa": {"services": [{"name": "web", "seconds": 30}], "skew_ms": -5},
    }


def test_a_line_is_its_own_canonical_form(path: Path) -> None:
    trail_at(path).append(granted(device="żółw\n\u2028\x1b", skew_ms=-(1 << 80)))
    (line,) = path.read_bytes().splitlines()
    again = json.dumps(json.loads(line), ensure_ascii=False, separators=(",", ":"), sort_keys=True).encode()
    assert line == again
    assert records(path)[0]["spa"]["skew_ms"] == -(2**53 - 1)


def test_what_a_device_chose_cannot_make_a_record_grow(path: Path) -> None:
    trail_at(path).append(granted(about="x" * 100_000))
    assert path.stat().st_size < 2_000


def test_a_text_that_is_no_unicode_is_told_all_the_same(path: Path) -> None:
    trail_at(path).append(granted(about="\ud800"))
    assert records(path)[0]["spa"]["about"] == "?"


def test_the_file_can_be_read_by_its_group_and_the_lock_by_its_owner_alone(path: Path) -> None:
    trail_at(path).append(granted())
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert stat.S_IMODE(Path(f"{path}.lock").stat().st_mode) == 0o600


def test_numbers_go_on_after_a_restart(path: Path) -> None:
    for _ in range(3):
        trail = trail_at(path)
        trail.append(granted())
        trail.append(granted())
        trail.close()
    assert numbers(path) == [1, 2, 3, 4, 5, 6]


def test_two_writers_number_in_turn_and_each_learns_what_the_other_did(path: Path) -> None:
    server, command = trail_at(path), trail_at(path)
    for _ in range(4):
        server.append(granted())
        command.append(granted(reason="by hand"))
    server.take_in()
    assert numbers(path) == list(range(1, 9))
    assert server.seen == {("granted", "by hand"): 4}


def test_what_was_there_before_is_not_counted_as_news(path: Path) -> None:
    trail_at(path).append(granted())
    trail = trail_at(path)
    trail.take_in()
    assert not trail.seen


def test_full_files_are_put_aside_and_the_oldest_deleted(path: Path) -> None:
    trail = trail_at(path, largest_bytes=2_000, most_files=3)
    for _ in range(40):
        trail.append(granted())
    kept = files(path)
    assert len(kept) == 3
    assert all(file.stat().st_size <= 2_000 for file in kept)
    first, *_, last = numbers(path)
    assert first > 1
    assert numbers(path) == list(range(first, last + 1))
    deleted = [record["spa"]["about"] for record in records(path) if record["event"]["action"] == "trail-pruned"]
    assert deleted[-1] == str(first - 1), "that they were deleted is recorded"
    assert [file.name for file in kept[:-1]] == [f"audit.jsonl.{_last(file):012d}" for file in kept[:-1]]


def _last(file: Path) -> int:
    return int(json.loads(file.read_bytes().splitlines()[-1])["seq"])


def test_a_kill_in_the_middle_of_a_rotation_loses_no_number(path: Path) -> None:
    """What the kill leaves: the full file has its new name, and there is no other yet."""
    trail = trail_at(path)
    for _ in range(3):
        trail.append(granted())
    path.rename(f"{path}.{3:012d}")
    assert trail_at(path).append(granted()) == 4
    assert numbers(path) == [1, 2, 3, 4]


def test_a_writer_follows_when_another_has_rotated(path: Path) -> None:
    server, command = (trail_at(path, largest_bytes=1_500, most_files=20) for _ in range(2))
    for _ in range(10):
        server.append(granted())
        command.append(granted())
    assert numbers(path) == list(range(1, 21))


def test_a_trail_that_is_moved_away_is_begun_anew_with_the_next_number(path: Path) -> None:
    trail = trail_at(path)
    trail.append(granted())
    path.rename(path.with_name("taken-away"))
    assert trail.append(granted()) == 2
    Path(f"{path}.lock").unlink()
    path.unlink()
    assert trail.append(granted()) == 3
    other = trail_at(path)
    assert other.append(granted()) == 4
    assert trail.append(granted()) == 5


@pytest.mark.parametrize("kept", [1, 50, -2])
def test_part_of_a_record_is_taken_away_and_that_is_recorded(path: Path, kept: int) -> None:
    trail_at(path).append(granted())
    whole = path.read_bytes()
    path.write_bytes(whole + whole[:kept])
    assert trail_at(path).append(granted()) == 3
    first, mended, last = records(path)
    assert (first["seq"], mended["seq"], last["seq"]) == (1, 2, 3)
    assert mended["event"]["action"] == "trail-repaired"
    assert f"{len(whole[:kept])} bytes" in mended["message"]


def test_a_whole_record_without_its_lines_end_stays(path: Path) -> None:
    trail = trail_at(path)
    trail.append(granted("one"))
    trail.append(granted("two"))
    os.truncate(path, path.stat().st_size - 1)
    assert trail_at(path).append(granted("three")) == 4
    assert [record.get("session", {}).get("id") for record in records(path)] == ["one", "two", None, "three"]


def test_zeros_that_a_loss_of_power_left_are_taken_away(path: Path) -> None:
    trail_at(path).append(granted())
    with path.open("ab") as file:
        file.write(bytes(3_000))
    trail_at(path).append(granted())
    assert numbers(path) == [1, 2, 3]


def test_a_running_writer_mends_what_another_left_behind(path: Path) -> None:
    server = trail_at(path)
    server.append(granted())
    with path.open("ab") as file:
        file.write(b'{"seq":2,"half')
    assert server.append(granted()) == 3
    assert [record["event"]["action"] for record in records(path)] == ["granted", "trail-repaired", "granted"]


def test_a_trail_that_was_cut_under_a_running_writer_is_noted(path: Path) -> None:
    server = trail_at(path)
    for _ in range(3):
        server.append(granted())
    os.truncate(path, 0)
    server.append(granted())
    assert [(record["seq"], record["event"]["action"]) for record in records(path)] == [
        (4, "trail-repaired"),
        (5, "granted"),
    ]


def test_a_long_trail_is_opened_by_reading_its_end_alone(path: Path) -> None:
    trail = trail_at(path, largest_bytes=64 * MIB)
    trail.append(granted())
    line = path.read_bytes().replace(b'"seq":1,', b'"seq":77,')
    with path.open("ab") as file:
        file.write(line * (3 * MIB // len(line)))
    begun_s = time.process_time()
    assert trail_at(path, largest_bytes=64 * MIB).append(granted()) == 78
    assert time.process_time() - begun_s < 1


def test_a_last_line_that_is_too_long_to_be_a_record_is_left_as_it_is(path: Path) -> None:
    path.write_bytes(b"x" * 200_000)
    assert trail_at(path).append(granted()) == 2
    lines = path.read_bytes().splitlines()
    assert lines[0] == b"x" * 200_000
    assert [json.loads(line)["seq"] for line in lines[1:]] == [1, 2]


def test_a_full_disk_refuses_the_record_leaves_no_part_of_it_and_goes_on_by_itself(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk") as disk:
        path = disk / "audit.jsonl"
        trail = trail_at(path)
        trail.append(granted())
        ballast = fill(disk)
        # What is left of a block may still hold a few.
        while _appends(trail):
            pass
        written = numbers(path)
        assert path.read_bytes().endswith(b"\n")
        with pytest.raises(NotWritten, match="disk is full"):
            trail.append(granted())
        ballast.unlink()
        assert trail.append(granted()) == written[-1] + 1
        assert numbers(path) == list(range(1, written[-1] + 2))


def _appends(trail: AuditTrail) -> bool:
    try:
        trail.append(granted())
    except NotWritten:
        return False
    return True


def test_a_lock_that_is_held_too_long_refuses_the_record(path: Path) -> None:
    trail = trail_at(path)
    trail.append(granted())
    with Path(f"{path}.lock").open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(NotWritten, match="another process holds it"):
            trail.append(granted())
    assert trail.append(granted()) == 2


def test_a_missing_folder_is_said_and_waited_for(tmp_path: Path) -> None:
    trail = trail_at(tmp_path / "log" / "audit.jsonl")
    with pytest.raises(NotWritten, match="its folder does not exist"):
        trail.append(granted())
    (tmp_path / "log").mkdir()
    assert trail.append(granted()) == 1


@pytest.mark.parametrize("trap", ["symlink", "hard link", "fifo", "folder"])
def test_what_is_no_plain_file_of_its_own_is_not_written_to(path: Path, trap: str) -> None:
    victim = path.with_name("victim")
    victim.write_text("precious\n")
    if trap == "symlink":
        path.symlink_to(victim)
    elif trap == "hard link":
        path.hardlink_to(victim)
    elif trap == "fifo":
        os.mkfifo(path)
    else:
        path.mkdir()
    with pytest.raises(NotWritten):
        trail_at(path).append(granting("x"))
    assert victim.read_text() == "precious\n"


def test_nothing_that_was_typed_makes_a_record_too_long_to_go_on_from(path: Path) -> None:
    long = "x" * 100_000
    actor = Actor(0, "root", long)
    event = replace(granted(), device=long, user=long, reason=long, about=long, session=long, message=long, actor=actor)
    assert trail_at(path).append(event) == 1
    assert trail_at(path).append(granted()) == 2, "another process goes on from there"
