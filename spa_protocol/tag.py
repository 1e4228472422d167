"""Windows, slots and the one-time tags that the kernel's gate admits once each (docs/protocol.md, section 3).

A tag is the first 8 bytes on the wire. Without the gate secret it is indistinguishable from random; with it, both
sides can compute the same few for every window of time. It must not know which tags are armed where: that is the
server's.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from spa_protocol.keys import ChannelKeys, keyed_hash
from spa_protocol.limits import MAX_SLOTS

TAG_SIZE = 8
FEWEST_SLOTS = 1
"""Fewest that an answer can tell of: delegates may have less than a device."""


class TagKind(Enum):
    """The two kinds of tag: the length of the window in seconds, and a code for storage."""

    KNOCK = 60, 1
    """Minutes; covers the allowed clock skew; the only kind under which anything opens."""
    CLOCK = 86_400, 2
    """Days; opens nothing: it lets a device whose clock is hours off be told so."""

    def __init__(self, window_s: int, code: int) -> None:
        self.window_s = window_s
        self.code = code

    def window(self, time_ms: int) -> int:
        """The number of the window that holds this time (UTC, milliseconds since 1970)."""
        return time_ms // (self.window_s * 1000)

    def covering(self, now_ms: int, skew_ms: int) -> range:
        """The windows in which a clock that is wrong by at most `skew_ms` can be."""
        return range(self.window(max(0, now_ms - skew_ms)), self.window(now_ms + skew_ms) + 1)

    def ends_ms(self, window: int) -> int:
        """The time at which that window is over."""
        return (window + 1) * self.window_s * 1000


CLOCK_SLOTS = 4
"""Clock tags a device has in each day: a knock by both families that fails spends two."""
CLOCK_SKEW_MS = 86_400_000
"""How wrong a clock may be and still be told so."""


@dataclass(frozen=True, slots=True)
class TagPosition:
    """Where a tag stands: under which kind, window and slot."""

    kind: TagKind
    window: int
    slot: int


def compute_tag(keys: ChannelKeys, position: TagPosition) -> bytes:
    """The 8-byte tag at that position.

    Raises ValueError where window or slot does not fit.
    """
    if not 0 <= position.slot < MAX_SLOTS:
        raise ValueError(f"slot {position.slot} is not below {MAX_SLOTS}")
    if not 0 <= position.window < 1 << 64:
        raise ValueError("the window number has 64 bits")
    key = keys.tag if position.kind is TagKind.KNOCK else keys.clock_tag
    return keyed_hash(key, position.window.to_bytes(8, "big") + bytes([position.slot]))[:TAG_SIZE]
