"""A configuration on trial: it is taken back unless somebody shows in time that they can still get in.

Pure: time is an argument.
"""

from __future__ import annotations

from dataclasses import dataclass

from spa_server.config import ServerConfig

SHORTEST_S, LONGEST_S = 1, 86_400


@dataclass(frozen=True, slots=True)
class Trial:
    """`previous` is put back at `ends_s` (boot time, which counts a suspended machine's sleep); None: no perimeter."""

    previous: ServerConfig | None
    ends_s: float

    def is_over(self, now_s: float) -> bool:
        return now_s >= self.ends_s

    def left_s(self, now_s: float) -> float:
        return max(0.0, self.ends_s - now_s)
