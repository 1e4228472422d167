"""The pinhole from asyncio: the loop goes on while a door is opened and held, and cancelling leaves nothing behind."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager

import pytest

import spa_client
from spa_client.perimeter import Perimeter
from spa_protocol.answer import AnsweredService
from spa_protocol.refusal import Refusal
from tests.client.gatekeeper import Gatekeeper
from tests.client.test_waiting import listening
from tests.stalls import PATIENCE_S


def holders() -> list[threading.Thread]:
    """The threads that hold a door."""
    return [thread for thread in threading.enumerate() if thread.name.startswith("spa-")]


async def until(true: Callable[[], bool]) -> None:
    """Wait, while the loop goes on."""
    async with asyncio.timeout(PATIENCE_S):
        while not true():
            await asyncio.sleep(0.005)


@asynccontextmanager
async def beating() -> AsyncIterator[Callable[[], int]]:
    """Count how often the loop has gone round."""
    count = 0

    async def beat() -> None:
        nonlocal count
        while True:
            count += 1
            await asyncio.sleep(0.001)

    task = asyncio.ensure_future(beat())
    try:
        yield lambda: count
    finally:
        task.cancel()


def run(main: Callable[[], Coroutine[None, None, None]]) -> None:
    """Run it in a loop of its own."""
    asyncio.run(main())


def test_it_yields_where_to_connect(server: Gatekeeper, office: Perimeter) -> None:
    async def main() -> None:
        with listening() as port:
            server.behaviour.services = (AnsweredService("web", 30, port, 0, False),)
            async with spa_client.async_pinhole("office", "web") as door:
                _, writer = await asyncio.open_connection(*door.address)
                writer.close()
                assert door.opened.services[0].name == "web"
        await until(lambda: not holders())

    run(main)


def test_the_loop_goes_on_while_it_knocks(server: Gatekeeper, office: Perimeter) -> None:
    server.behaviour.silent = True

    async def main() -> None:
        async with beating() as beats:
            with pytest.raises(spa_client.NoAnswer):
                async with spa_client.async_pinhole("office", "web", timeout_s=0.5, port=9):
                    pass
            assert beats() > 20

    run(main)


def test_the_lease_is_kept_while_the_block_runs(server: Gatekeeper, office: Perimeter) -> None:
    server.behaviour.services = (AnsweredService("web", 2, 8443, 0, False),)

    async def main() -> None:
        async with spa_client.async_pinhole("office", "web"):
            await until(lambda: len(server.knocks()) >= 6)
        await until(lambda: not holders())

    run(main)


def test_a_refusal_is_the_same_exception(server: Gatekeeper, office: Perimeter) -> None:
    server.behaviour.refuse = Refusal.NOTHING_ALLOWED

    async def main() -> None:
        with pytest.raises(spa_client.Refused) as caught:
            async with spa_client.async_pinhole("office"):
                pass
        assert caught.value.refusal is Refusal.NOTHING_ALLOWED
        await until(lambda: not holders())

    run(main)


def test_what_the_block_raises_goes_through(server: Gatekeeper, office: Perimeter) -> None:
    async def main() -> None:
        with pytest.raises(ZeroDivisionError):
            async with spa_client.async_pinhole("office"):
                raise ZeroDivisionError
        await until(lambda: not holders())

    run(main)


def test_a_cancelled_block_lets_go_of_the_door(server: Gatekeeper, office: Perimeter) -> None:
    inside = asyncio.Event()

    async def hold() -> None:
        async with spa_client.async_pinhole("office", "web"):
            inside.set()
            await asyncio.sleep(3600)

    async def main() -> None:
        task = asyncio.ensure_future(hold())
        await inside.wait()
        assert holders()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await until(lambda: not holders())

    run(main)


class TestCancelledWhileItKnocks:
    """The answer comes half a second later."""

    @pytest.fixture(autouse=True)
    def slow(self, server: Gatekeeper) -> None:
        server.behaviour.delay_s = {4: 0.5, 6: 0.5}

    def test_it_ends_when_the_knock_does_and_holds_nothing(self, server: Gatekeeper, office: Perimeter) -> None:
        entered = False

        async def hold() -> None:
            nonlocal entered
            async with spa_client.async_pinhole("office", "web"):
                entered = True

        async def main() -> None:
            task = asyncio.ensure_future(hold())
            await until(lambda: len(server.knocks()) >= 1)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert not entered
            await until(lambda: not holders())

        run(main)

    def test_cancelled_twice_it_ends_at_once(self, server: Gatekeeper, office: Perimeter) -> None:
        server.behaviour.silent = True

        async def hold() -> None:
            async with spa_client.async_pinhole("office", "web", timeout_s=10):
                pass

        async def main() -> None:
            task = asyncio.ensure_future(hold())
            await until(lambda: len(server.knocks()) >= 1)
            for _ in range(2):
                task.cancel()
                await asyncio.sleep(0)
            with pytest.raises(asyncio.CancelledError):
                await task
            assert holders(), "it waited for the knock"
            server.behaviour.silent = False
            await until(lambda: not holders())

        run(main)
