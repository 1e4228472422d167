"""What the client remembers of its own knocks at one perimeter; losing it costs a datagram or a hint, nothing more.

It must not know where the files are.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path

from spa_client.perimeter import USUAL_SLOTS
from spa_client.secret_file import make_folder
from spa_client.signed_source import SignedSources
from spa_client.slots import SlotBook
from spa_protocol.tag import TagKind


class ClockNote:
    """How wrong the server last found this computer's clock. `None` for a path remembers nothing.

    A device has few clock tags a day, so a second knock with the same wrong clock may get no answer at all. The note
    lets the sentence about that silence name its likely reason.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path

    def skew_ms(self, now_ms: int) -> int | None:
        """This clock minus the server's, if the server said so in the same day of this clock."""
        if self._path is None:
            return None
        try:
            window, skew_ms = map(int, self._path.read_text("ascii").split())
        except (OSError, ValueError):
            return None
        return skew_ms if window == TagKind.CLOCK.window(now_ms) else None

    def write(self, skew_ms: int, now_ms: int) -> None:
        """Note it, if it can be written."""
        if self._path is not None:
            with contextlib.suppress(OSError):
                make_folder(self._path.parent)
                self._path.write_text(f"{TagKind.CLOCK.window(now_ms)} {skew_ms}\n", "ascii")

    def clear(self) -> None:
        """The clock was found right."""
        if self._path is not None:
            with contextlib.suppress(OSError):
                self._path.unlink()


@dataclass(frozen=True, slots=True)
class PastRefusal:
    """What the server last refused, and why in a sentence. `time_ms`: when, by this computer's clock."""

    time_ms: int
    sentence: str


class RefusalNote:
    """The server's last refusal, for whoever asks later why it did not open. `None` for a path remembers nothing."""

    def __init__(self, path: Path | None) -> None:
        self._path = path

    def read(self) -> PastRefusal | None:
        """The last one, if there was one and it can be read."""
        if self._path is None:
            return None
        try:
            time_ms, _, sentence = self._path.read_text("utf-8").strip().partition(" ")
            return PastRefusal(int(time_ms), sentence)
        except (OSError, ValueError):
            return None

    def write(self, refusal: PastRefusal) -> None:
        """Note it, if it can be written."""
        if self._path is not None:
            with contextlib.suppress(OSError):
                make_folder(self._path.parent)
                self._path.write_text(f"{refusal.time_ms} {refusal.sentence}\n", "utf-8")


@dataclass(frozen=True, slots=True)
class Memory:
    """Slots used, addresses that may be signed, the clock's last verdict, the last refusal."""

    slots: SlotBook
    signed: SignedSources
    clock: ClockNote
    refusal: RefusalNote

    @classmethod
    def kept_in(cls, folder: Path | None, slots: int = USUAL_SLOTS) -> Memory:
        """The memory in a folder, which is made when it is first needed; None remembers nothing."""
        if folder is None:
            return cls(SlotBook(None, slots), SignedSources(None), ClockNote(None), RefusalNote(None))
        return cls(
            SlotBook(folder / "slots", slots),
            SignedSources(folder / "signed-source"),
            ClockNote(folder / "clock"),
            RefusalNote(folder / "refusal"),
        )
