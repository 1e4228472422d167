"""The client from asyncio: the pinhole, held in a thread of its own while the event loop goes on.

The thread opens, waits for the block's end, and gives back. Whoever cancels, at whatever moment, is let go when that is
done, so that nothing is left open. It must not know how a door is held.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from concurrent.futures import Future
from contextlib import AbstractContextManager, asynccontextmanager

from spa_client.api import Pinhole, pinhole
from spa_client.knocking import DEFAULT_TIMEOUT_S
from spa_client.second_factor import CodeSource
from spa_client.storage import Store


@asynccontextmanager
async def async_pinhole(
    name: str | None = None,
    *services: str,
    lease_s: int = 0,
    source: str | None = None,
    timeout_s: float = DEFAULT_TIMEOUT_S,
    code: str | CodeSource | None = None,
    port: int = 0,
    wait: bool = False,
    store: Store | None = None,
) -> AsyncIterator[Pinhole]:
    """`pinhole` for asyncio: the same arguments, and the same errors.

        async with spa_client.async_pinhole("office", "web") as door:
            reader, writer = await asyncio.open_connection(*door.address)

    Cancelled while it knocks, it first waits for that to end, at most `timeout_s`; cancelled once more, it does not.
    """
    door = pinhole(
        name,
        *services,
        lease_s=lease_s,
        source=source,
        timeout_s=timeout_s,
        code=code,
        port=port,
        wait=wait,
        store=store,
    )
    holder = _Holder(door)
    holder.start()
    try:
        yield await asyncio.wrap_future(holder.opened)
    finally:
        holder.finish.set()
        await asyncio.wrap_future(holder.closed)


class _Holder(threading.Thread):
    """Holds a door open until `finish` is set. `opened` and `closed` are settled when it is so, or with what failed."""

    def __init__(self, door: AbstractContextManager[Pinhole]) -> None:
        super().__init__(name="spa-pinhole", daemon=True)
        self._door = door
        self.opened: Future[Pinhole] = Future()
        self.closed: Future[None] = Future()
        self.finish = threading.Event()
        for future in (self.opened, self.closed):
            # From here on nobody who stops waiting can cancel it: it is the thread's to settle.
            future.set_running_or_notify_cancel()

    def run(self) -> None:
        try:
            with self._door as open_door:
                self.opened.set_result(open_door)
                self.finish.wait()
        except BaseException as error:
            if not self.opened.done():
                self.opened.set_exception(error)
            else:
                self.closed.set_exception(error)
                return
        self.closed.set_result(None)
