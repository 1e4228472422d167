"""The first line of a look that is kept: its age, and the posture as a knock says it, which is all that a knock needs.

Two clocks must agree on the age: one that runs while the computer sleeps, but begins anew with each start, and the wall
clock, which lasts, but can be set. Where they do not agree (a restart, a clock that was set) nothing is known. It must
not know where the line is kept; and it loads nothing more, for a knock runs before every connection.
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

from spa_protocol.body import FieldReader, FieldWriter, MalformedBody
from spa_protocol.posture import Posture

_FORM = b"1"
_AGREE_WITHIN_S = 60
_MAX_LINE = 512


class Moment(NamedTuple):
    """`elapsed_s`: since some moment of this start of the computer, its sleep counted. `wall_s`: the wall clock."""

    elapsed_s: float
    wall_s: float


def line(posture: Posture, then: Moment) -> bytes:
    """The line of a look that was taken then."""
    writer = FieldWriter()
    posture.write(writer)
    return b"%s %r %r %s" % (_FORM, then.elapsed_s, then.wall_s, writer.written().hex().encode())


def age_s(kept: bytes, now: Moment) -> int | None:
    """How old the look is whose line is the first; None where that is not known, or it is no such line."""
    words = kept[:_MAX_LINE].partition(b"\n")[0].split(b" ")
    if len(words) != 4 or words[0] != _FORM:
        return None
    try:
        ages = now.elapsed_s - float(words[1]), now.wall_s - float(words[2])
    except ValueError:
        return None
    # The older of the two: the clocks may differ by what the network's time corrected meanwhile.
    known = min(ages) >= -1 and abs(ages[0] - ages[1]) <= _AGREE_WITHIN_S
    return max(0, int(max(ages))) if known else None


def posture(kept: bytes, now: Moment) -> Posture | None:
    """What the look says of which the line is the first, as it is now; None where that is not known."""
    age = age_s(kept, now)
    if age is None:
        return None
    try:
        fields = bytes.fromhex(kept.partition(b"\n")[0].split(b" ")[3].decode("ascii"))
        told = Posture.read(FieldReader(fields, 0, len(fields)))
    except (ValueError, MalformedBody):
        return None
    uptime_s = None if told.uptime_s is None else told.uptime_s + age
    return dataclasses.replace(told, age_s=age, uptime_s=uptime_s)
