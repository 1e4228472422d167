"""Word of a step of the wall clock, at once and without polling.

A timer on the real-time clock, set for a time that never comes, is cancelled by the kernel whenever that clock is set
or the machine wakes from sleep (timerfd_create(2), TFD_TIMER_CANCEL_ON_SET). Python has no function for it before 3.13.
It does not say how large the step was: whoever is told compares the clocks.
"""

from __future__ import annotations

import ctypes
import errno
import os
import time

_TFD_NONBLOCK, _TFD_CLOEXEC = os.O_NONBLOCK, os.O_CLOEXEC
_TFD_TIMER_ABSTIME, _TFD_TIMER_CANCEL_ON_SET = 1, 2
_NEVER_S = min(1 << 33, (1 << (8 * ctypes.sizeof(ctypes.c_long) - 1)) - 1)

_libc = ctypes.CDLL(None, use_errno=True)


class ClockSteps:
    """A descriptor that is readable when the clock has been set since `take` was last called."""

    def __init__(self) -> None:
        self._descriptor = _libc.timerfd_create(time.CLOCK_REALTIME, _TFD_NONBLOCK | _TFD_CLOEXEC)
        if self._descriptor < 0:
            raise _error("timerfd_create")
        self._arm()

    def fileno(self) -> int:
        """To wait on."""
        return int(self._descriptor)

    def take(self) -> bool:
        """Whether the clock was set; then word of the next time."""
        try:
            os.read(self._descriptor, 8)
        except BlockingIOError:
            return False
        except OSError as error:
            if error.errno != errno.ECANCELED:
                raise
        self._arm()
        return True

    def close(self) -> None:
        """Hear no more."""
        os.close(self._descriptor)

    def _arm(self) -> None:
        # struct itimerspec: the interval, then the time; each in seconds and nanoseconds.
        never = (ctypes.c_long * 4)(0, 0, _NEVER_S, 0)
        if _libc.timerfd_settime(self._descriptor, _TFD_TIMER_ABSTIME | _TFD_TIMER_CANCEL_ON_SET, never, None) != 0:
            raise _error("timerfd_settime")


def _error(what: str) -> OSError:
    number = ctypes.get_errno()
    return OSError(number, f"{what}: {os.strerror(number)}")
