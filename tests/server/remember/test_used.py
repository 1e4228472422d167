"""At most once: over duplicates, pruning, other processes, sudden death and a full disk."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from spa_server.remember.fence import enter_boot, mark_new
from spa_server.remember.store import Store, open_store
from spa_server.remember.used import NotRecorded, Use, UsedSlots
from spa_server.remember.witness import Witness

KEEP, MOST = 4, 8

USE_AND_TELL = """
import sys
from pathlib import Path
from spa_server.remember.store import open_store
from spa_server.remember.used import UsedSlots
used = UsedSlots(open_store(Path(sys.argv[1])))
for line in sys.stdin:
    window = int(line)
    while True:
        print(window, used.use(1, window, 0).name, flush=True)
        window += 1
"""


def test_a_slot_is_used_once_and_then_again(store: Store) -> None:
    used = UsedSlots(store)
    assert [used.use(1, 5, 3) for _ in range(3)] == [Use.FIRST, Use.AGAIN, Use.AGAIN]


def test_every_part_of_the_key_counts(store: Store) -> None:
    used = UsedSlots(store)
    keys = [(1, 5, 3), (2, 5, 3), (1, 6, 3), (1, 5, 4)]
    assert {used.use(*key) for key in keys} == {Use.FIRST}
    assert {used.use(*key) for key in keys} == {Use.AGAIN}


def test_a_pruned_window_is_retired_and_stays_so_after_reopening(folder: Path, store: Store) -> None:
    used = UsedSlots(store)
    for window in range(10):
        used.use(1, window, 0)
    assert used.prune(KEEP, MOST) == 6
    assert used.use(1, 5, 0) is Use.RETIRED
    assert used.use(99, 5, 7) is Use.RETIRED
    assert used.use(1, 6, 0) is Use.AGAIN
    store.close()
    with open_store(folder) as again:
        assert UsedSlots(again).use(1, 5, 0) is Use.RETIRED
        assert UsedSlots(again).use(1, 6, 0) is Use.AGAIN


def test_the_first_use_of_a_window_is_forced_to_the_disk_and_the_others_are_not(store: Store) -> None:
    used = UsedSlots(store)
    with store.quick():
        pass
    forced: list[str] = []
    store._connection.set_trace_callback(forced.append)
    for window, slot in ((7, 0), (7, 1), (8, 0), (7, 2), (8, 1)):
        assert used.use(1, window, slot) is Use.FIRST
    store._connection.set_trace_callback(None)
    assert [line.rpartition("=")[2] for line in forced if "synchronous" in line] == ["FULL", "NORMAL", "FULL", "NORMAL"]


def test_after_another_boot_no_window_that_could_have_been_used_is_open_whatever_the_clock_says(
    folder: Path, store: Store, witness: Witness
) -> None:
    mark_new(store)
    enter_boot(store, witness, "boot-a", 100)
    used = UsedSlots(store)
    used.use(1, 70, 0)
    used.use(1, 69, 0)
    # What a power cut takes: all that was not forced.
    with store.durable() as connection:
        connection.execute("DELETE FROM used")
    enter_boot(store, witness, "boot-b", 5000)
    again = UsedSlots(store)
    assert [again.use(1, window, 0) for window in (69, 70, 71)] == [Use.RETIRED, Use.RETIRED, Use.FIRST]
    assert again.first_window() == 71


def test_a_window_is_pruned_whole(store: Store) -> None:
    used = UsedSlots(store)
    for window, slots in ((1, 3), (2, 5), (3, 2)):
        for slot in range(slots):
            used.use(1, window, slot)
    assert used.prune(KEEP, MOST) == 8
    assert used.count() == 2
    assert used.use(1, 2, 15) is Use.RETIRED


def test_nothing_is_pruned_up_to_the_limit(store: Store) -> None:
    used = UsedSlots(store)
    for window in range(MOST):
        used.use(1, window, 0)
    assert used.prune(KEEP, MOST) == 0
    assert used.use(1, 0, 1) is Use.FIRST


def test_what_the_live_windows_can_hold_is_never_pruned(store: Store) -> None:
    used = UsedSlots(store)
    for window in range(6):
        for slot in range(2):
            used.use(1, window, slot)
        used.prune(KEEP, KEEP)
        live = {(window, slot) for window in range(max(0, window - 1), window + 1) for slot in range(2)}
        assert set(store.rows("SELECT window, slot FROM used")) == live


def test_two_processes_never_both_use_a_slot_first(folder: Path, store: Store) -> None:
    with open_store(folder) as other:
        here, there = UsedSlots(store), UsedSlots(other)
        for window in range(50):
            pair = [
                (here if window % 2 else there).use(1, window, 0),
                (there if window % 2 else here).use(1, window, 0),
            ]
            assert pair == [Use.FIRST, Use.AGAIN]


@pytest.mark.parametrize("cause", ["PRAGMA query_only=ON", "DROP TABLE used"])
def test_what_cannot_be_written_is_not_recorded(store: Store, cause: str) -> None:
    with store.quick():
        pass
    store.rows(cause)
    with pytest.raises(NotRecorded):
        UsedSlots(store).use(1, 1, 1)


def test_a_locked_file_is_not_recorded_and_later_is(folder: Path, store: Store) -> None:
    with open_store(folder, busy_ms=20) as daemon:
        used = UsedSlots(daemon)
        with store.durable(), pytest.raises(NotRecorded, match="another process"):
            used.use(1, 1, 1)
        assert used.use(1, 1, 1) is Use.AGAIN, "what was refused once stays refused"
        assert used.use(1, 1, 2) is Use.FIRST


def test_a_number_beyond_the_file_is_not_recorded(store: Store) -> None:
    with pytest.raises(NotRecorded):
        UsedSlots(store).use(1, 1 << 70, 0)
    assert UsedSlots(store).use(1, 1, 0) is Use.FIRST


def test_what_was_told_before_kill_9_is_still_used(folder: Path, store: Store) -> None:
    used = UsedSlots(store)
    for round_ in range(40):
        child = subprocess.Popen(
            [sys.executable, "-c", USE_AND_TELL, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdin.write(f"{round_ * 1_000_000}\n")
        child.stdin.flush()
        told = [child.stdout.readline() for _ in range(1 + round_ % 7)]
        os.kill(child.pid, signal.SIGKILL)
        told += child.stdout.readlines()
        child.wait()
        child.stdin.close()
        child.stdout.close()
        whole = [line.split() for line in told if line.endswith("\n")]
        assert {answer for _, answer in whole} == {"FIRST"}
        assert {used.use(1, int(window), 0) for window, _ in whole} == {Use.AGAIN}


def test_a_full_disk_is_not_recorded_and_works_again_once_there_is_space(tmp_path: Path) -> None:
    script = tmp_path / "full.py"
    script.write_text(FULL_DISK)
    mount_point = tmp_path / "small"
    mount_point.mkdir()
    done = subprocess.run(
        ["unshare", "--mount", "--propagation", "private", sys.executable, str(script), str(mount_point)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(Path.cwd())},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["full", "resumed", "kept"]


FULL_DISK = """
import os, subprocess, sys
from pathlib import Path
from spa_server.remember.refusals import RefusalRing, Refused
from spa_server.remember.store import open_store
from spa_server.remember.used import NotRecorded, Use, UsedSlots
from ipaddress import ip_address

