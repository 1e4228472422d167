"""The state file: who may open it, what it survives, and how its faults read."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from spa_server.privilege import acting_as_owner_of
from spa_server.remember.store import FILE_NAME, StateError, Store, open_store
from tests.server.remember.conftest import NOBODY

OPEN_AS_NOBODY = """
import os, sys
from pathlib import Path
from spa_server.remember.store import StateError, open_store
os.setgroups([]); os.setgid(65534); os.setuid(65534)
try:
    open_store(Path(sys.argv[1]), create=True)
except StateError as error:
    print(error)
"""

HOLD_AND_WRITE = """
import os, sys
from pathlib import Path
from spa_server.remember.store import open_store
from spa_server.remember.used import UsedSlots
os.setgroups([]); os.setgid(65534); os.setuid(65534)
store = open_store(Path(sys.argv[1]))
used = UsedSlots(store)
print(used.use(1, 1, 0).name, flush=True)
for line in sys.stdin:
    store.checkpoint()
    print(used.use(1, int(line), 0).name, flush=True)
"""


def test_a_new_state_is_private_and_can_be_opened_again(folder: Path) -> None:
    open_store(folder, create=True).close()
    assert (folder / FILE_NAME).stat().st_mode & 0o777 == 0o600
    open_store(folder).close()


def test_opening_to_create_keeps_what_is_there(folder: Path) -> None:
    with open_store(folder, create=True) as store, store.durable() as connection:
        connection.execute("INSERT INTO boot VALUES (1, 'kept', NULL)")
    with open_store(folder, create=True) as store:
        assert store.rows("SELECT boot_id FROM boot") == [("kept",)]


def test_a_missing_state_says_to_run_init(folder: Path) -> None:
    with pytest.raises(StateError, match="run: spa-server init"):
        open_store(folder)
    with pytest.raises(StateError, match="run: spa-server init"):
        open_store(folder / "missing", create=True)


@pytest.mark.parametrize("mode", [0o755, 0o750, 0o701, 0o711])
def test_a_folder_that_others_can_enter_is_refused_with_the_command_that_mends_it(folder: Path, mode: int) -> None:
    folder.chmod(mode)
    with pytest.raises(StateError, match=f"run: chmod 0700 {folder}"):
        open_store(folder, create=True)


def test_a_file_that_others_can_read_is_refused(folder: Path) -> None:
    open_store(folder, create=True).close()
    (folder / FILE_NAME).chmod(0o644)
    with pytest.raises(StateError, match="run: chmod 0600"):
        open_store(folder)


def test_a_link_in_place_of_the_file_is_not_followed(folder: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_bytes(b"")
    (folder / FILE_NAME).symlink_to(elsewhere)
    for create in (False, True):
        with pytest.raises(StateError, match="not a plain file"):
            open_store(folder, create=create)
    assert elsewhere.read_bytes() == b""


def test_a_file_of_another_user_than_the_folder_is_refused(daemon_folder: Path) -> None:
    with acting_as_owner_of(daemon_folder):
        open_store(daemon_folder, create=True).close()
    os.chown(daemon_folder / FILE_NAME, 0, 0)
    with acting_as_owner_of(daemon_folder), pytest.raises(StateError, match=f"run: chown {NOBODY}"):
        open_store(daemon_folder)


def test_root_opens_no_state_of_another_user_without_becoming_that_user(daemon_folder: Path) -> None:
    with pytest.raises(StateError, match=f"belongs to user {NOBODY}"):
        open_store(daemon_folder, create=True)
    assert list(daemon_folder.iterdir()) == []


def test_acting_as_the_owner_ends_with_the_block(daemon_folder: Path) -> None:
    groups = os.getgroups()
    with acting_as_owner_of(daemon_folder):
        assert (os.geteuid(), os.getegid(), os.getgroups()) == (NOBODY, NOBODY, [NOBODY])
    assert (os.geteuid(), os.getegid(), os.getgroups()) == (0, 0, groups)


def test_a_journal_that_the_daemon_planted_makes_root_delete_nothing(daemon_folder: Path, tmp_path: Path) -> None:
    """A hot rollback journal may name a super-journal, which SQLite deletes once it has rolled back."""
    database = daemon_folder / FILE_NAME
    with acting_as_owner_of(daemon_folder):
        open_store(daemon_folder, create=True).close()
        victim = tmp_path / "victim"
        (daemon_folder / f"{FILE_NAME}-journal").write_bytes(hot_journal(str(victim), database.stat().st_size))
    victim.write_text("precious")
    with acting_as_owner_of(daemon_folder), contextlib.suppress(StateError):
        open_store(daemon_folder).close()
    assert victim.read_text() == "precious"


def hot_journal(super_journal: str, size: int, page: int = 4096) -> bytes:
    """A rollback journal of no page that names a super-journal (https://www.sqlite.org/fileformat.html, section 3)."""
    magic = bytes.fromhex("d9d505f920a163d7")
    head = (magic + struct.pack(">IIIII", 0, 1, size // page, 512, page)).ljust(512, b"\0")
    name = super_journal.encode()
    tail = struct.pack(">I", 0x40000000 // page + 1) + name + struct.pack(">II", len(name), sum(name)) + magic
    return head + tail


def test_a_folder_of_another_user_is_refused(daemon_folder: Path) -> None:
    os.chown(daemon_folder, 0, 0)
    done = subprocess.run(
        [sys.executable, "-c", OPEN_AS_NOBODY, str(daemon_folder)], capture_output=True, text=True, check=True
    )
    assert done.stdout == f"{daemon_folder}: belongs to user 0; run: chown -R {NOBODY} {daemon_folder}\n"


@pytest.mark.parametrize("content", [b"not a database at all, far from it" * 200, b"SQLite format 3\0" + bytes(4000)])
def test_a_damaged_file_is_told_and_left_alone(folder: Path, content: bytes) -> None:
    path = folder / FILE_NAME
    path.write_bytes(content)
    path.chmod(0o600)
    for create in (False, True):
        with pytest.raises(StateError, match="damaged"):
            open_store(folder, create=create)
    assert path.read_bytes() == content


def test_damage_inside_a_table_is_found_at_opening(folder: Path) -> None:
    with open_store(folder, create=True) as store, store.durable() as connection:
        connection.executemany("INSERT INTO used VALUES (?, 1, 1)", [(n,) for n in range(5000)])
    path = folder / FILE_NAME
    content = bytearray(path.read_bytes())
    content[-3 * 4096 :] = b"\xff" * (3 * 4096)
    path.write_bytes(content)
    with pytest.raises(StateError, match="damaged"):
        open_store(folder)
    assert path.read_bytes() == bytes(content)


def test_an_empty_file_is_not_taken_for_a_state(folder: Path) -> None:
    (folder / FILE_NAME).touch(mode=0o600)
    with pytest.raises(StateError, match="run: spa-server init"):
        open_store(folder)


def test_the_format_of_another_version_is_refused(folder: Path) -> None:
    with open_store(folder, create=True) as store, store.durable() as connection:
        connection.execute("PRAGMA user_version=7")
    with pytest.raises(StateError, match="format 7"):
        open_store(folder)


def test_what_fails_inside_a_transaction_leaves_nothing_behind(store: Store) -> None:
    class Stop(Exception):
        pass

    with pytest.raises(Stop), store.quick() as connection:  # noqa: PT012  both statements are what is tested
        connection.execute("INSERT INTO boot VALUES (1, 'x', NULL)")
        raise Stop
    assert store.rows("SELECT * FROM boot") == []
    with store.quick() as connection:
        connection.execute("INSERT INTO boot VALUES (1, 'y', NULL)")
    assert store.rows("SELECT boot_id FROM boot") == [("y",)]


def test_a_writer_that_holds_the_file_delays_the_daemon_only_shortly(folder: Path, store: Store) -> None:
    with (
        open_store(folder, busy_ms=50) as other,
        store.durable(),
        pytest.raises(StateError, match="another process"),
        other.quick(),
    ):
        pass


def test_durable_writes_are_synchronous_and_quick_ones_are_not(store: Store) -> None:
    with store.durable() as connection:
        assert connection.execute("PRAGMA synchronous").fetchone() == (2,)
    with store.quick() as connection:
        assert connection.execute("PRAGMA synchronous").fetchone() == (1,)


def test_only_a_checkpoint_folds_the_log_back(folder: Path, store: Store) -> None:
    log = folder / f"{FILE_NAME}-wal"
    store.checkpoint()
    before = (folder / FILE_NAME).read_bytes()
    for n in range(1200):  # SQLite alone would have folded it back at 1000 pages
        with store.quick() as connection:
            connection.execute("INSERT INTO used VALUES (?, 1, 1)", (n,))
    assert (folder / FILE_NAME).read_bytes() == before
    assert log.stat().st_size > 1000 * 4096
    assert store.checkpoint()
    assert store.checkpoint(truncate=True)
    assert log.stat().st_size == 0


def test_root_writes_while_an_unprivileged_daemon_has_the_state_open(daemon_folder: Path) -> None:
    folder = daemon_folder
    with acting_as_owner_of(folder), open_store(folder, create=True) as store, store.durable() as connection:
        connection.execute("INSERT INTO used VALUES (100, 1, 0)")
    daemon = subprocess.Popen(
        [sys.executable, "-c", HOLD_AND_WRITE, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert daemon.stdin is not None
    assert daemon.stdout is not None
    try:
        assert daemon.stdout.readline() == "FIRST\n"
        for n in range(101, 106):
            with (
                acting_as_owner_of(folder),
                open_store(folder, busy_ms=5000) as store,
                store.durable() as connection,
            ):
                connection.execute("INSERT INTO used VALUES (?, 1, 0)", (n,))
            daemon.stdin.write(f"{n}\n{n + 100}\n")
            daemon.stdin.flush()
            assert [daemon.stdout.readline(), daemon.stdout.readline()] == ["AGAIN\n", "FIRST\n"]
        owners = {file.name: (file.stat().st_uid, file.stat().st_mode & 0o777) for file in folder.iterdir()}
        assert set(owners) == {FILE_NAME, f"{FILE_NAME}-wal", f"{FILE_NAME}-shm"}
        assert set(owners.values()) == {(NOBODY, 0o600)}
    finally:
        daemon.stdin.close()
        assert daemon.wait(timeout=60) == 0
        daemon.stdout.close()


def test_log_files_that_root_makes_first_belong_to_the_daemon(daemon_folder: Path) -> None:
    with (
        acting_as_owner_of(daemon_folder),
        open_store(daemon_folder, create=True) as store,
        store.durable() as connection,
    ):
        connection.execute("INSERT INTO used VALUES (1, 1, 0)")
        assert {file.stat().st_uid for file in daemon_folder.iterdir()} == {NOBODY}
        assert len(list(daemon_folder.iterdir())) == 3


def test_a_broken_rule_of_a_table_is_no_fault_of_the_file(store: Store) -> None:
    with pytest.raises(sqlite3.IntegrityError), store.quick() as connection:
        connection.execute("INSERT INTO boot VALUES (2, 'x', NULL)")
