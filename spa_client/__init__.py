"""The client of a software-defined perimeter: knock, and a door opens for this computer, for seconds.

    import spa_client

    spa_client.knock("office", "web")

    with spa_client.pinhole("office", "web") as door:
        connection = socket.create_connection(door.address)

    async with spa_client.async_pinhole("office", "web") as door:
        reader, writer = await asyncio.open_connection(*door.address)

Importing this loads nothing else; each name is loaded when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from spa_client.api import Pinhole, knock, pinhole
    from spa_client.async_api import async_pinhole
    from spa_client.errors import (
        ApprovalNeeded,
        BadConfiguration,
        BadSurroundings,
        BadUsage,
        ClockWrong,
        CodeNeeded,
        NeverOpened,
        NoAnswer,
        NotPermitted,
        Refused,
        SlotsUsedUp,
        SpaError,
    )
    from spa_client.knocking import Opened, OpenService

__all__ = [
    "ApprovalNeeded",
    "BadConfiguration",
    "BadSurroundings",
    "BadUsage",
    "ClockWrong",
    "CodeNeeded",
    "NeverOpened",
    "NoAnswer",
    "NotPermitted",
    "OpenService",
    "Opened",
    "Pinhole",
    "Refused",
    "SlotsUsedUp",
    "SpaError",
    "async_pinhole",
    "knock",
    "pinhole",
]

_HOMES = {
    "OpenService": "knocking",
    "Opened": "knocking",
    "Pinhole": "api",
    "async_pinhole": "async_api",
    "knock": "api",
    "pinhole": "api",
}


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value: object = getattr(import_module(f"{__name__}.{_HOMES.get(name, 'errors')}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