mount = Path(sys.argv[1])
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512k,mode=0700", "tmpfs", str(mount)], check=True)
with open_store(mount, create=True) as store:
    used = UsedSlots(store)
    ballast = mount / "ballast"
    done = [window for window in range(5) if used.use(1, window, 0) is Use.FIRST]
    with ballast.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            pass
    window, refused = 5, []
    while len(refused) < 20 and window < 2000:
        try:
            assert used.use(1, window, 0) is Use.FIRST
            done.append(window)
        except NotRecorded as error:
            assert "disk is full" in str(error), error
            refused.append(window)
        window += 1
    assert len(refused) == 20
    RefusalRing(store).add(Refused(1, "a", ip_address("::1"), "STALE", "", 0))
    print("full")
    ballast.unlink()
    assert used.use(1, window, 0) is Use.FIRST
    print("resumed")
    assert {used.use(1, w, 0) for w in done} == {Use.AGAIN}
    assert {used.use(1, w, 0) for w in refused} == {Use.AGAIN}
    used.settle()
with open_store(mount) as store:
    assert {UsedSlots(store).use(1, w, 0) for w in done + refused} == {Use.AGAIN}
print("kept")
"""


class UsedSlotsMachine(RuleBasedStateMachine):
    """Against a model that never forgets: no slot is first twice, whatever is pruned or reopened, in any order.

    Windows are drawn freely, forward and back: to the record a clock step is nothing but a window out of order.
    """

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="spa-used-"))
        self.store = open_store(self.folder, create=True)
        self.used = UsedSlots(self.store)
        self.ever: set[tuple[int, int, int]] = set()
        self.floor = -1

    @rule(credential=st.integers(1, 2), window=st.integers(0, 12), slot=st.integers(0, 1))
    def use(self, credential: int, window: int, slot: int) -> None:
        key = (credential, window, slot)
        found = self.used.use(*key)
        if window < self.floor:
            assert found is Use.RETIRED
        else:
            assert found is (Use.AGAIN if key in self.ever else Use.FIRST)
        self.ever.add(key)

    @rule()
    def prune(self) -> None:
        held = sorted((key for key in self.ever if key[1] >= self.floor), key=lambda key: key[1])
        gone = self.used.prune(KEEP, MOST)
        if len(held) <= MOST:
            assert gone == 0
            return
        assert gone >= len(held) - KEEP
        self.floor = held[gone - 1][1] + 1
        assert all(key[1] >= self.floor for key in held[gone:])
        assert self.used.count() <= KEEP

    @rule()
    def reopen(self) -> None:
        self.store.close()
        self.store = open_store(self.folder)
        self.used = UsedSlots(self.store)

    @precondition(lambda self: self.ever)
    @rule()
    def checkpoint(self) -> None:
        assert self.store.checkpoint()

    @invariant()
    def nothing_used_is_fresh(self) -> None:
        rows = set(self.store.rows("SELECT credential_id, window, slot FROM used"))
        assert {key for key in self.ever if key[1] >= self.floor} <= rows

    def teardown(self) -> None:
        self.store.close()
        shutil.rmtree(self.folder)


TestUsedSlots = UsedSlotsMachine.TestCase
TestUsedSlots.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
