"""The boot fence: what stands in for an fsync at every knock.

A used slot is handed to the kernel but not forced to the disk, so only a crash of the whole machine can lose it, and
such a crash means a new boot. After a boot that is not the recorded one, only windows that no datagram used before the
start can name are open: by the clock, and, should the clock be wrong after the boot, by the highest window that was
used before it (`used.retire_unforced`). The start is remembered on the boot-time clock, which no clock step moves
(clock_gettime(2), CLOCK_BOOTTIME; the id is random(4), boot_id).

Knows boots and clocks, not slots, devices or why a window is asked about.
"""

from __future__ import annotations

import time
from pathlib import Path

from spa_server.remember.store import Store
from spa_server.remember.used import retire_unforced

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_NEVER_RUN = ""
"""In the place of a boot's name. (The name itself would not do: a container may show its services another one.)"""


def first_open_window(
    now_ms: int, boottime_ms: int, fenced_at_boottime_ms: int, *, window_s: int, max_skew_ms: int
) -> int:
    """The number of the first window that is open behind a fence set at `fenced_at_boottime_ms`.

    When the start was by the wall clock is worked out anew from how long ago it was, so that setting the clock after
    the start moves the fence along with it. `max_skew_ms` is how far ahead of ours a client's clock may run: before
    the crash such a client may have used a window that, by our clock, only begins after the start.
    """
    started_ms = now_ms - (boottime_ms - fenced_at_boottime_ms)
    return (started_ms + max_skew_ms) // (window_s * 1000) + 1


def enter_boot(store: Store, boot_id: str, boottime_ms: int) -> int | None:
    """Record that the server runs in this boot. Returns where its fence stands on the boot-time clock, or None.

    None: the state first ran in this boot, so no record of it can have been lost. Otherwise the fence is at the first
    start within this boot, and later starts do not move it. Raises StateError, and then nothing may be granted.
    """
    with store.durable() as connection:
        row = connection.execute("SELECT boot_id, fenced_at_boottime_ms FROM boot").fetchone()
        if row is not None and row[0] == boot_id:
            fenced_at: int | None = row[1]
            return fenced_at
        is_new = row is not None and row[0] == _NEVER_RUN
        connection.execute("INSERT OR REPLACE INTO boot VALUES (1, ?, ?)", (boot_id, None if is_new else boottime_ms))
        if is_new:
            return None
        retire_unforced(connection)
        return boottime_ms


def mark_new(store: Store) -> None:
    """Record that no server has run on this state yet, so that the first start needs no fence, in whatever boot it is.

    Only for a state that has just been created: it does nothing where a boot is recorded. Raises StateError.
    """
    with store.durable() as connection:
        connection.execute("INSERT OR IGNORE INTO boot VALUES (1, ?, NULL)", (_NEVER_RUN,))


def read_boot_id() -> str:
    """The kernel's name for this boot."""
    return _BOOT_ID.read_bytes().decode("ascii").strip()


def read_boottime_ms() -> int:
    """Milliseconds since boot, time asleep included."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000
