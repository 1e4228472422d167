"""Series of figures and what is said of them: median, percentile, spread, ratio. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True, slots=True)
class Series:
    """Measurements of one thing, in the order they were made. A round that failed is None."""

    title: str
    unit: str
    rounds: tuple[float | None, ...]

    @property
    def values(self) -> list[float]:
        """Those that were measured, in ascending order."""
        return sorted(value for value in self.rounds if value is not None)

    @property
    def failed(self) -> int:
        """Rounds without a result."""
        return sum(value is None for value in self.rounds)

    @property
    def summary(self) -> Summary | None:
        """None where nothing was measured."""
        values = self.values
        if not values:
            return None
        return Summary(
            len(values),
            median(values),
            percentile(values, 0.25),
            percentile(values, 0.75),
            percentile(values, 0.95),
            values[0],
            values[-1],
        )


@dataclass(frozen=True, slots=True)
class Summary:
    """A series in a few numbers; the quartiles are its spread."""

    count: int
    median: float
    lower_quartile: float
    upper_quartile: float
    p95: float
    least: float
    most: float


@dataclass(frozen=True, slots=True)
class Ratio:
    """How many times longer the peer took: by the medians, and in single rounds at least and at most."""

    ours: str
    peer: str
    of_medians: float
    least: float
    most: float


def percentile(ascending: Sequence[float], share: float) -> float:
    """The value below which that share of an ascending series lies, interpolated."""
    at = share * (len(ascending) - 1)
    below = int(at)
    above = min(below + 1, len(ascending) - 1)
    return ascending[below] + (ascending[above] - ascending[below]) * (at - below)


def ratio(ours: Series, peer: Series) -> Ratio | None:
    """The peer against ours, of rounds made right after one another; None where either has none."""
    pairs = [
        theirs / own
        for own, theirs in zip(ours.rounds, peer.rounds, strict=True)
        if own is not None and theirs is not None
    ]
    if not pairs:
        return None
    return Ratio(ours.title, peer.title, median(peer.values) / median(ours.values), min(pairs), max(pairs))
