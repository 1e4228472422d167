"""Which slot the next knock takes: each (window, slot) once, over all processes of this user.

The server's gate deletes a tag when it admits one, so a tag sent twice is a knock lost. A claim is a marker file,
created with O_EXCL, so two processes can never both make it. Claims are a courtesy to oneself, not security: where the
folder cannot be written, a random slot still mostly works. It must not know what a knock says.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from spa_client.errors import SlotsUsedUp
from spa_client.perimeter import USUAL_SLOTS
from spa_protocol.tag import TagKind

_KEPT_WINDOWS = 10
"""Markers are kept for this many windows, so that a clock set back a little does not use a tag again."""


class SlotBook:
    """The claims on slots of one perimeter. `folder` is made when it is first needed; `None` keeps no claims."""

    def __init__(self, folder: Path | None, slots: int = USUAL_SLOTS) -> None:
        self._folder = folder
        self._slots = slots

    def claim(self, now_ms: int) -> int:
        """A slot of the window that holds this time, which nobody was given before.

        Raises SlotsUsedUp when all of the window are taken.
        """
        window = TagKind.KNOCK.window(now_ms)
        if self._folder is None:
            return _random_below(self._slots)
        try:
            taken = self._taken(self._folder, window)
            free = [slot for slot in range(self._slots) if slot not in taken]
            while free:
                slot = free.pop(_random_below(len(free)))
                if self._mark(self._folder, window, slot):
                    return slot
        except OSError:
            return _random_below(self._slots)
        wait_s = (TagKind.KNOCK.ends_ms(window) - now_ms) / 1000
        raise SlotsUsedUp(
            f"all {self._slots} knocks of this minute have been used; the next minute begins in {wait_s:.0f} s", wait_s
        )

    def _taken(self, folder: Path, window: int) -> set[int]:
        """The slots claimed in that window; markers of windows long over are removed on the way."""
        taken: set[int] = set()
        try:
            found = [path.name for path in folder.iterdir()]
        except FileNotFoundError:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            return taken
        for marker in found:
            its_window, separator, slot = marker.partition("-")
            if not separator or not its_window.isdigit() or not slot.isdigit():
                continue
            if int(its_window) == window:
                taken.add(int(slot))
            elif int(its_window) < window - _KEPT_WINDOWS:
                with contextlib.suppress(OSError):
                    (folder / marker).unlink()
        return taken

    @staticmethod
    def _mark(folder: Path, window: int, slot: int) -> bool:
        try:
            os.close(os.open(folder / f"{window}-{slot}", os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        except FileExistsError:
            return False
        return True


def _random_below(limit: int) -> int:
    """As secrets.randbelow, whose module takes as long to load as the whole knock; the bias is beneath notice."""
    return int.from_bytes(os.urandom(8), "big") % limit
