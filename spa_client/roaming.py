"""Noticing that this computer has moved: another address towards the server, the same one on another network, a sleep.

Theory of operation. What counts is the way to the server: this computer's own address towards each of the server's, as
the system would choose it now. A datagram socket that is connected tells it, and nothing is sent for that. On Linux the
kernel says when there is reason to look; elsewhere it is looked at every few tenths of a second. An address that went
away and came back counts as another one, for it may have come back on another network. It must not know what is done
about it.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import time
from collections.abc import Iterable
from enum import Enum, auto

from spa_client import kernel_news
from spa_client.addresses import address_of, tcp_sockaddr
from spa_client.elapsed import elapsed_s
from spa_protocol.body import Address

_TICK_S = 1.0
"""How often the clock is looked at, for no timer of ours goes on while the computer sleeps."""
_LOOK_S = 0.4
"""How often the way is looked at where nobody says that it changed."""
_SETTLE_S = 0.05
"""Changes come in a row (an address, its route, the other family); they are waited for this long."""
_ASLEEP_S = 5.0
"""A wait that took so much longer than it should was a sleep; or the machine stood still, where a look does no harm."""
_ANY_PORT = 9


class Noticed(Enum):
    """Why the waiting is over."""

    TIME = auto()
    MOVED = auto()
    WOKEN = auto()
    STOPPED = auto()


class Watch:
    """Waits for a time or a move, whichever comes first. `servers`: the addresses that matter."""

    def __init__(self, servers: Iterable[Address]) -> None:
        self._servers = tuple(servers)
        self._news = kernel_news.subscribe()
        self._stop, self._stopped = socket.socketpair()
        self._stop.setblocking(False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._stopped, selectors.EVENT_READ)
        if self._news is not None:
            self._selector.register(self._news, selectors.EVENT_READ)
        self._way = way_to(self._servers)

    def close(self) -> None:
        """Give the sockets back; nobody may be waiting."""
        self._selector.close()
        for each in (self._stop, self._stopped, self._news):
            if each is not None:
                each.close()

    def stop(self) -> None:
        """End the waiting, now and from now on; from any thread."""
        # A full buffer says the same.
        with contextlib.suppress(BlockingIOError):
            self._stop.send(b"\0")

    def follow(self, servers: Iterable[Address]) -> None:
        """From now on these addresses matter; what is known of others is forgotten."""
        self._servers = tuple(servers)
        now = way_to(self._servers)
        self._way = {server: self._way.get(server, own) for server, own in now.items()}

    def wait(self, until_s: float) -> Noticed:
        """Return at that time (of `elapsed_s`), or as soon as there is something else to say."""
        while (left_s := until_s - elapsed_s()) > 0:
            tick_s = min(left_s, _TICK_S if self._news is not None else _LOOK_S)
            begun_s = elapsed_s()
            ready = {key.fileobj for key, _ in self._selector.select(tick_s)}
            if self._stopped in ready:
                return Noticed.STOPPED
            if elapsed_s() - begun_s > tick_s + _ASLEEP_S:
                self._look()
                return Noticed.WOKEN
            if self._news is None or self._news in ready:
                if self._news is not None:
                    time.sleep(_SETTLE_S)
                if self._look():
                    return Noticed.MOVED
        return Noticed.STOPPED if self._is_stopped() else Noticed.TIME

    def _is_stopped(self) -> bool:
        return any(key.fileobj is self._stopped for key, _ in self._selector.select(0))

    def _look(self) -> bool:
        """Whether there is a way that there was not when last looked."""
        gone = kernel_news.read(self._news).gone if self._news is not None else frozenset()
        before = {server: own for server, own in self._way.items() if own not in gone}
        self._way = way_to(self._servers)
        return any(before.get(server) != own for server, own in self._way.items())


def way_to(servers: Iterable[Address]) -> dict[Address, Address]:
    """This computer's own address towards each of the server's that there is a route to. Nothing is sent."""
    way: dict[Address, Address] = {}
    for server in servers:
        family, sockaddr = tcp_sockaddr(server, _ANY_PORT)
        with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect(sockaddr)
            way[server] = address_of(probe.getsockname()[0])
    return way
