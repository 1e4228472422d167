"""What is a departure from the usual, and what is none."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spa_protocol.posture import Fact, Posture
from spa_server.decide.usual import (
    LEAST_KM,
    Place,
    distance_km,
    is_impossible_travel,
    is_posture_worse,
    is_unusual_hour,
    network_of,
)

BERLIN, PARIS, SYDNEY = Place(52.52, 13.41), Place(48.86, 2.35), Place(-33.87, 151.21)
POTSDAM = Place(52.39, 13.06)
GOOD = Posture(disk_encrypted=Fact.YES, screen_lock=Fact.YES, firewall=Fact.YES, secure_boot=Fact.YES, patch_age_days=5)
FACTS = ("disk_encrypted", "screen_lock", "firewall", "secure_boot")
places = st.builds(Place, st.floats(-90, 90), st.floats(-180, 180))


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.7", "192.0.2.0/24"),
        ("192.0.2.255", "192.0.2.0/24"),
        ("192.0.3.0", "192.0.3.0/24"),
        ("2001:db8:1:ffff::7", "2001:db8:1::/48"),
        ("2001:db8:2::", "2001:db8:2::/48"),
    ],
)
def test_neighbours_share_a_network(address: str, network: str) -> None:
    assert str(network_of(ip_address(address))) == network


@given(st.ip_addresses())
def test_every_address_is_in_its_network(address: object) -> None:
    found = ip_address(str(address))
    assert found in network_of(found)


def at_hours(**counts: int) -> list[int]:
    return [counts.get(f"h{hour}", 0) for hour in range(24)]


@pytest.mark.parametrize(
    ("samples", "hour", "unusual"),
    [
        (at_hours(), 3, False),
        (at_hours(h9=19), 3, False),
        (at_hours(h9=20), 3, True),
        (at_hours(h9=20), 9, False),
        (at_hours(h9=20), 8, False),
        (at_hours(h9=20), 10, False),
        (at_hours(h9=20), 7, True),
        (at_hours(h23=20), 0, False),
        (at_hours(h0=20), 23, False),
        (at_hours(h9=98, h3=2), 3, False),
        (at_hours(h9=99, h3=1), 3, True),
    ],
)
def test_an_hour_is_unusual_where_hardly_any_of_twenty_samples_are_near(
    samples: list[int], hour: int, unusual: bool
) -> None:
    assert is_unusual_hour(samples, hour) is unusual


def test_distances_are_those_of_an_atlas() -> None:
    assert distance_km(BERLIN, PARIS) == pytest.approx(878, rel=0.01)
    assert distance_km(BERLIN, SYDNEY) == pytest.approx(16_090, rel=0.01)
    assert distance_km(Place(0, 179.9), Place(0, -179.9)) == pytest.approx(22.2, rel=0.01)
    assert distance_km(Place(90, 0), Place(-90, 77)) == pytest.approx(20_015, rel=0.01)


@given(places, places)
def test_the_way_back_is_as_long_and_none_is_longer_than_half_the_earth(one: Place, other: Place) -> None:
    assert distance_km(one, other) == pytest.approx(distance_km(other, one), abs=0.001)
    assert 0 <= distance_km(one, other) <= 20_016
    assert distance_km(one, one) < 0.001


@pytest.mark.parametrize(
    ("before", "now", "passed_s", "impossible"),
    [
        (BERLIN, PARIS, 3600, True),
        (BERLIN, PARIS, 4200, False),
        (BERLIN, SYDNEY, 19 * 3600, True),
        (BERLIN, SYDNEY, 21 * 3600, False),
        (BERLIN, BERLIN, 0, False),
        (BERLIN, POTSDAM, 0, False),
        (BERLIN, PARIS, 0, True),
        (BERLIN, PARIS, -86_400, True),
    ],
)
def test_faster_than_an_airliner_is_impossible(before: Place, now: Place, passed_s: float, impossible: bool) -> None:
    assert is_impossible_travel(before, now, passed_s) is impossible


def east_of(place: Place, km: float) -> Place:
    """So far east of a place on the equator, where a degree is 111.195 km."""
    return Place(place.latitude, place.longitude + km / 111.195)


def test_the_limits_are_805_km_an_hour_and_100_km() -> None:
    start = Place(0, 10)
    assert is_impossible_travel(start, east_of(start, 805.1), 3600)
    assert not is_impossible_travel(start, east_of(start, 804.9), 3600)
    assert is_impossible_travel(start, east_of(start, 100.1), 0)
    assert not is_impossible_travel(start, east_of(start, 99.9), 0)


@given(places, places, st.floats(-1e6, 1e6))
def test_no_short_way_and_no_longer_time_makes_a_way_impossible(one: Place, other: Place, passed_s: float) -> None:
    if is_impossible_travel(one, other, passed_s):
        assert distance_km(one, other) >= LEAST_KM
        assert is_impossible_travel(one, other, passed_s - 1)


@pytest.mark.parametrize("name", FACTS)
@pytest.mark.parametrize("lost", [Fact.NO, Fact.UNKNOWN])
def test_a_good_fact_that_is_lost_makes_a_posture_worse(name: str, lost: Fact) -> None:
    changed: dict[str, Any] = {name: lost}
    worse = replace(GOOD, **changed)
    assert is_posture_worse(GOOD, worse, 0)
    assert not is_posture_worse(worse, GOOD, 0)


@pytest.mark.parametrize(
    ("before", "now", "passed_days", "worse"),
    [
        (GOOD, GOOD, 0, False),
        (Posture(), Posture(), 0, False),
        (Posture(), None, 0, False),
        (GOOD, None, 0, True),
        (Posture(disk_encrypted=Fact.NO), Posture(disk_encrypted=Fact.UNKNOWN), 0, False),
        (GOOD, replace(GOOD, patch_age_days=35), 0, False),
        (GOOD, replace(GOOD, patch_age_days=36), 0, True),
        # Its software grew older as the days passed, and no more.
        (GOOD, replace(GOOD, patch_age_days=95), 90, False),
        (GOOD, replace(GOOD, patch_age_days=36), -5, True),
        (GOOD, replace(GOOD, patch_age_days=None), 0, True),
        (Posture(), replace(GOOD, patch_age_days=400), 0, False),
        (GOOD, replace(GOOD, age_s=9999, uptime_s=1, system="Debian 12"), 0, False),
    ],
)
def test_what_makes_a_posture_worse(before: Posture, now: Posture | None, passed_days: int, worse: bool) -> None:
    assert is_posture_worse(before, now, passed_days) is worse
