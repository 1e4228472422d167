"""Holding a lease: knocking again at half its life, in a thread, for as long as it is needed.

Each renewal looks up and connects anew, so it also follows a change of network. It must not know who needs the lease.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from types import TracebackType

from spa_client.errors import NoAnswer, SlotsUsedUp, SpaError
from spa_client.knocking import Opened, Request
from spa_client.opening import informed, knock_once
from spa_client.perimeter import Perimeter
from spa_client.storage import Store

ASSUMED_LEASE_S = 30
"""The lease of a server that does not say; its default."""
_SHORTEST_PAUSE_S = 1.0
_RETRY_S = 5.0


class Renewal:
    """While its block runs, the lease is renewed. `report` gets each failure once, until a renewal succeeds again."""

    def __init__(
        self,
        store: Store,
        perimeter: Perimeter,
        request: Request,
        opened: Opened,
        report: Callable[[SpaError], None] | None = None,
    ) -> None:
        self._store = store
        self._perimeter = informed(perimeter, opened)
        self._request = request
        self._report = report
        self._pause_s = self._half_life_s(opened.left_s)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="spa-renewal", daemon=True)

    def __enter__(self) -> Renewal:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # A renewal that is under way is not waited for: its thread ends by itself, and holds nothing.
        self._stop.set()

    def _half_life_s(self, left_s: int) -> float:
        return max(_SHORTEST_PAUSE_S, (left_s or self._request.lease_s or ASSUMED_LEASE_S) / 2)

    def _run(self) -> None:
        reported = False
        while not self._stop.wait(self._pause_s):
            try:
                opened = knock_once(self._store, self._perimeter, self._request)
                self._perimeter = informed(self._perimeter, opened)
                self._pause_s = self._half_life_s(opened.left_s)
                reported = False
            except SlotsUsedUp as used_up:
                self._pause_s = used_up.wait_s
            except (SpaError, OSError) as error:
                if isinstance(error, NoAnswer) and not self._perimeter.answers:
                    self._pause_s = self._half_life_s(0)
                    continue
                self._pause_s = _RETRY_S
                if self._report is not None and not reported and not self._stop.is_set():
                    reported = True
                    with contextlib.suppress(OSError):
                        self._report(error if isinstance(error, SpaError) else SpaError(str(error)))
