"""The times that judging a knock needs, asked in one place so that tests can set them."""

from __future__ import annotations

import time
from dataclasses import dataclass

from spa_server.remember.fence import read_boottime_ms


@dataclass(frozen=True, slots=True)
class Instant:
    """One moment by both clocks: UTC since 1970, which can be stepped, and time since boot, which cannot."""

    wall_ms: int
    boot_ms: int

    @property
    def wall_s(self) -> int:
        """UTC, whole seconds."""
        return self.wall_ms // 1000

    @property
    def boot_wall_ms(self) -> int:
        """When the machine started, by the wall clock as it stands: changes only when the clock is stepped."""
        return self.wall_ms - self.boot_ms


def system_clock() -> Instant:
    """Now."""
    return Instant(time.time_ns() // 1_000_000, read_boottime_ms())
