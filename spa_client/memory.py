"""What the client remembers of its own knocks at one perimeter; losing it costs a datagram or a hint, nothing more.

It must not know where the files are.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path

from spa_client.checkpoints import CheckpointNote
from spa_client.holders import Holders
from spa_client.perimeter import USUAL_SLOTS
from spa_client.posture.collecting import Collector
from spa_client.secret_file import make_folder
from spa_client.signed_source import SignedSources
from spa_client.slots import SlotBook
from spa_protocol.tag import TagKind

_SHORT_S = 0.2
"""A round trip under this needs no note: its answer comes before the second question goes out."""


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


class RoundTripNote:
    """How long the last answer took, where that was long. `None` for a path remembers nothing.

    On a slow path the first answer is still on its way when a fast one's would be overdue; asking again then spends
    slots that a lease which is renewed needs.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path

    def seconds(self) -> float:
        """How long it took; 0.0 when it was short, or is not known."""
        if self._path is None:
            return 0.0
        try:
            return int(self._path.read_text("ascii")) / 1000
        except (OSError, ValueError):
            return 0.0

    def write(self, seconds: float) -> None:
        """Note it, if it can be written; 0 where no answer came. Nothing is kept of a short one."""
        if self._path is None:
            return
        with contextlib.suppress(OSError):
            if seconds < _SHORT_S:
                self._path.unlink()
            else:
                make_folder(self._path.parent)
                self._path.write_text(f"{round(seconds * 1000)}\n", "ascii")


class PortNote:
    """The knock port that was answered last, where it was not the usual one. `None` for a path remembers nothing.

    A network that lets out a further port alone is knocked there at once the next time.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path

    def first(self, ports: tuple[int, ...]) -> tuple[int, ...]:
        """The knock ports in their order, but with the one of the note in front, if it still is one of them."""
        if self._path is None:
            return ports
        try:
            noted = int(self._path.read_text("ascii"))
        except (OSError, ValueError):
            return ports
        return (noted, *(port for port in ports if port != noted)) if noted in ports else ports

    def write(self, port: int, usual: int) -> None:
        """Note it, if it can be written; 0 where no port answered. Nothing is kept of the usual one."""
        if self._path is None:
            return
        with contextlib.suppress(OSError):
            if port in (0, usual):
                self._path.unlink()
            else:
                make_folder(self._path.parent)
                self._path.write_text(f"{port}\n", "ascii")


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
    """What each of its fields says of itself; `holders`: which processes of this user hold the door open."""

    slots: SlotBook
    signed: SignedSources
    clock: ClockNote
    refusal: RefusalNote
    round_trip: RoundTripNote
    holders: Holders
    port: PortNote
    health: Collector
    checkpoint: CheckpointNote

    @classmethod
    def kept_in(cls, folder: Path | None, slots: int = USUAL_SLOTS) -> Memory:
        """The memory in a folder, which is made when it is first needed; None remembers nothing."""
        if folder is None:
            return cls(
                SlotBook(None, slots),
                SignedSources(None),
                ClockNote(None),
                RefusalNote(None),
                RoundTripNote(None),
                Holders(None),
                PortNote(None),
                Collector(None),
                CheckpointNote(None),
            )
        return cls(
            SlotBook(folder / "slots", slots),
            SignedSources(folder / "signed-source"),
            ClockNote(folder / "clock"),
            RefusalNote(folder / "refusal"),
            RoundTripNote(folder / "round-trip"),
            Holders(folder / "holders"),
            PortNote(folder / "port"),
            Collector(folder / "posture"),
            CheckpointNote(folder / "checkpoint"),
        )
