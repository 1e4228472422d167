"""The boot fence: after another boot, nothing that could have been used before the start is open."""

from __future__ import annotations

import time
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from spa_server.remember.fence import (
    enter_boot,
    first_open_window,
    mark_new,
    read_boot_id,
    read_boottime_ms,
)
from spa_server.remember.store import Store, open_store
from spa_server.remember.used import UsedSlots
from spa_server.remember.witness import Slot, Witness

WINDOW_S = 60
SKEW_MS = 60_000


def first_open(now_ms: int, boottime_ms: int, fenced_at_ms: int, max_skew_ms: int = SKEW_MS) -> int:
    return first_open_window(now_ms, boottime_ms, fenced_at_ms, window_s=WINDOW_S, max_skew_ms=max_skew_ms)


def test_without_skew_only_windows_that_begin_after_the_start_are_open() -> None:
    assert first_open(600_000, 5000, 5000, 0) == 11
    assert first_open(599_999, 5000, 5000, 0) == 10
    assert first_open(600_001, 5000, 5000, 0) == 11


def test_the_fence_stays_where_it_was_as_time_passes() -> None:
    assert first_open(600_000, 5000, 5000) == first_open(900_000, 305_000, 5000) == 12


@given(
    started_ms=st.integers(0, 1 << 45),
    before_ms=st.integers(1, 1 << 40),
    skew_ms=st.integers(-SKEW_MS, SKEW_MS),
    after_ms=st.integers(0, 1 << 40),
)
def test_no_window_that_a_client_used_before_the_start_is_open(
    started_ms: int, before_ms: int, skew_ms: int, after_ms: int
) -> None:
    used_window = (started_ms - before_ms + skew_ms) // (WINDOW_S * 1000)
    assert used_window < first_open(started_ms + after_ms, after_ms, 0)


@given(step_ms=st.integers(-(1 << 40), 1 << 40), after_ms=st.integers(0, 1 << 40))
def test_a_clock_step_after_the_start_moves_the_fence_along(step_ms: int, after_ms: int) -> None:
    now_ms = (1 << 42) + step_ms
    begins_ms = first_open(now_ms, 7000 + after_ms, 7000) * WINDOW_S * 1000
    assert now_ms - after_ms + SKEW_MS < begins_ms <= now_ms - after_ms + SKEW_MS + WINDOW_S * 1000


def test_a_new_state_needs_no_fence_in_whatever_boot_it_first_runs(store: Store, witness: Witness) -> None:
    mark_new(store)
    assert enter_boot(store, witness, "boot-a", 5000) is None
    assert enter_boot(store, witness, "boot-a", 9000) is None
    assert enter_boot(store, witness, "boot-b", 300) == 300, "by then it may have lost something"


def test_another_boot_sets_a_fence_that_later_starts_find(folder: Path, store: Store, witness: Witness) -> None:
    mark_new(store)
    assert enter_boot(store, witness, "boot-a", 100) is None
    assert enter_boot(store, witness, "boot-b", 5000) == 5000
    assert enter_boot(store, witness, "boot-b", 9000) == 5000
    store.close()
    with open_store(folder) as again:
        assert enter_boot(again, witness, "boot-b", 20_000) == 5000
        assert enter_boot(again, witness, "boot-c", 300) == 300


def test_a_state_without_a_boot_record_is_fenced(store: Store, witness: Witness) -> None:
    assert enter_boot(store, witness, "boot-a", 5000) == 5000


def test_a_state_that_has_run_is_not_new_again(store: Store, witness: Witness) -> None:
    enter_boot(store, witness, "boot-a", 5000)
    mark_new(store)
    assert enter_boot(store, witness, "boot-a", 9000) == 5000


def test_this_boot_has_a_name_and_a_clock() -> None:
    assert read_boot_id() == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    before_ms = time.clock_gettime(time.CLOCK_BOOTTIME) * 1000
    told_ms = read_boottime_ms()
    assert before_ms - 1000 < told_ms < time.clock_gettime(time.CLOCK_BOOTTIME) * 1000 + 1000


def test_a_state_that_does_not_know_the_newest_use_is_fenced_once(store: Store, witness: Witness) -> None:
    mark_new(store)
    enter_boot(store, witness, "boot-a", 100)
    witness.note(Slot(1, 70, 0))
    assert enter_boot(store, witness, "boot-a", 5000) == 5000
    assert UsedSlots(store).first_window() == 71
    assert enter_boot(store, witness, "boot-a", 9000) == 5000


def test_a_state_that_knows_the_newest_use_is_not_fenced(store: Store, witness: Witness) -> None:
    mark_new(store)
    enter_boot(store, witness, "boot-a", 100)
    used = UsedSlots(store, witness)
    used.use(1, 70, 0)
    used.use(1, 60, 0)
    assert enter_boot(store, witness, "boot-a", 5000) is None
    used.prune(1, 2)
    used.use(1, 71, 0)
    used.use(1, 72, 0)
    used.prune(1, 2)
    assert enter_boot(store, witness, "boot-a", 5000) is None, "what was pruned is retired, which is known, too"


def test_a_state_that_ran_in_this_boot_is_fenced_where_nothing_witnesses_it(
    store: Store, witness: Witness, tmp_path: Path
) -> None:
    mark_new(store)
    enter_boot(store, witness, "boot-a", 100)
    assert enter_boot(store, Witness.open(tmp_path / "lost"), "boot-a", 5000) == 5000


def test_a_copy_of_a_state_that_never_ran_is_not_new(folder: Path, store: Store, witness: Witness) -> None:
    mark_new(store)
    store.close()
    path = folder / "state.sqlite3"
    copy = path.with_name("copy")
    copy.write_bytes(path.read_bytes())
    copy.chmod(0o600)
    copy.rename(path)
    with open_store(folder) as again:
        assert enter_boot(again, witness, "boot-a", 5000) == 5000
