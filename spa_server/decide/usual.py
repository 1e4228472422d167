"""What departs from what is usual for a user or a device: the rules of it, each a comparison of values.

Pure: what is usual is kept by `spa_server.remember.baseline`, and what follows from a departure is `risk`'s.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Network

from spa_protocol.posture import Fact, Posture
from spa_server.service import Address

Network = IPv4Network | IPv6Network

HOURS = 24
LEAST_HOURS = 20
"""Samples of a user's hours below which none is unusual."""
UNUSUAL_SHARE = 0.02
"""Less than this share of the samples in an hour and its two neighbours makes it unusual."""
FASTEST_KM_H = 805
"""An airliner's speed."""
LEAST_KM = 100
"""Shorter ways are no travel: location databases are that wrong about whole networks."""
EARTH_KM = 6371.0
PATCHES_WORSE_DAYS = 30
"""By how much more than the days that have passed a system's software must have become older."""


@dataclass(frozen=True, slots=True)
class Place:
    """A place on the earth, in degrees; north and east are positive."""

    latitude: float
    longitude: float


def network_of(address: Address) -> Network:
    """What an address shares with its neighbours: its /24 or /48. A host has whole /64s, and moves within a /24."""
    if isinstance(address, IPv4Address):
        return IPv4Network((int(address) >> 8 << 8, 24))
    return IPv6Network((int(address) >> 80 << 80, 48))


def is_unusual_hour(samples: Sequence[int], hour: int) -> bool:
    """Whether hardly any of the samples, counted by hour of the day, lie about this hour."""
    total = sum(samples)
    if total < LEAST_HOURS:
        return False
    about = sum(samples[(hour + each) % HOURS] for each in (-1, 0, 1))
    return about < total * UNUSUAL_SHARE


def distance_km(one: Place, other: Place) -> float:
    """Along the surface (the haversine formula)."""
    north, south = math.radians(one.latitude), math.radians(other.latitude)
    turned = math.radians(other.longitude - one.longitude)
    part = math.sin((south - north) / 2) ** 2 + math.cos(north) * math.cos(south) * math.sin(turned / 2) ** 2
    return 2 * EARTH_KM * math.asin(math.sqrt(min(part, 1.0)))


def is_impossible_travel(before: Place, now: Place, passed_s: float) -> bool:
    """Whether nobody gets from the one place to the other in that time. A clock that was set back counts as no time."""
    way_km = distance_km(before, now)
    return way_km >= LEAST_KM and way_km > FASTEST_KM_H * max(passed_s, 0.0) / 3600


def is_posture_worse(before: Posture, now: Posture | None, passed_days: int) -> bool:
    """Whether the device is in a worse state than so many days ago: a good fact is not so any more, or not known."""
    told = now or Posture()
    pairs = zip(_facts(before), _facts(told), strict=True)
    if any(was is Fact.YES and is_now is not Fact.YES for was, is_now in pairs):
        return True
    if before.patch_age_days is None:
        return False
    allowed = before.patch_age_days + max(passed_days, 0) + PATCHES_WORSE_DAYS
    return told.patch_age_days is None or told.patch_age_days > allowed


def _facts(posture: Posture) -> tuple[Fact, ...]:
    return posture.disk_encrypted, posture.screen_lock, posture.firewall, posture.secure_boot
