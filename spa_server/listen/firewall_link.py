"""What the gate and the knocks ask of the firewall process, in its own terms.

It must not know the kernel: it knows the channel's other end, and services by their place in the configuration.
"""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace

from spa_server.decide.decision import Closing, Grant
from spa_server.digest import perimeter_digest
from spa_server.enforce.client import (
    Events,
    FirewallClient,
    FirewallError,
    FirewallGone,
    FirewallSilent,
    FirewallStale,
    Revoked,
    Standing,
)
from spa_server.enforce.held import MAX_HELD, Held
from spa_server.enforce.requests import MAX_SERVICES, Wanted
from spa_server.listen.knocks import GrantFailed
from spa_server.remember.sessions import SessionKey
from spa_server.service import Service

AWAY = "the firewall process (spa-perimeter) is away, and nothing is opened until it is back"


@dataclass(frozen=True, slots=True)
class ServiceCount:
    """Packets to one service's ports, and how many are inside: each pair of a device and a source once."""

    admitted: int
    dropped: int
    leases: int


@dataclass(frozen=True, slots=True)
class PerimeterCounts:
    """What the kernel has counted: datagrams at the knock ports, and service by service."""

    knocks_admitted: int
    knocks_dropped: int
    services: dict[str, ServiceCount]


MOST_TUPLES_REVOKED = 4_096
"""About how many pairs of a host and a port one request takes back: a request is answered within two seconds."""
MOST_UNCONFIRMED = 1_000
"""Grants without an answer that are remembered; each has cost the firewall process its life, or this one seconds."""


@dataclass(frozen=True, slots=True)
class _Unconfirmed:
    """What may have been opened although the device was told that it was not."""

    closing: Closing
    label: str
    end_ms: float
    """When it is over in any case, of CLOCK_MONOTONIC."""


