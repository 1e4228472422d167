"""A clock that goes on while the computer sleeps, for what ends at a time that others keep.

It must not know what ends then.
"""

from __future__ import annotations

import sys
import time


def elapsed_s() -> float:
    """Seconds since some moment; no clock that is set changes it, and the time of a suspension counts.

    `time.monotonic` stands still through a suspension on Linux and macOS, but not on Windows.
    """
    if sys.platform == "linux":
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    if sys.platform == "darwin":
        return time.clock_gettime(time.CLOCK_MONOTONIC)
    return time.monotonic()
