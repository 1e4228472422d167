"""The live view as a whole: looks at the server once in a while and shows what it sees, until somebody ends it."""

from __future__ import annotations

from collections.abc import Sequence

from rich.text import Text

from spa_server.config import ServerConfig
from spa_server.watch import terminal
from spa_server.watch.gathering import Gathering
from spa_server.watch.screen import screen
from spa_server.watch.snapshot import Rates, Snapshot


def watch(config: ServerConfig, every_s: float) -> None:
    """Show the view on this terminal. Raises OSError where the server may not be asked."""
    gathering, rates = Gathering(config), Rates()
    seen: list[Snapshot] = []

    def look() -> None:
        seen[:] = [gathering.look()]
        rates.note(seen[0])

    def lines(width: int, height: int) -> Sequence[Text]:
        return screen(seen[0], rates, width, height)

    try:
        look()  # what cannot be had at all is said before the screen is taken
        terminal.show(look, lines, every_s)
    finally:
        gathering.close()
