"""The ways to one address of the server: a connected UDP socket for each of its knock ports.

Connected, so that the system drops whatever comes from elsewhere. It must not know what is sent, or when.
"""

from __future__ import annotations

import contextlib
import socket
from dataclasses import dataclass

from spa_client.addresses import Target, address_of
from spa_protocol.body import Address


@dataclass(frozen=True, slots=True, eq=False)
class Way:
    """One port of one address. `local`: this side's address on it."""

    target: Target
    port: int
    socket: socket.socket
    local: Address

    def send(self, datagram: bytes) -> str:
        """Send it; why it could not be sent, or ""."""
        fault = ""
        # A first failure may be an ICMP error for an earlier datagram, which is reported once.
        for _ in range(2):
            try:
                self.socket.send(datagram)
            except OSError as error:
                fault = error.strerror or str(error)
            else:
                return ""
        return fault

    def __str__(self) -> str:
        return f"{self.target.address} udp/{self.port}"


def open_ways(target: Target, stack: contextlib.ExitStack) -> tuple[Way, ...]:
    """A way for each port of the target, in its order, open as long as the stack. Raises OSError without a route."""
    ways: list[Way] = []
    for sockaddr in target.sockaddrs:
        sock = stack.enter_context(socket.socket(target.family, socket.SOCK_DGRAM))
        sock.setblocking(False)
        sock.connect(sockaddr)
        ways.append(Way(target, sockaddr[1], sock, address_of(sock.getsockname()[0])))
    return tuple(ways)
