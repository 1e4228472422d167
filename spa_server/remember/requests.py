"""Wishes that somebody else has to approve, and what came of them.

A wish is of a user for a service. It waits for some time; each approval by another user is written down, and holds for
the time that its approver gave it. A denial ends it. A decision is one durable transaction. Knows rows, not policies:
whether somebody may approve is asked elsewhere; only that nobody approves their own wish is seen to here.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from spa_server.decide.context import Approval
from spa_server.remember.device import RegistryError
from spa_server.remember.store import Store

MOST_WAITING = 5
"""Wishes of one user that wait at a time; of more, the oldest is given up."""
KEPT_S = 7 * 86_400
"""How long what is over is kept, for people to see."""
_NUMBERS = range(100_000, 1_000_000)


class RequestState(StrEnum):
    """How a wish stands."""

    WAITING = "waiting"
    APPROVED = "approved"
    DENIED = "denied"
    REVOKED = "revoked"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True)
class Request:
    """A wish. Times are seconds since 1970, UTC. `by`: who approved, and until when each holds; `denied_by`: or ""."""

    number: int
    user: str
    device: str
    service: str
    asked_s: int
    waits_until_s: int
    denied_by: str
    revoked: bool
    by: tuple[tuple[str, int], ...]

    def state(self, now_s: int) -> RequestState:
        """How it stands now."""
        if self.revoked:
            return RequestState.REVOKED
        if self.denied_by:
            return RequestState.DENIED
        if any(until_s > now_s for _, until_s in self.by):
            return RequestState.APPROVED
        return RequestState.WAITING if self.is_open(now_s) else RequestState.EXPIRED

    def is_open(self, now_s: int) -> bool:
        """Whether it can still be decided on: a wish of two approvals is, when one has been given.

        What was approved and has run out is over: the next wish is a new one, of which people are told.
        """
        if self.by and all(until_s <= now_s for _, until_s in self.by):
            return False
        return not (self.revoked or self.denied_by) and self.asked_s - KEPT_S < now_s < self.waits_until_s


class Requests:
    """The wishes in one store. `draw` gives the numbers."""

    def __init__(self, store: Store, draw: Callable[[], int] = lambda: secrets.choice(_NUMBERS)) -> None:
        self._store = store
        self._draw = draw

    def ask(self, user: str, device: str, service: str, now_s: int, waits_s: int) -> tuple[Request, bool]:
        """Note a wish, and whether it is a new one: the same wish while one waits is that one. Raises StateError."""
        for each in self._requests("WHERE user = ? AND service = ?", user, service):
            if each.is_open(now_s):
                return each, False
        with self._store.durable() as connection:
            number = self._draw()
            while connection.execute("SELECT 1 FROM request WHERE number = ?", (number,)).fetchone():
                number = self._draw()
            connection.execute(
                "DELETE FROM request WHERE waits_until_s <= ?1 AND number NOT IN"
                " (SELECT number FROM approval WHERE until_s > ?1)",
                (now_s - KEPT_S,),
            )
            connection.execute(
                "UPDATE request SET waits_until_s = min(waits_until_s, ?1) WHERE user = ?2 AND number IN"
                " (SELECT number FROM request WHERE user = ?2 AND waits_until_s > ?1 AND denied_by = ''"
                " AND NOT revoked ORDER BY asked_s DESC LIMIT -1 OFFSET ?3)",
                (now_s, user, MOST_WAITING - 1),
            )
            connection.execute(
                "INSERT INTO request (number, user, device, service, asked_s, waits_until_s, denied_by, revoked)"
                " VALUES (?, ?, ?, ?, ?, ?, '', 0)",
                (number, user, device, service, now_s, now_s + waits_s),
            )
        return self.request(number), True

    def request(self, number: int) -> Request:
        """The wish of this number. Raises RegistryError where there is none."""
        found = self._requests("WHERE number = ?", number)
        if not found:
            raise RegistryError(f"there is no request {number}; see: spa-server request list")
        return found[0]

    def requests(self) -> tuple[Request, ...]:
        """All that are known, the newest first. Raises StateError."""
        return self._requests("")

    def decide(self, number: int, by: str, *, approve: bool, until_s: int, now_s: int) -> Request:
        """Approve or deny it, by a user. `until_s`: until when the approval holds.

        Raises RegistryError for what does not wait, and where somebody would approve their own wish.
        """
        with self._store.durable() as connection:
            request = self.request(number)
            if not request.is_open(now_s):
                said = request.state(now_s).value
                raise RegistryError(f"request {number} does not wait any more: it is {said}")
            if request.user == by:
                raise RegistryError(f"request {number} is {by}'s own; somebody else has to decide on it")
            if approve:
                connection.execute("INSERT OR REPLACE INTO approval VALUES (?, ?, ?)", (number, by, until_s))
            else:
                connection.execute("UPDATE request SET denied_by = ? WHERE number = ?", (by, number))
                connection.execute("DELETE FROM approval WHERE number = ?", (number,))
        return self.request(number)

    def revoke(self, number: int) -> Request:
        """Take back what was approved. Raises RegistryError."""
        with self._store.durable() as connection:
            self.request(number)
            connection.execute("UPDATE request SET revoked = 1 WHERE number = ?", (number,))
            connection.execute("DELETE FROM approval WHERE number = ?", (number,))
        return self.request(number)

    def approval(self, user: str, service: str, now_s: int, longest_s: int) -> Approval:
        """Who lets the user have the service now, and for how long all of them yet do. Raises StateError.

        One that would hold for longer than any may was given before the clock was set back, and does not count.
        """
        rows = self._store.rows(
            "SELECT by_user, max(until_s) FROM approval JOIN request USING (number)"
            " WHERE user = ? AND service = ? AND until_s > ? AND until_s <= ? AND by_user != user GROUP BY by_user",
            user,
            service,
            now_s,
            now_s + longest_s,
        )
        if not rows:
            return Approval()
        return Approval(frozenset(by for by, _ in rows), min(until_s for _, until_s in rows) - now_s)

    def _requests(self, where: str, *values: object) -> tuple[Request, ...]:
        rows = self._store.rows(f"{_SELECT} {where} ORDER BY asked_s DESC, number", *values)
        found = []
        for number, user, device, service, asked_s, waits_until_s, denied_by, revoked in rows:
            by = self._store.rows("SELECT by_user, until_s FROM approval WHERE number = ? ORDER BY by_user", number)
            pairs = tuple(map(_pair, by))
            when = asked_s, waits_until_s
            found.append(Request(number, user, device, service, *when, denied_by, bool(revoked), pairs))
        return tuple(found)


_SELECT = "SELECT number, user, device, service, asked_s, waits_until_s, denied_by, revoked FROM request"


def _pair(row: tuple[str, int]) -> tuple[str, int]:
    return row[0], row[1]
