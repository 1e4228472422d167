"""Who has asked for what is open, and until when: for one address may be several devices', behind one NAT.

The kernel holds one lease for a tuple, under one name. Beside it stands here what each label asked for, so that one who
gives back takes nothing from the others. It is lost with the process: until the leases from before have ended, only the
name in the kernel counts then. Times are CLOCK_MONOTONIC, ms. It must not know the kernel.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

_PRUNED_AT = 1_000
"""Tuples from which on what is over is looked for, each time that their number has doubled."""


@dataclass(frozen=True, slots=True)
class Claim:
    """A label's own end of a lease."""

    label: str
    end_ms: float


class Claims:
    """The claims on tuples, whatever stands for a tuple."""

    def __init__(self) -> None:
        self._ends: dict[Hashable, dict[str, float]] = {}
        self._prune_at = _PRUNED_AT

    def note(self, at: Hashable, label: str, end_ms: float, now_ms: float) -> None:
        """The label has asked for it until then; an earlier end that it asked for does not count any more."""
        ends = self._ends.setdefault(at, {})
        ends[label] = max(end_ms, ends.get(label, 0.0))
        if len(self._ends) >= self._prune_at:
            self._ends = {each: live for each, all_ in self._ends.items() if (live := _live(all_, now_ms))}
            self._prune_at = max(_PRUNED_AT, 2 * len(self._ends))

    def latest(self, at: Hashable, now_ms: float) -> Claim | None:
        """The claim that ends last, if one has not ended."""
        live = _live(self._ends.get(at, {}), now_ms)
        label = max(live, key=lambda each: live[each], default=None)
        return None if label is None else Claim(label, live[label])

    def is_claimed_by(self, at: Hashable, label: str, now_ms: float) -> bool:
        """Whether the label has it now."""
        return self._ends.get(at, {}).get(label, 0.0) > now_ms

    def left_ms(self, at: Hashable, label: str, now_ms: float) -> int:
        """How long the label has it yet, 0 if it has not."""
        return max(0, round(self._ends.get(at, {}).get(label, 0.0) - now_ms))

    def withdraw(self, at: Hashable, label: str) -> None:
        """The label wants it no more."""
        ends = self._ends.get(at, {})
        ends.pop(label, None)
        if not ends:
            self._ends.pop(at, None)

    def forget(self, at: Hashable) -> None:
        """It was taken from everybody."""
        self._ends.pop(at, None)

    def __len__(self) -> int:
        return len(self._ends)


def _live(ends: dict[str, float], now_ms: float) -> dict[str, float]:
    return {label: end_ms for label, end_ms in ends.items() if end_ms > now_ms}
