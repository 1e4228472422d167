"""What a fuzz target is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Target:
    """A parser under test, inputs to start from, and the longest input worth trying, in bytes."""

    run: Callable[[bytes], None]
    seeds: tuple[bytes, ...]
    max_size: int
