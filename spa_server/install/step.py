"""One step of putting the service on a host or taking it off; it knows whether it is done, so it can be repeated."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum


class StepFailed(Exception):
    """A step could not be done; the message says what the host said."""


class Outcome(StrEnum):
    """What became of a step."""

    DONE = "done"
    UNCHANGED = "unchanged"
    WOULD = "would"


@dataclass(frozen=True, slots=True)
class Step:
    """`what` is an order, such as "write /etc/sysusers.d/spa.conf"; `is_done` is asked when its turn has come."""

    what: str
    is_done: Callable[[], bool]
    do: Callable[[], object]

    def carry_out(self, *, dry_run: bool) -> Outcome:
        """Do it unless it is done, or only say which. Raises StepFailed."""
        if self.is_done():
            return Outcome.UNCHANGED
        if dry_run:
            return Outcome.WOULD
        try:
            self.do()
        except OSError as error:
            raise StepFailed(f"could not {self.what}: {error}") from error
        return Outcome.DONE


def find(program: str) -> str | None:
    """Where a program of the host is, also one that is for root."""
    return shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")


def run(program: str, *words: str) -> None:
    """Run a program of the host. Raises StepFailed with what it said."""
    done = _ran(program, words)
    if done.returncode:
        said = done.stderr.strip() or done.stdout.strip() or f"exit code {done.returncode}"
        raise StepFailed(f"{program} {' '.join(words)}: {said}")


def says_yes(program: str, *words: str) -> bool:
    """Whether a program of the host ends with 0."""
    return _ran(program, words).returncode == 0


def says(program: str, *words: str) -> str:
    """What a program of the host prints. Raises StepFailed where there is none."""
    return _ran(program, words).stdout


def _ran(program: str, words: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
    found = find(program)
    if found is None:
        raise StepFailed(f"this host has no {program}")
    return subprocess.run(  # noqa: S603 - fixed programs, and words that hold no user's input
        [found, *words], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
