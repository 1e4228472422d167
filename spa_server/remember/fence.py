"""The boot fence: what stands in for an fsync at every knock.

A used slot is handed to the kernel but not forced to the disk, so only a crash of the whole machine can lose it, and
such a crash means a new boot. After a boot that is not the recorded one, only windows that no datagram used before the
start can name are open: by the clock, and, should the clock be wrong after the boot, by the highest window that was
used before it (`used.retire_lost`). The start is remembered on the boot-time clock, which no clock step moves
(clock_gettime(2), CLOCK_BOOTTIME; the id is random(4), boot_id).

A state that is not the one that ran last in this boot (an older copy put back, or one whose log was lost) is fenced in
the same way: it does not know the newest use, which the witness does (`witness.py`).

Knows boots and clocks, not slots, devices or why a window is asked about.
"""

from __future__ import annotations

import time
from pathlib import Path

from spa_server.remember.store import Store
from spa_server.remember.used import knows, retire_lost
from spa_server.remember.witness import Witness

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_NEVER_RUN = "never run: inode "
"""In the place of a boot's name, and then the file's own number: a copy of it is another file.

(The boot's name would not do: a container may show its services another one.)
"""


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


def enter_boot(store: Store, witness: Witness, boot_id: str, boottime_ms: int) -> int | None:
    """Record that the server runs in this boot. Returns where its fence stands on the boot-time clock, or None.

    None: the state first ran in this boot, so no record of it can have been lost. Otherwise the fence is at the first
    start of this state within this boot, and later starts do not move it. Raises StateError, and then nothing may be
    granted.
    """
    with store.durable() as connection:
        row: tuple[str, int | None] | None = connection.execute(
            "SELECT boot_id, fenced_at_boottime_ms FROM boot"
        ).fetchone()
        recorded, fenced_at = row or ("", None)
        is_newest = witness.newest is None or knows(connection, witness.newest)
        if is_newest and recorded == boot_id and witness.has_begun:
            return fenced_at
        fenced_at = None if is_newest and recorded == _never_run(store) else boottime_ms
        connection.execute("INSERT OR REPLACE INTO boot VALUES (1, ?, ?)", (boot_id, fenced_at))
        if fenced_at is not None:
            retire_lost(connection, witness.highest_window)
    witness.begin()
    return fenced_at


def mark_new(store: Store) -> None:
    """Record that no server has run on this state yet, so that the first start needs no fence, in whatever boot it is.

    Only for a state that has just been created: it does nothing where a boot is recorded. Raises StateError.
    """
    with store.durable() as connection:
        connection.execute("INSERT OR IGNORE INTO boot VALUES (1, ?, NULL)", (_never_run(store),))


def _never_run(store: Store) -> str:
    return f"{_NEVER_RUN}{store.path.stat().st_ino}"


def read_boot_id() -> str:
    """The kernel's name for this boot."""
    return _BOOT_ID.read_bytes().decode("ascii").strip()


def read_boottime_ms() -> int:
    """Milliseconds since boot, time asleep included."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000
