"""A step of the wall clock wakes the server at once.

Setting the clock, though by a nanosecond only, makes the kernel call it unsynchronised until its NTP client has a look,
and is felt by everything on the machine. So it is not set here: that the kernel was asked to end the wait at any
setting is read from the kernel, and the wait is ended by letting the timer run out.
"""

from __future__ import annotations

import os
import re
import select
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from spa_server.listen.clock_steps import ClockSteps
from tests.chaos.syscalls import end_timers

ABSTIME, CANCEL_ON_SET = 1, 2
"""timerfd_create(2)."""
PATIENCE_S = 20.0


@pytest.fixture
def steps() -> Iterator[ClockSteps]:
    made = ClockSteps()
    yield made
    made.close()


def asked_of_the_kernel(steps: ClockSteps) -> dict[str, int]:
    """What it knows of the timer, from proc(5): which clock, and the flags it was set with, in octal."""
    text = Path(f"/proc/self/fdinfo/{steps.fileno()}").read_text()
    found = {name: re.search(rf"^{name}: (\d+)$", text, re.MULTILINE) for name in ("clockid", "settime flags", "ticks")}
    return {name: int(value[1], 8) for name, value in found.items() if value is not None}


def test_nothing_is_heard_while_nobody_sets_the_clock(steps: ClockSteps) -> None:
    assert select.select([steps], (), (), 0)[0] == []
    assert not steps.take()


def test_the_kernel_is_asked_for_word_of_every_setting_of_the_real_time_clock(steps: ClockSteps) -> None:
    asked = {"clockid": time.CLOCK_REALTIME, "settime flags": ABSTIME | CANCEL_ON_SET, "ticks": 0}
    assert asked_of_the_kernel(steps) == asked
    end_timers(os.getpid())
    assert asked_of_the_kernel(steps)["settime flags"] == 0
    assert select.select([steps], (), (), PATIENCE_S)[0] == [steps]
    steps.take()
    assert asked_of_the_kernel(steps) == asked, "and once more afterwards"


def test_each_is_heard_once(steps: ClockSteps) -> None:
    for _ in range(2):
        assert end_timers(os.getpid()) == 1
        assert select.select([steps], (), (), PATIENCE_S)[0] == [steps]
        assert steps.take()
        assert not steps.take()
        assert select.select([steps], (), (), 0)[0] == []
