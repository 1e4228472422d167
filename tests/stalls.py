"""How tests keep time on a machine that may stop any process for seconds at any place.

What a test measures is an interval: something happened between two readings of the clock, and a stall only widens the
interval. What a test can no longer see because it was stopped itself is tried again, a few times. It must not know this
project.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")

PATIENCE_S = 30.0
"""How long an event may take on a busy machine before a test gives it up."""
SLACK_S = 0.1
"""How far from its time a lease may end."""
ATTEMPTS = 3


class TooLate(Exception):
    """An attempt that says nothing, for what it needed had ended before it could look."""


@dataclass(frozen=True, slots=True)
class Between:
    """Something happened at one moment, not before `first_s` and not after `last_s` (monotonic seconds)."""

    first_s: float
    last_s: float

    @property
    def length_s(self) -> float:
        """How long it was from the one reading of the clock to the other."""
        return self.last_s - self.first_s

    def later(self, by_s: float) -> Between:
        """What happens just so much later."""
        return Between(self.first_s + by_s, self.last_s + by_s)

    def can_be(self, other: Between, slack_s: float = 0.0) -> bool:
        """Whether both can be the same moment."""
        return self.first_s <= other.last_s + slack_s and other.first_s <= self.last_s + slack_s


def timed(act: Callable[[], T]) -> tuple[T, Between]:
    """What an action returns, and when it was done."""
    begun_s = time.monotonic()
    result = act()
    return result, Between(begun_s, time.monotonic())


@contextlib.contextmanager
def before(end_s: float) -> Iterator[None]:
    """Raise TooLate in place of a failure in the block, should the block have been at it until that time or later."""
    try:
        yield
    except (AssertionError, OSError) as error:
        if time.monotonic() >= end_s:
            raise TooLate(f"it took longer than it may: {error}") from error
        raise


def in_time(attempt: Callable[[int], T], lengths_s: Sequence[int] = (1, 5, 25)) -> T:
    """The attempt with the first of these lengths of time that is not TooLate."""
    for length_s in lengths_s[:-1]:
        with contextlib.suppress(TooLate):
            return attempt(length_s)
    return attempt(lengths_s[-1])


def wait_until(true: Callable[[], bool], what: str, patience_s: float = PATIENCE_S) -> None:
    """Return as soon as the condition holds; AssertionError naming it when it does not within the time."""
    end_s = time.monotonic() + patience_s
    while not true():
        assert time.monotonic() < end_s, f"not within {patience_s:g} s: {what}"
        time.sleep(0.005)


def promptly(act: Callable[[], T], limit_s: float) -> T:
    """Do it in less than that time, at one of a few attempts; what it returned then."""
    took_s: list[float] = []
    for _ in range(ATTEMPTS):
        begun_s = time.monotonic()
        result = act()
        took_s.append(time.monotonic() - begun_s)
        if took_s[-1] < limit_s:
            return result
    raise AssertionError(f"not within {limit_s:g} s but after " + ", ".join(f"{each:.2f}" for each in took_s))
