"""A step of the wall clock wakes the server at once.

Setting the clock, though by a nanosecond only, makes the kernel call it unsynchronised until its NTP client has a look:
so the test that does it runs only where SPA_MAY_SET_CLOCK is set.
"""

from __future__ import annotations

import ctypes
import os
import select
from collections.abc import Iterator

import pytest

from spa_server.listen.clock_steps import ClockSteps

ADJ_SETOFFSET, ADJ_NANO = 0x0100, 0x2000
PATIENCE_S = 20.0


@pytest.fixture
def steps() -> Iterator[ClockSteps]:
    made = ClockSteps()
    yield made
    made.close()


def set_the_clock(by_ns: int) -> None:
    """adjtimex(2) with ADJ_SETOFFSET: `struct timex` has its flags first and the offset from byte 72, on 64 bits."""
    timex = (ctypes.c_char * 256)()
    ctypes.c_uint.from_buffer(timex).value = ADJ_SETOFFSET | ADJ_NANO
    (ctypes.c_long * 2).from_buffer(timex, 72)[:] = [*divmod(by_ns, 1_000_000_000)]
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.adjtimex(timex) < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def test_nothing_is_heard_while_nobody_sets_the_clock(steps: ClockSteps) -> None:
    assert select.select([steps], (), (), 0)[0] == []
    assert not steps.take()


@pytest.mark.skipif("SPA_MAY_SET_CLOCK" not in os.environ, reason="SPA_MAY_SET_CLOCK is not set")
def test_each_setting_of_the_clock_is_heard_once(steps: ClockSteps) -> None:
    for by_ns in (1, -1):
        set_the_clock(by_ns)
        assert select.select([steps], (), (), PATIENCE_S)[0] == [steps]
        assert steps.take()
        assert not steps.take()
        assert select.select([steps], (), (), 0)[0] == []
