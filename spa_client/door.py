"""A local door: connections to this computer go on to a service behind a perimeter, which is opened when one comes.

Theory of operation. One loop carries the bytes of all connections, as they are: TLS stays between the two ends. What
blocks (a knock, connecting, giving back) runs in threads. The first connection opens the lease, the later ones wait for
the same knock; while any lives the lease is held, and when none has for a while it is given back. The end of one
direction is handed on and the other goes on; a connection that breaks breaks on the other side too. It must not know of
terminals.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from spa_client.errors import BadSurroundings, BadUsage, NeverOpened, SpaError
from spa_client.holding import Change, Holding
from spa_client.knocking import Opened, Request
from spa_client.local_peer import is_foreign
from spa_client.perimeter import Perimeter
from spa_client.session_key import Session
from spa_client.storage import Store
from spa_client.waiting import connect

_BUFFER = 1 << 16
_CONNECT_S = 10.0
_CONNECTING_AT_ONCE = 64
_BREAKING = struct.pack("HH" if sys.platform == "win32" else "ii", 1, 0)
"""SO_LINGER on with no time: closing sends a reset."""


@dataclass(frozen=True, slots=True)
class Turned:
    """A connection that was not let through, and why."""

    error: SpaError


class Door:
    """Listens, and lets connections through, until `end` is called.

    `port`: the service's. `idle_s`: how long the lease is kept when no connection lives. `everybody`: let other users
    of this computer in too, where the system tells who is there. `report` gets what happens. `session`: as whom to
    knock.
    """

    def __init__(
        self,
        store: Store,
        perimeter: Perimeter,
        request: Request,
        port: int,
        *,
        idle_s: float,
        everybody: bool = False,
        report: Callable[[Change | Turned], None],
        session: Session | None = None,
    ) -> None:
        self._store = store
        self._perimeter = perimeter
        self._request = request
        self._port = port
        self._idle_s = idle_s
        self._everybody = everybody
        self._report = report
        # One for all leases: a key that has to be touched is not touched for each of them.
        self._session = session or Session(store, perimeter, request.services)
        self._holding: Holding | None = None
        self._changing = asyncio.Lock()
        self._live: set[asyncio.Task[None]] = set()
        self._opening: set[asyncio.Task[Opened]] = set()
        self._idle: asyncio.TimerHandle | None = None
        self._giving_back: asyncio.Task[None] | None = None
        self._over = asyncio.Event()
        self._near: set[int] = set()

    def end(self) -> None:
        """Close the door; to be called on the loop."""
        self._over.set()

    async def serve(self, listeners: Sequence[socket.socket]) -> None:
        """Let connections through until the end; then break those that live, and give back."""
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(_CONNECTING_AT_ONCE))
        self._near = {listener.getsockname()[1] for listener in listeners}
        accepting = [asyncio.create_task(self._accept(listener)) for listener in listeners]
        try:
            await self._over.wait()
        finally:
            for task in (*accepting, *self._live):
                task.cancel()
            await asyncio.gather(*accepting, *self._live, return_exceptions=True)
            await asyncio.gather(*self._opening, return_exceptions=True)
            if self._idle is not None:
                self._idle.cancel()
            await self._give_back()

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        listener.setblocking(False)
        while True:
            try:
                connection, _ = await loop.sock_accept(listener)
            except OSError:
                # Too many open files, most likely; those that wait are kept by the system.
                await asyncio.sleep(0.1)
                continue
            task = asyncio.create_task(self._let_through(connection))
            self._live.add(task)
            task.add_done_callback(self._gone)
            if self._idle is not None:
                self._idle.cancel()
                self._idle = None

    async def _let_through(self, near: socket.socket) -> None:
        with near:
            try:
                if not self._everybody and is_foreign(near):
                    raise BadSurroundings("a connection of another user of this computer was refused")
                far = await self._connect()
            except SpaError as error:
                _break(near)
                self._report(Turned(error))
                return
            with far:
                await _join(near, far)

    async def _connect(self) -> socket.socket:
        opened = await self._opened()
        addresses = [address for address in opened.addresses if not (address.is_loopback and self._port in self._near)]
        if not addresses:
            raise BadUsage(f"the door would lead to itself: give another local port than {self._port} with --listen")
        connected = await asyncio.to_thread(connect, addresses, self._port, _CONNECT_S)
        if connected.connection is None:
            where = f"tcp/{self._port} on {' and '.join(map(str, addresses))}"
            if connected.reason:
                raise BadSurroundings(f"it is open, but {where} turns the connection down: {connected.reason}")
            raise NeverOpened(f"granted, but {where} does not answer; on the server: spa-server doctor")
        connected.connection.setblocking(False)
        return connected.connection

    async def _opened(self) -> Opened:
        """The lease, opened if it is not, and again if it may have lapsed."""
        # A connection that ends meanwhile must not take away the only hold on what its knock is about to open.
        opening = asyncio.create_task(self._open())
        self._opening.add(opening)
        opening.add_done_callback(self._settled)
        return await asyncio.shield(opening)

    async def _open(self) -> Opened:
        async with self._changing:
            if self._over.is_set():
                raise BadSurroundings("the door is being closed")
            if self._holding is None:
                self._holding = await asyncio.to_thread(self._begin)
            return await asyncio.to_thread(self._holding.assure)

    def _settled(self, opening: asyncio.Task[Opened]) -> None:
        self._opening.discard(opening)
        # What went wrong is told to whoever waits for it, if anybody still does.
        if not opening.cancelled():
            opening.exception()

    def _begin(self) -> Holding:
        held = Holding(self._store, self._perimeter, self._request, report=self._report, session=self._session)
        return held.__enter__()

    def _gone(self, task: asyncio.Task[None]) -> None:
        self._live.discard(task)
        if not self._live and not self._over.is_set():
            loop = asyncio.get_running_loop()
            self._idle = loop.call_later(self._idle_s, self._rest)

    def _rest(self) -> None:
        self._giving_back = asyncio.create_task(self._give_back())

    async def _give_back(self) -> None:
        async with self._changing:
            holding = None if self._live else self._holding
            if holding is not None:
                self._holding = None
                await asyncio.to_thread(holding.__exit__, None, None, None)


async def _join(near: socket.socket, far: socket.socket) -> None:
    """Carry both directions until both have ended."""
    near.setblocking(False)
    for each in (near, far):
        with contextlib.suppress(OSError):
            each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    flows = [asyncio.create_task(_flow(near, far)), asyncio.create_task(_flow(far, near))]
    whole = False
    try:
        done, _ = await asyncio.wait(flows, return_when=asyncio.FIRST_EXCEPTION)
        whole = all(flow.exception() is None for flow in done)
    finally:
        for flow in flows:
            flow.cancel()
        await asyncio.gather(*flows, return_exceptions=True)
        if not whole:
            _break(near)
            _break(far)


async def _flow(source: socket.socket, sink: socket.socket) -> None:
    """One direction to its end. Raises OSError when its source breaks."""
    loop = asyncio.get_running_loop()
    buffer = memoryview(bytearray(_BUFFER))
    while count := await loop.sock_recv_into(source, buffer):
        try:
            await loop.sock_sendall(sink, buffer[:count])
        except OSError:
            # It takes no more. What it still has to say, or that it broke, is for the other direction to find.
            return
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_WR)


def _break(connection: socket.socket) -> None:
    """Whoever is at the other end is to learn that this was not the regular end."""
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _BREAKING)
