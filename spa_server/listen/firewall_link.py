"""What the gate and the knocks ask of the firewall process, in its own terms.

It must not know the kernel: it knows the channel's other end, and services by their place in the configuration.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from spa_server.decide.decision import Closing, Grant
from spa_server.digest import perimeter_digest
from spa_server.enforce.client import Events, FirewallClient, FirewallError, FirewallGone, FirewallStale
from spa_server.enforce.requests import MAX_SERVICES, Wanted
from spa_server.listen.knocks import GrantFailed
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


class FirewallLink:
    """Arms and disarms tags and opens leases, each confirmed by the kernel before the call returns.

    `is_stale`: whether the firewall process was found to work from another configuration; a `reload` mends it. Between
    `lose` and `join` there is no firewall process, and whatever is asked raises FirewallGone.
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
        self.join(channel, knock_ports, services)

    @property
    def is_away(self) -> bool:
        """Whether there is no firewall process just now."""
        return self._connection is None

    def join(self, channel: socket.socket, knock_ports: Sequence[int], services: Sequence[Service]) -> None:
        """Ask the one at the other end of `channel` from now on. It has no tag armed, and may be of an older file."""
        self._connection = FirewallClient(channel, perimeter_digest(knock_ports, services), alive=self._alive)
        self._numbers = _numbered(services)

    def lose(self) -> None:
        """The firewall process is gone: close the channel to it."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

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
        self._numbers = _numbered(services)
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
            return self._client.open_(grant.source, grant.destination, label, wanted)
        except FirewallError as error:
            self.is_stale |= isinstance(error, FirewallStale)
            raise GrantFailed(str(error)) from error

    def close_leases(self, closing: Closing, label: str) -> tuple[Service, ...]:
        """Close what the label has open of these; the services of which something was. Raises GrantFailed."""
        ended: list[Service] = []
        try:
            for start in range(0, len(closing.services), MAX_SERVICES):
                some = closing.services[start : start + MAX_SERVICES]
                numbers = [self._numbers[service.name] for service in some]
                counts = self._client.close_leases(closing.source, closing.destination, label, numbers)
                ended += (service for service, count in zip(some, counts, strict=True) if count)
        except FirewallError as error:
            self.is_stale |= isinstance(error, FirewallStale)
            raise GrantFailed(str(error)) from error
        return tuple(ended)


def _numbered(services: Sequence[Service]) -> dict[str, int]:
    return {service.name: number for number, service in enumerate(services)}
