"""Slots: each once, over processes, minutes and unwritable folders."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from spa_client.errors import SlotsUsedUp
from spa_client.perimeter import USUAL_SLOTS
from spa_client.slots import SlotBook

NOON_MS = 1_800_000_000_000
CLAIM_UNTIL_EMPTY = """
import sys
from pathlib import Path
from spa_client.errors import SlotsUsedUp
from spa_client.slots import SlotBook
book = SlotBook(Path(sys.argv[1]), 64)
try:
    while True:
        print(book.claim(int(sys.argv[2])))
except SlotsUsedUp:
    pass
"""


def test_every_slot_of_a_window_is_given_once(tmp_path: Path) -> None:
    book = SlotBook(tmp_path / "slots")
    assert sorted(book.claim(NOON_MS) for _ in range(USUAL_SLOTS)) == list(range(USUAL_SLOTS))


def test_when_all_are_given_the_refusal_says_when_the_next_minute_begins(tmp_path: Path) -> None:
    book = SlotBook(tmp_path)
    for _ in range(USUAL_SLOTS):
        book.claim(NOON_MS)
    with pytest.raises(SlotsUsedUp, match="next minute begins in 20 s") as caught:
        book.claim(NOON_MS + 40_000)
    assert caught.value.wait_s == 20


def test_the_next_window_begins_anew_and_old_markers_go(tmp_path: Path) -> None:
    book = SlotBook(tmp_path)
    for minute in range(100):
        book.claim(NOON_MS + minute * 60_000)
    assert len(list(tmp_path.iterdir())) <= 12


def test_a_clock_set_back_does_not_use_a_slot_again(tmp_path: Path) -> None:
    book = SlotBook(tmp_path, 2)
    first = {book.claim(NOON_MS), book.claim(NOON_MS)}
    book.claim(NOON_MS + 5 * 60_000)
    assert first == {0, 1}
    with pytest.raises(SlotsUsedUp):
        book.claim(NOON_MS)


def test_many_processes_never_get_the_same(tmp_path: Path) -> None:
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", CLAIM_UNTIL_EMPTY, str(tmp_path), str(NOON_MS)], stdout=subprocess.PIPE, text=True
        )
        for _ in range(6)
    ]
    claimed = [int(line) for process in processes for line in process.communicate(timeout=60)[0].split()]
    assert sorted(claimed) == list(range(64))


def test_a_folder_that_cannot_be_written_still_gives_slots(tmp_path: Path) -> None:
    in_the_way = tmp_path / "file"
    in_the_way.write_text("")
    assert {SlotBook(in_the_way / "slots").claim(NOON_MS) for _ in range(400)} == set(range(USUAL_SLOTS))


def test_without_a_folder_slots_are_random() -> None:
    assert {SlotBook(None).claim(NOON_MS) for _ in range(400)} == set(range(USUAL_SLOTS))


def test_strange_files_in_the_folder_do_not_matter(tmp_path: Path) -> None:
    for name in ("README", "-", "1-x", "x-1", ".hidden", f"{NOON_MS // 60_000}-"):
        (tmp_path / name).write_text("")
    (tmp_path / "1-1").mkdir()
    assert SlotBook(tmp_path).claim(NOON_MS) in range(USUAL_SLOTS)