class FirewallLink:
    """Arms and disarms tags and opens leases, each confirmed by the kernel before the call returns.

    `is_stale`: whether the firewall process was found to work from another configuration; a `reload` mends it. Between
    `lose` and `join` there is no firewall process, and whatever is asked raises FirewallGone.

    A grant that was not answered may have been opened: the firewall process may end between the kernel's doing and its
    word. `close_unconfirmed` has the next one take it back; one that is only late does so by itself.
    """

    def __init__(
        self,
        channel: socket.socket,
        knock_ports: Sequence[int],
        services: Sequence[Service],
        alive: Callable[[], None],
    ) -> None:
        """`alive`: called while an answer is waited for, and with each request of many."""
        self.is_stale = False
        self._alive = alive
        self._connection: FirewallClient | None = None
        self._unanswered: list[_Unconfirmed] = []
        self._unconfirmed: list[_Unconfirmed] = []
        self.join(channel, knock_ports, services)

    def alive(self) -> None:
        """Work goes on, though nothing is asked."""
        self._alive()

    @property
    def is_away(self) -> bool:
        """Whether there is no firewall process just now."""
        return self._connection is None

    def join(self, channel: socket.socket, knock_ports: Sequence[int], services: Sequence[Service]) -> None:
        """Ask the one at the other end of `channel` from now on. It has no tag armed, and may be of an older file."""
        self._connection = FirewallClient(channel, perimeter_digest(knock_ports, services), alive=self._alive)
        self._know(services)

    def _know(self, services: Sequence[Service]) -> None:
        self._numbers = {service.name: number for number, service in enumerate(services)}
        self._tuples = {each.name: max(1, len(each.hosts)) * sum(1 for _ in each.ports()) for each in services}

    def lose(self) -> None:
        """The firewall process is gone: close the channel to it."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
            self._unconfirmed = [*self._unconfirmed, *self._unanswered][-MOST_UNCONFIRMED:]
            self._unanswered.clear()

    @property
    def _client(self) -> FirewallClient:
        if self._connection is None:
            raise FirewallGone(AWAY)
        return self._connection

    def reload(self, knock_ports: Sequence[int], services: Sequence[Service]) -> None:
        """Have it read its configuration again and apply it, if it is this one. Raises FirewallError.

        Live leases of services that remain stay. After FirewallSilent it may or may not have done it.
        """
        self._client.reload(perimeter_digest(knock_ports, services))
        self._know(services)
        self.is_stale = False

    def counts(self) -> PerimeterCounts:
        """What the kernel has counted. Raises FirewallError."""
        admitted, dropped, *rest = self._client.counters()
        if len(rest) != 3 * len(self._numbers):
            raise FirewallStale("the firewall process counts other services than this one's configuration has")
        each = zip(self._numbers, rest[::3], rest[1::3], rest[2::3], strict=True)
        return PerimeterCounts(admitted, dropped, {name: ServiceCount(*numbers) for name, *numbers in each})

    def arm(self, tags: Collection[bytes], timeout_ms: int) -> None:
        """Raises FirewallError; then some of the tags may be armed all the same."""
        self._client.arm(list(tags), timeout_ms)

    def disarm(self, tags: Collection[bytes]) -> None:
        """Raises FirewallError."""
        self._client.disarm(list(tags))

    def take_events(self) -> Events:
        """What it let be known by itself since it was last asked; to be asked every turn. Raises FirewallError."""
        return Events(ended=False, disarmed=False) if self.is_away else self._client.take_events()

    def open_leases(self, grant: Grant, label: str) -> tuple[int, ...]:
        """Open all of a grant or nothing; seconds left, service by service. Raises GrantFailed."""
        wanted = [Wanted(self._numbers[item.service.name], item.lease_s) for item in grant.services]
        try:
            left_s = self._client.open_(grant.source, grant.destination, label, wanted)
        except FirewallError as error:
            if isinstance(error, FirewallGone | FirewallSilent) and not self.is_away:
                self._doubt(grant, label)
            self.is_stale |= isinstance(error, FirewallStale)
            raise GrantFailed(str(error)) from error
        # What the device has been told of is not to be taken back.
        self._unanswered = [left for each in self._unanswered if (left := _without(each, grant, label))]
        self._unconfirmed = [left for each in self._unconfirmed if (left := _without(each, grant, label))]
        return left_s

    def close_leases(self, closing: Closing, label: str) -> tuple[Service, ...]:
        """Close what the label has open of these; the services of which something was. Raises GrantFailed."""
        try:
            with self._heeding_staleness():
                return self._close(closing, label)
        except FirewallError as error:
            raise GrantFailed(str(error)) from error

    def revoke_leases(self, held: Sequence[SessionKey]) -> Revoked:
        """Take all of it away at once, flows included; how many leases of each, and flows, that were. FirewallError.

        What is held of a service that the configuration does not have any more has been ended with the service.
        """
        leases, flows = [0] * len(held), 0
        with self._heeding_staleness():
            for batch in self._batches(held):
                revoked = self._client.revoke([each for _, each in batch])
                for (at, _), count in zip(batch, revoked.leases, strict=True):
                    leases[at] = count
                flows += revoked.flows
        return Revoked(tuple(leases), flows)

    def look(self, held: Sequence[SessionKey], *, final: bool) -> tuple[Standing, ...]:
        """What is left of each, and what went through; of a service that is gone, nothing. Raises FirewallError."""
        found = [Standing(0, 0, None)] * len(held)
        with self._heeding_staleness():
            for batch in self._batches(held):
                standings = self._client.look([each for _, each in batch], final=final)
                for (at, _), standing in zip(batch, standings, strict=True):
                    found[at] = standing
        return tuple(found)

    @contextlib.contextmanager
    def _heeding_staleness(self) -> Iterator[None]:
        try:
            yield
        except FirewallError as error:
            self.is_stale |= isinstance(error, FirewallStale)
            raise

    def _batches(self, held: Sequence[SessionKey]) -> Iterator[list[tuple[int, Held]]]:
        """What is held, with its place, as many at a time as are done soon."""
        batch: list[tuple[int, Held]] = []
        tuples = 0
        for at, each in enumerate(held):
            number = self._numbers.get(each.service)
            if number is None:
                continue
            if len(batch) == MAX_HELD or tuples >= MOST_TUPLES_REVOKED:
                yield batch
                batch, tuples = [], 0
            batch.append((at, Held(each.label, each.source, each.destination, number)))
            tuples += self._tuples[each.service]
        if batch:
            yield batch

    def close_unconfirmed(self) -> None:
        """Take back what may have been opened without an answer; to be asked every turn. Raises FirewallError."""
        while self._unconfirmed and not self.is_away and not self.is_stale:
            each = self._unconfirmed[0]
            if time.monotonic() * 1000 < each.end_ms:
                services = tuple(service for service in each.closing.services if service.name in self._numbers)
                self._close(replace(each.closing, services=services), each.label)
            self._unconfirmed.remove(each)

    def _close(self, closing: Closing, label: str) -> tuple[Service, ...]:
        ended: list[Service] = []
        for start in range(0, len(closing.services), MAX_SERVICES):
            some = closing.services[start : start + MAX_SERVICES]
            numbers = [self._numbers[service.name] for service in some]
            counts = self._client.close_leases(closing.source, closing.destination, label, numbers)
            ended += (service for service, count in zip(some, counts, strict=True) if count)
        return tuple(ended)

    def _doubt(self, grant: Grant, label: str) -> None:
        closing = Closing(grant.source, grant.destination, tuple(item.service for item in grant.services))
        longest_s = max((item.lease_s for item in grant.services), default=0)
        end_ms = (time.monotonic() + longest_s) * 1000
        self._unanswered = [*self._unanswered, _Unconfirmed(closing, label, end_ms)][-MOST_UNCONFIRMED:]


def _without(each: _Unconfirmed, grant: Grant, label: str) -> _Unconfirmed | None:
    """What stays in doubt after the grant: closing that must not end what the grant opened.

    A service of other hosts is open to a source whatever address the knock went to.
    """
    closing = each.closing
    if (each.label, closing.source) != (label, grant.source):
        return each
    here = closing.destination == grant.destination
    had = {item.service.name for item in grant.services if here or item.service.hosts}
    left = tuple(service for service in closing.services if service.name not in had)
    return replace(each, closing=replace(closing, services=left)) if left else None
