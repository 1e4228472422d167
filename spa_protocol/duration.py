"""Lengths of time as people write them on both sides: 90s, 15m, 1h, 7d."""

from __future__ import annotations

import re

_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def seconds_of(text: str) -> int:
    """Seconds, from a number and one of the units s, m, h, d; raises ValueError with a sentence."""
    match = re.fullmatch(r"(\d{1,6})([smhd])", text)
    if match is None:
        raise ValueError(f"{text!r} is not a length of time; write it as 90s, 15m, 1h or 7d")
    return int(match[1]) * _UNITS_S[match[2]]
