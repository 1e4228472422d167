"""The steps of a knock, told while they happen to whoever follows them: `knock --explain`, and usually nobody.

Whatever does a step says so here, as others write to a log, so that what lies between it and the follower has nothing
to hand on. Only the thread that follows is followed. It must not know how a step is shown.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Step:
    """One step: when, in milliseconds from the first; its name, which is stable, for scripts; and what was done."""

    at_ms: float
    name: str
    what: str

    def plain(self) -> dict[str, object]:
        """It as JSON holds it."""
        return {"at_ms": round(self.at_ms, 1), "step": self.name, "what": self.what}


@dataclass(frozen=True, slots=True)
class _Follower:
    report: Callable[[Step], None]
    begun_s: float


_follower: ContextVar[_Follower | None] = ContextVar("follower", default=None)


@contextmanager
def followed(report: Callable[[Step], None]) -> Iterator[None]:
    """While the block runs, `report` is called with every step."""
    token = _follower.set(_Follower(report, time.monotonic()))
    try:
        yield
    finally:
        _follower.reset(token)


def tell(name: str, what: str, *values: object) -> None:
    """A step was done; `what` is a format for the values, filled in only when somebody listens."""
    follower = _follower.get()
    if follower is not None:
        at_ms = (time.monotonic() - follower.begun_s) * 1000
        follower.report(Step(at_ms, name, what.format(*values)))
