"""What the network process counts of its own work: plain numbers, read by the status and by the metrics.

Their labels are few and fixed: services of the configuration and reasons of the protocol, never a user or an address.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from dataclasses import dataclass, field

BOUNDS_S = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
"""Upper bounds of the buckets: a knock takes half a millisecond where all is well, seconds where something hangs."""


@dataclass(slots=True)
class Histogram:
    """How long something took, bucket by bucket; the last bucket is for all that took longer."""

    buckets: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS_S) + 1))
    sum_s: float = 0.0

    def note(self, seconds: float) -> None:
        """Count one."""
        self.buckets[bisect_left(BOUNDS_S, seconds)] += 1
        self.sum_s += seconds


@dataclass(frozen=True, slots=True)
class Decision:
    """What was decided of a service; `service` is empty where a knock was refused before it came to any."""

    service: str
    decision: str
    reason: str


@dataclass(slots=True)
class Counts:
    """All of it. `results`: what came of each datagram that reached the process."""

    results: Counter[str] = field(default_factory=Counter)
    decisions: Counter[Decision] = field(default_factory=Counter)
    decision_s: Histogram = field(default_factory=Histogram)
    kernel_errors: int = 0
