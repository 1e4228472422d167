"""The checkpoints of a server's audit trail, as its answers tell them: the newest is kept, and a step back is seen.

A bare chain of records does not show that its end was cut off; whoever was told how far it had come can. It must not
know where the files are, nor how anything is shown.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from spa_client.secret_file import make_folder
from spa_protocol.answer import Answer, Checkpoint

_FORM = re.compile(r"([1-9][0-9]{0,19}):([0-9a-f]{32})")


@dataclass(frozen=True, slots=True)
class StepBack:
    """A trail that was told to be as far as `before` was told later, at `time_ms` (UTC, the server's), to be at `now`.

    `told`: whether the user has been warned of it.
    """

    before: Checkpoint
    now: Checkpoint
    time_ms: int
    told: bool = False

    @property
    def sentence(self) -> str:
        """What it means."""
        return (
            f"the server's audit trail was at {checkpoint_text(self.before)} and later at {checkpoint_text(self.now)}:"
            " it may have been cut short or written anew; ask the operator whether the server was set up again"
        )


class CheckpointNote:
    """The newest checkpoint of one perimeter, and the last step back. `None` for a path remembers nothing."""

    def __init__(self, path: Path | None) -> None:
        self._path = path

    def read(self) -> Checkpoint | None:
        """The newest, if one was told and it can be read."""
        return self._newest()[1]

    def step_back(self) -> StepBack | None:
        """The last step back, if there was one."""
        words = self._words("back")
        try:
            before, now, time_ms, told = words
            read = _checkpoint(before), _checkpoint(now)
            return StepBack(*read, int(time_ms), told == "told")
        except ValueError:
            return None

    def note(self, answers: Iterable[Answer]) -> None:
        """Take what answers tell, each verified. One that the server made before what is noted changes nothing."""
        for answer in sorted(answers, key=lambda each: each.time_ms):
            newer = answer.checkpoint
            noted_ms, noted = self._newest()
            if newer is None or answer.time_ms < noted_ms:
                # It was overtaken, most likely by what another process of this user was answered.
                continue
            if noted is not None and _is_back(noted, newer) and answer.time_ms > noted_ms:
                self._write("back", checkpoint_text(noted), checkpoint_text(newer), str(answer.time_ms), "new")
            elif noted is not None and newer.seq <= noted.seq:
                continue
            self._write("newest", str(answer.time_ms), checkpoint_text(newer))

    def warn(self) -> str:
        """The sentence about a step back that the user has not been warned of, or "". From then on they have."""
        step = self.step_back()
        if step is None or step.told:
            return ""
        self._write("back", checkpoint_text(step.before), checkpoint_text(step.now), str(step.time_ms), "told")
        return step.sentence

    def _newest(self) -> tuple[int, Checkpoint | None]:
        try:
            time_ms, text = self._words("newest")
            return int(time_ms), _checkpoint(text)
        except ValueError:
            return 0, None

    def _words(self, name: str) -> list[str]:
        if self._path is None:
            return []
        try:
            return (self._path / name).read_text("ascii").split()
        except (OSError, UnicodeDecodeError):
            return []

    def _write(self, name: str, *words: str) -> None:
        if self._path is not None:
            with contextlib.suppress(OSError):
                make_folder(self._path)
                (self._path / name).write_text(f"{' '.join(words)}\n", "ascii")


def checkpoint_text(checkpoint: Checkpoint) -> str:
    """It as `spa-server log verify --checkpoint` takes it."""
    return f"{checkpoint.seq}:{checkpoint.hash.hex()}"


def _checkpoint(text: str) -> Checkpoint:
    """Raises ValueError."""
    found = _FORM.fullmatch(text)
    if found is None:
        raise ValueError("no checkpoint")
    return Checkpoint(int(found[1]), bytes.fromhex(found[2]))


def _is_back(before: Checkpoint, now: Checkpoint) -> bool:
    return now.seq < before.seq or (now.seq == before.seq and now.hash != before.hash)
