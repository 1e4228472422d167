"""What the gate and the knocks ask of the firewall process, in its own terms.

It must not know the kernel: it knows the socket pair's other end, and services by their place in the configuration.
"""

from __future__ import annotations

import socket
from collections.abc import Collection

from spa_server.decide.decision import Grant
from spa_server.enforce.client import FirewallClient, FirewallError
from spa_server.enforce.requests import Wanted
from spa_server.listen.knocks import GrantFailed
from spa_server.service import Service


class FirewallLink:
    """Arms and disarms tags and opens leases, each confirmed by the kernel before the call returns."""

    def __init__(self, channel: socket.socket, services: tuple[Service, ...]) -> None:
        self._client = FirewallClient(channel)
        self._numbers = {service.name: number for number, service in enumerate(services)}

    def arm(self, tags: Collection[bytes], timeout_ms: int) -> None:
        """Raises FirewallError; then some of the tags may be armed all the same."""
        self._client.arm(list(tags), timeout_ms)

    def disarm(self, tags: Collection[bytes]) -> None:
        """Raises FirewallError."""
        self._client.disarm(list(tags))

    def has_ended(self) -> bool:
        """Whether the firewall process is gone, or wants this one to end. Throws away an answer that came too late."""
        return self._client.has_ended()

    def open_leases(self, grant: Grant, label: str) -> tuple[int, ...]:
        """Open all of a grant or nothing; seconds left, service by service. Raises GrantFailed."""
        wanted = [Wanted(self._numbers[item.service.name], item.lease_s) for item in grant.services]
        try:
            return self._client.open_(grant.source, grant.destination, label, wanted)
        except FirewallError as error:
            raise GrantFailed(str(error)) from error
