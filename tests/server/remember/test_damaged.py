"""A state file in trouble: gone, exchanged or damaged. Nothing is written past it, and what is left of it is kept."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from spa_server.remember.damaged import MOST_COPIES, keep_copy
from spa_server.remember.store import FILE_NAME, StateDamaged, StateError, open_store
from spa_server.remember.used import NotRecorded, Use, UsedSlots


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "state"
    made.mkdir(mode=0o700)
    open_store(made, create=True).close()
    return made


def test_nothing_is_used_while_the_file_is_gone_and_all_goes_on_when_it_is_back(folder: Path) -> None:
    with open_store(folder) as store:
        used = UsedSlots(store)
        assert used.use(1, 10, 0) is Use.FIRST
        folder.rename(folder.with_name("elsewhere"))
        with pytest.raises(NotRecorded, match="deleted or moved away"):
            used.use(1, 10, 1)
        folder.with_name("elsewhere").rename(folder)
        used.settle()
        assert used.use(1, 10, 1) is Use.AGAIN, "what was refused once stays refused"
        assert used.use(1, 10, 2) is Use.FIRST


def test_nothing_is_used_when_another_file_stands_in_its_place(folder: Path) -> None:
    path = folder / FILE_NAME
    with open_store(folder) as store:
        shutil.copy(path, folder / "copy")
        (folder / "copy").rename(path)
        with pytest.raises(StateError, match="restart spa-server"):
            store.check_in_place()
        with pytest.raises(NotRecorded):
            UsedSlots(store).use(1, 10, 0)


def damage(path: Path, byte: int = 0) -> None:
    """Overwrite the file's head, at a time of its own."""
    path.write_bytes(bytes([byte]) * 100 + path.read_bytes()[100:])
    os.utime(path, (1_700_000_000 + byte, 1_700_000_000 + byte))


def test_a_damaged_file_is_told_apart_from_other_trouble(folder: Path) -> None:
    damage(folder / FILE_NAME)
    with pytest.raises(StateDamaged):
        open_store(folder)


def test_a_copy_is_kept_once_for_each_time_that_the_file_changed(folder: Path) -> None:
    path = folder / FILE_NAME
    damage(path)
    copy = keep_copy(path)
    assert copy is not None
    assert copy.name == f"{FILE_NAME}.corrupt-2023-11-14T221320Z"
    assert copy.read_bytes() == path.read_bytes()
    assert copy.stat().st_mode & 0o777 == 0o600
    before = copy.stat().st_ino
    assert keep_copy(path) == copy
    assert copy.stat().st_ino == before


def test_only_the_newest_few_are_kept(folder: Path) -> None:
    path = folder / FILE_NAME
    copies = []
    for byte in range(MOST_COPIES + 2):
        damage(path, byte)
        copies.append(keep_copy(path))
    assert sorted(folder.glob("*.corrupt-*")) == copies[-MOST_COPIES:]


def test_that_no_copy_can_be_kept_is_no_fault_of_its_own(folder: Path) -> None:
    assert keep_copy(folder / "nothing") is None
