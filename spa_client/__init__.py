"""The client of a software-defined perimeter: knock, and a door opens for this computer, for seconds.

    import spa_client

    spa_client.knock("office", "web")

    with spa_client.pinhole("office", "web") as door:
        connection = socket.create_connection(door.address)

Importing this loads nothing else; each name is loaded when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from spa_client.api import Pinhole, knock, pinhole
    from spa_client.errors import (
        BadConfiguration,
        BadSurroundings,
        BadUsage,
        ClockWrong,
        NeverOpened,
        NoAnswer,
        NotPermitted,
        Refused,
        SlotsUsedUp,
        SpaError,
    )
    from spa_client.knocking import Opened, OpenService

__all__ = [
    "BadConfiguration",
    "BadSurroundings",
    "BadUsage",
    "ClockWrong",
    "NeverOpened",
    "NoAnswer",
    "NotPermitted",
    "OpenService",
    "Opened",
    "Pinhole",
    "Refused",
    "SlotsUsedUp",
    "SpaError",
    "knock",
    "pinhole",
]

_HOMES = {"Pinhole": "api", "knock": "api", "pinhole": "api", "Opened": "knocking", "OpenService": "knocking"}


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value: object = getattr(import_module(f"{__name__}.{_HOMES.get(name, 'errors')}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
