"""What fails and is tried again: said once when it begins and once when it ends, and never more than a second apart.

It must not know what any job does.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from spa_server import notify
from spa_server.tell.event_types import FAULT_BEGUN, FAULT_ENDED
from spa_server.tell.events import Event, Outcome, happened

log = logging.getLogger("spa.network")

RETRY_FIRST_S, RETRY_MOST_S = 0.1, 1.0
"""How soon what failed is tried again: after twice as long each time, up to the most."""


class Faults:
    """The jobs that failed when last tried, by name, and why. `expected`: the errors that are a job's failure."""

    def __init__(self, *expected: type[Exception]) -> None:
        self._expected = expected
        self._now: dict[str, str] = {}
        self._retry_s = 0.0

    def __str__(self) -> str:
        return "; ".join(self._now.values())

    def attempt(self, name: str, job: Callable[[], object]) -> bool:
        """Do it; whether it was done."""
        try:
            job()
        except self._expected as error:
            if self._now.get(name) != str(error):
                self._now[name] = str(error)
                message = f"knocks may be refused until this is mended: {error}"
                happened(log, Event(FAULT_BEGUN, message, Outcome.FAILURE, reason=name))
                notify.notify(f"STATUS=fault: {' '.join(str(self).split())}")
            return False
        if self._now.pop(name, None) is not None:
            happened(log, Event(FAULT_ENDED, f"mended: {name}", reason=name))
            notify.notify("STATUS=" + (f"fault: {' '.join(str(self).split())}" if self._now else "serving again"))
        return True

    def next_try_s(self) -> float | None:
        """How long to wait before trying again, or None where nothing has failed; to be asked once a turn."""
        if not self._now:
            self._retry_s = 0.0
            return None
        self._retry_s = min(max(2 * self._retry_s, RETRY_FIRST_S), RETRY_MOST_S)
        return self._retry_s
