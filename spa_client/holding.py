"""Holding a lease: opened at the start of a block, renewed at half its life, given back at its end.

Theory of operation. A thread waits for half the lease's life, for a move of this computer (`roaming`), or for the end.
Each knock looks up and connects anew, so it follows the network; after a move what was open for the address before is
given back by a close that names it. At the end the door is shut, unless another process of this user still needs it
(`holders`). It must not know who needs the lease, nor how anything is shown.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum
from types import TracebackType

from spa_client.elapsed import elapsed_s
from spa_client.errors import NoAnswer, SlotsUsedUp, SpaError
from spa_client.knocking import Opened, Opening, Request
from spa_client.opening import Wait, close_once, informed, knock_once, knock_until_open
from spa_client.perimeter import Perimeter
from spa_client.posture.collecting import HELD_INTERVAL_S
from spa_client.roaming import Noticed, Watch
from spa_client.second_factor import no_code
from spa_client.session_key import Session
from spa_client.storage import Store
from spa_protocol.body import Address

ASSUMED_LEASE_S = 30
"""The lease of a server that does not say; its default."""
_SHORTEST_PAUSE_S = 1.0
_RETRY_S = 5.0
_LONGEST_RETRY_S = 60.0


class Cause(Enum):
    """Why it was knocked. The values are what scripts read."""

    FIRST = "opened"
    DUE = "renewed"
    MOVED = "moved"
    WOKEN = "woken"
    AGAIN = "reopened"


@dataclass(frozen=True, slots=True)
class Held:
    """The lease stands, from now on as it says in `opened`."""

    cause: Cause
    opened: Opened


@dataclass(frozen=True, slots=True)
class Missed:
    """A knock failed; the next is in `retry_s` seconds, or as soon as this computer moves."""

    error: SpaError
    retry_s: float


@dataclass(frozen=True, slots=True)
class GivenBack:
    """The end. `shut`: whether the door was shut; `error`: why it was not, None where somebody else needs it."""

    shut: bool
    error: SpaError | None = None


Change = Held | Missed | GivenBack


class Holding:
    """While its block runs the lease is held. `report` gets every change, on whichever thread it happens.

    Entering raises what `knock_until_open` does, and what the key's place raises.
    """

    def __init__(
        self,
        store: Store,
        perimeter: Perimeter,
        request: Request,
        *,
        wait: Wait | None = None,
        report: Callable[[Change], None] | None = None,
        session: Session | None = None,
    ) -> None:
        """`session`: as whom to knock, where that outlives this lease or a touch is good for another time."""
        self._session = session or Session(store, perimeter, request.services)
        self._store = self._session.store
        self._perimeter = perimeter
        self._request = request
        self._wait = wait or Wait()
        self._report = report
        self._knocking = threading.Lock()
        self._next_s = self._ends_s = 0.0
        self._failures = 0
        self._holder = self._store.memory(perimeter.name).holders.enter(request.services)
        self._opened: Opened | None = None
        self._watch: Watch | None = None
        self._thread = threading.Thread(target=self._run, name="spa-holding", daemon=True)

    def __enter__(self) -> Holding:
        begun_s = elapsed_s()
        try:
            opened = self._session.first(
                lambda store, perimeter: knock_until_open(store, perimeter, self._request, self._wait)
            )
        except BaseException:
            # Nothing was opened by us, so nothing is given back.
            with self._holder.leave():
                raise
        self._perimeter = self._session.perimeter
        self._watch = Watch(_servers(opened))
        self._take(Cause.FIRST, opened, begun_s)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._watch is not None:
            self._watch.stop()
            # A knock under way that went out after the close would open again.
            self._thread.join()
            self._watch.close()
        self._give_back()

    @property
    def opened(self) -> Opened:
        """What the last knock opened."""
        if self._opened is None:
            raise AssertionError("nothing is held outside the block")
        return self._opened

    def assure(self) -> Opened:
        """What is open; where the lease may have lapsed it is knocked at once, in this thread. Raises as a knock."""
        with self._knocking:
            if elapsed_s() >= self._ends_s:
                self._knock(Cause.AGAIN)
            return self.opened

    def _run(self) -> None:
        watch = self._watch
        while watch is not None:
            noticed = watch.wait(self._next_s)
            if noticed is Noticed.STOPPED:
                return
            with self._knocking:
                cause = {Noticed.MOVED: Cause.MOVED, Noticed.WOKEN: Cause.WOKEN}.get(noticed, Cause.DUE)
                if cause is Cause.DUE and elapsed_s() < self._next_s:
                    continue  # somebody has just knocked
                with contextlib.suppress(SpaError):
                    again = bool(self._failures) and cause is Cause.DUE
                    self._knock(Cause.AGAIN if again else cause, sparing=again)

    def _knock(self, cause: Cause, *, sparing: bool = False) -> None:
        begun_s = elapsed_s()
        try:
            self._perimeter = self._session.fresh(self._perimeter)
            # While the server is away its slots are not used up, for the user may want some.
            # A code was for the first knock: nobody sits there to type another.
            request = replace(self._request, sparing=sparing, facts_s=HELD_INTERVAL_S, code=no_code)
            opened = knock_once(self._store, self._perimeter, request)
        except SlotsUsedUp as used_up:
            self._miss(used_up, used_up.wait_s)
            raise
        except NoAnswer as error:
            if not self._perimeter.answers:
                # It never answers; that the knock went out is all that can be known.
                self._plan(begun_s, 0)
                return
            self._miss(error, self._retry_s())
            raise
        except (SpaError, OSError) as error:
            told = error if isinstance(error, SpaError) else SpaError(str(error))
            self._miss(told, self._retry_s())
            raise told from error
        before = self._opened
        self._take(cause, opened, begun_s)
        if before is not None and cause is not Cause.DUE:
            self._close_behind(_all(before), opened.openings)

    def _take(self, cause: Cause, opened: Opened, begun_s: float) -> None:
        self._perimeter = informed(self._perimeter, opened)
        self._opened = opened
        self._failures = 0
        self._plan(begun_s, opened.left_s)
        if self._watch is not None:
            self._watch.follow(_servers(opened))
        self._tell(Held(cause, opened))

    def _plan(self, begun_s: float, left_s: int) -> None:
        """`left_s` from the server's word on, which came after the knock began."""
        lease_s = left_s or self._request.lease_s or ASSUMED_LEASE_S
        self._ends_s = begun_s + lease_s
        self._next_s = elapsed_s() + max(_SHORTEST_PAUSE_S, lease_s / 2)

    def _retry_s(self) -> float:
        return float(min(_RETRY_S * 2**self._failures, _LONGEST_RETRY_S))

    def _miss(self, error: SpaError, retry_s: float) -> None:
        self._next_s = elapsed_s() + retry_s
        self._failures += 1
        if self._failures == 1:
            self._tell(Missed(error, retry_s))

    def _tell(self, change: Change) -> None:
        if self._report is not None:
            with contextlib.suppress(OSError):
                self._report(change)

    def _close_behind(self, before: tuple[Opening, ...], now: tuple[Opening, ...]) -> None:
        """Shut what was open for an address that this computer no longer has towards the server."""
        families = {opening.source.version for opening in now}
        sources = {opening.source for opening in now}
        behind = [each for each in before if each.source.version in families and each.source not in sources]
        if behind:
            self._close(tuple(behind))

    def _give_back(self) -> None:
        if self._opened is None:
            return
        with self._holder.leave() as services:
            if services is None:
                self._tell(GivenBack(shut=False))
            else:
                self._tell(self._close(_only(services, _all(self._opened))))

    def _close(self, openings: tuple[Opening, ...]) -> GivenBack:
        if not openings:
            return GivenBack(shut=False, error=NoAnswer(f"{self._perimeter.name} has not said what it opened"))
        try:
            close_once(self._store, self._perimeter, replace(self.opened, openings=openings))
        except (SpaError, OSError) as error:
            # It ends by itself all the same.
            return GivenBack(shut=False, error=error if isinstance(error, SpaError) else SpaError(str(error)))
        return GivenBack(shut=True)


def _all(opened: Opened) -> tuple[Opening, ...]:
    """What is open, and what may be for all that is known."""
    return (*opened.openings, *opened.unanswered)


def _servers(opened: Opened) -> tuple[Address, ...]:
    """The server's addresses to which the way matters."""
    return tuple(opening.server for opening in _all(opened)) or opened.addresses


def _only(services: tuple[str, ...], openings: tuple[Opening, ...]) -> tuple[Opening, ...]:
    """What the openings say of these services; none for all."""
    if not services:
        return openings
    parts = [
        replace(opening, services=tuple(each for each in opening.services if each.name in services))
        for opening in openings
    ]
    return tuple(part for part in parts if part.services)
