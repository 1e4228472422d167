"""What stands between the running server and its audit trail: every event told through the log becomes a record.

What is about to be granted is recorded first, or not granted. All else has happened whether or not it can be written
down: a record that finds the disk full waits here, and is written when there is room again. Of refusals only so many a
minute are recorded each (`sampling`); and with the server's key it is signed now and then how far the trail has come.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections import deque
from collections.abc import Callable

from spa_server.tell.audit import AuditTrail, NotWritten
from spa_server.tell.chain import Signer
from spa_server.tell.events import Event, event_of
from spa_server.tell.sampling import Sampling

LOG = logging.getLogger("spa.audit")

MOST_WAITING = 1000
"""Records kept while none can be written; of more, the oldest are given up, and that is said."""
SYNC_EVERY_S = 60
SIGN_EVERY_S = 60
SIGN_EVERY = 1000
"""After so many records the trail is signed without waiting for the next minute."""
_COMPLAIN_EVERY_S = 60


class Recorder(logging.Handler):
    """A handler of the log that appends the events it sees to the trail. Never raises from there."""

    def __init__(
        self,
        trail: AuditTrail,
        *,
        signer: Signer | None = None,
        is_required: bool = True,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """`signer`: signs with the server's key. `is_required`: whether what cannot be recorded must not be done."""
        super().__init__()
        self.trail = trail
        self._signer = signer
        self._is_required = is_required
        self._signed: tuple[float, int] | None = None
        self._sampling = Sampling()
        self.failures = 0
        """Times that a record could not be written."""
        self._waiting: deque[tuple[int, Event]] = deque(maxlen=MOST_WAITING)
        self._given_up = 0
        self._monotonic = monotonic
        self._complained_s: float | None = None
        self._synced_s = monotonic()

    def record_first(self, event: Event) -> None:
        """Record what is about to be done. Raises NotWritten, and then it must not be done."""
        try:
            self._write_waiting()
            self.trail.append(event)
        except NotWritten as error:
            self.failures += 1
            if self._is_required:
                raise
            self._keep(time.time_ns() // 1_000_000, event)
            self._complain(error)

    def newest(self) -> tuple[int, bytes] | None:
        """Number and hash of the newest record, for answers; None before there is one."""
        return self.trail.newest()

    def emit(self, record: logging.LogRecord) -> None:
        """Record the event that a line tells, if it tells one."""
        event = event_of(record)
        if event is None or not self._sampling.takes(event, self._monotonic()):
            return
        try:
            self._write_waiting()
            self.trail.append(event, int(record.created * 1000))
        except NotWritten as error:
            self.failures += 1
            self._keep(int(record.created * 1000), event)
            self._complain(error)
        except Exception:
            self.handleError(record)

    def settle(self) -> None:
        """Write what waits, and once a minute sign it and force all to the disk; call every turn. Raises NotWritten."""
        now_s = self._monotonic()
        for event in self._sampling.summed(now_s):
            self._keep(time.time_ns() // 1_000_000, event)
        self._write_waiting()
        self._sign(now_s)
        if now_s - self._synced_s >= SYNC_EVERY_S:
            self._synced_s = now_s
            self.trail.sync()

    def left_s(self) -> float | None:
        """Until what is new is to be signed; None where nothing is. What is overdue failed, and is tried again soon."""
        newest = self.trail.newest()
        if self._signer is None or newest is None or self._signed is None or newest[0] <= self._signed[1]:
            return None
        return max(1.0, self._signed[0] + SIGN_EVERY_S - self._monotonic())

    def close(self) -> None:
        """Sign how far the trail has come, and close it."""
        for event in self._sampling.summed(float("inf")):
            self._keep(time.time_ns() // 1_000_000, event)
        with contextlib.suppress(NotWritten):
            self._write_waiting()
            self._sign(float("inf"))
        self.trail.close()
        super().close()

    def _sign(self, now_s: float) -> None:
        """Sign where there is something new, and it is time. Raises NotWritten."""
        newest = self.trail.newest()
        if self._signer is None or newest is None:
            return
        if self._signed is not None:
            signed_s, seq = self._signed
            if newest[0] <= seq or (newest[0] - seq < SIGN_EVERY and now_s - signed_s < SIGN_EVERY_S):
                return
        self._signed = now_s, self.trail.sign(self._signer)

    def _keep(self, time_ms: int, event: Event) -> None:
        self._given_up += len(self._waiting) == MOST_WAITING
        self._waiting.append((time_ms, event))

    def _write_waiting(self) -> None:
        while self._waiting:
            time_ms, event = self._waiting[0]
            self.trail.append(event, time_ms)
            self._waiting.popleft()
        if self._given_up:
            LOG.error("%d records were given up while the audit trail could not be written", self._given_up)
            self._given_up = 0

    def _complain(self, error: NotWritten) -> None:
        now_s = self._monotonic()
        if self._complained_s is None or now_s - self._complained_s >= _COMPLAIN_EVERY_S:
            self._complained_s = now_s
            LOG.warning("what happens cannot be recorded for now: %s", error)
