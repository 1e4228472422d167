"""How risky a knock is: a sum of points, each under the name of what it is for, so that each decision is explained.

Points for what is so (a network that is on the block list) count whole; points for what has happened (a key used twice)
halve with every hour. Whoever could not sign anything has no say beyond a request for a second factor: what invalid
knocks from a source's prefix add never makes of less than a refusal one. Pure: it knows no clock, no state, no
addresses; what each signal rests on is `usual`'s and `spa_server.listen.risk_watch`'s.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto

MOST = 100
"""What no score exceeds."""
HALF_LIFE_S = 3600
SKEW_MS = 10_000
LARGE_SKEW_MS = 30_000
OLD_KEY_S = 180 * 86_400


class Band(Enum):
    """What follows from a score, where nothing else decides."""

    ALLOW = auto()
    STEP_UP = auto()
    """A second factor is wanted."""
    REFUSE = auto()
    """Nothing opens, and what is open is closed."""


@dataclass(frozen=True, slots=True)
class Signals:
    """All that speaks against a knock. Those that end in `_ago_s` are seconds since it happened, None where it did not.

    `invalid_knocks`: datagrams from the source's prefix, within ten minutes, that held a live tag and did not verify.
    `key_age_s`: since the device's key was enrolled. `skew_ms`: how far its clock is off, either way.
    """

    new_network_ago_s: float | None = None
    impossible_travel_ago_s: float | None = None
    invalid_knocks: int = 0
    used_tag_ago_s: float | None = None
    unusual_hour: bool = False
    skew_ms: int = 0
    key_age_s: int = 0
    first_use: bool = False
    block_list: bool = False
    two_sources_ago_s: float | None = None
    posture_worse_ago_s: float | None = None


@dataclass(frozen=True, slots=True)
class Weights:
    """The points for each signal, and the scores from which a second factor is wanted and from which it is refused."""

    new_network: int = 15
    impossible_travel: int = 35
    invalid_knock: int = 5
    invalid_knocks_most: int = 20
    used_tag: int = 40
    unusual_hour: int = 10
    clock_skew: int = 5
    clock_skew_large: int = 15
    old_key: int = 10
    first_use: int = 20
    block_list: int = 50
    two_sources: int = 30
    posture_worse: int = 20
    step_up_from: int = 30
    refuse_from: int = 60

    def band(self, score: int) -> Band:
        """What follows from a score."""
        if score >= self.refuse_from:
            return Band.REFUSE
        return Band.STEP_UP if score >= self.step_up_from else Band.ALLOW


@dataclass(frozen=True, slots=True)
class Risk:
    """A score from 0 to 100, and its parts by name, in one order; where they exceed 100 the score does not."""

    score: int = 0
    parts: tuple[tuple[str, int], ...] = ()

    def __str__(self) -> str:
        told = ", ".join(f"{name} {points}" for name, points in self.parts)
        return f"{self.score} ({told})" if told else str(self.score)


DEFAULT_WEIGHTS = Weights()


def score(signals: Signals, weights: Weights = DEFAULT_WEIGHTS) -> Risk:
    """The risk; another signal, or more of one, never makes it smaller."""
    parts = {
        "new_network": _faded(weights.new_network, signals.new_network_ago_s),
        "impossible_travel": _faded(weights.impossible_travel, signals.impossible_travel_ago_s),
        "invalid_knocks": 0,
        "used_tag": _faded(weights.used_tag, signals.used_tag_ago_s),
        "unusual_hour": weights.unusual_hour if signals.unusual_hour else 0,
        "clock_skew": _of_skew(signals.skew_ms, weights),
        "old_key": weights.old_key if signals.key_age_s > OLD_KEY_S else 0,
        "first_use": weights.first_use if signals.first_use else 0,
        "block_list": weights.block_list if signals.block_list else 0,
        "two_sources": _faded(weights.two_sources, signals.two_sources_ago_s),
        "posture_worse": _faded(weights.posture_worse, signals.posture_worse_ago_s),
    }
    parts["invalid_knocks"] = _of_strangers(signals.invalid_knocks, sum(parts.values()), weights)
    return Risk(min(sum(parts.values()), MOST), tuple((name, points) for name, points in parts.items() if points))


def _faded(points: int, ago_s: float | None) -> int:
    if ago_s is None:
        return 0
    return int(points * 0.5 ** (max(ago_s, 0.0) / HALF_LIFE_S) + 0.5)


def _of_skew(skew_ms: int, weights: Weights) -> int:
    if abs(skew_ms) > LARGE_SKEW_MS:
        return max(weights.clock_skew_large, weights.clock_skew)
    return weights.clock_skew if abs(skew_ms) > SKEW_MS else 0


def _of_strangers(invalid_knocks: int, others: int, weights: Weights) -> int:
    points = min(max(invalid_knocks, 0) * weights.invalid_knock, weights.invalid_knocks_most)
    if others >= weights.refuse_from:
        return points
    return max(min(points, weights.refuse_from - 1 - others), 0)
