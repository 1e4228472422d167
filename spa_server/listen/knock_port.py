"""The sockets on the knock ports over time: kept through restarts by the service manager, exchanged on a reload.

It must not know what comes in on them, only which are open.
"""

from __future__ import annotations

import selectors
import socket
from collections.abc import Callable, Sequence

from spa_server import notify
from spa_server.listen import sockets
from spa_server.service import Address

STORE_NAME = "knock"

Read = Callable[[socket.socket], None]
"""Reads what waits on a socket."""


def open_knock_sockets(addresses: Sequence[Address], ports: Sequence[int]) -> list[socket.socket]:
    """The sockets that the manager kept from before, where they fit, and new ones elsewhere. Raises PortTaken.

    The manager keeps them all from then on, so that a restart, or a SIGKILL, loses neither a port nor what waits.
    """
    kept = notify.stored().pop(STORE_NAME, [])
    bound = sockets.bind_knock_sockets(addresses, ports, kept)
    stale = [sock for sock in kept if sock not in bound]
    if stale or len(kept) != len(bound):
        keep(bound)
    for sock in stale:
        sock.close()
    return bound


def keep(bound: Sequence[socket.socket]) -> None:
    """Have the manager keep these and no others."""
    notify.unstore(STORE_NAME)
    notify.store(STORE_NAME, bound)


class KnockPort:
    """The open sockets, each registered with the selector under `read`."""

    def __init__(self, bound: Sequence[socket.socket], selector: selectors.BaseSelector, read: Read) -> None:
        self._selector = selector
        self._read = read
        self._bound: tuple[socket.socket, ...] = ()
        self._listens = True
        self.move(bound)

    def listen(self, listens: bool) -> None:
        """Whether knocks are read from now on, or left in their sockets."""
        if listens is self._listens:
            return
        self._listens = listens
        for sock in self._bound:
            if listens:
                self._selector.register(sock, selectors.EVENT_READ, self._read)
            else:
                self._selector.unregister(sock)

    def bind(self, addresses: Sequence[Address], ports: Sequence[int]) -> list[socket.socket]:
        """What is to be open by another configuration: those that fit it and new ones. Raises PortTaken."""
        return sockets.bind_knock_sockets(addresses, ports, self._bound)

    def abandon(self, bound: Sequence[socket.socket]) -> None:
        """Close again what `bind` opened."""
        for sock in bound:
            if sock not in self._bound:
                sock.close()

    def move(self, bound: Sequence[socket.socket]) -> bool:
        """Hear knocks on these from now on; whether that is a change. What waits on those that go is read first."""
        come = [sock for sock in bound if sock not in self._bound]
        gone = [sock for sock in self._bound if sock not in bound]
        for sock in come if self._listens else ():
            self._selector.register(sock, selectors.EVENT_READ, self._read)
        self._bound = tuple(bound)
        for sock in gone:
            if self._listens:
                self._selector.unregister(sock)
            self._read(sock)
            sock.close()
        return bool(come or gone)
