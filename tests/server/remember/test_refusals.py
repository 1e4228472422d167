"""The ring of refusals: bounded, newest first, and never in the way."""

from __future__ import annotations

import logging
from ipaddress import ip_address
from pathlib import Path

import pytest

from spa_server.remember.refusals import RefusalRing, Refused
from spa_server.remember.store import Store, open_store


def refused(number: int, label: str | None = "alice", source: str = "192.0.2.7", **other: object) -> Refused:
    about = str(other.get("about", "web"))
    skew_ms = other.get("skew_ms", -5)
    assert isinstance(skew_ms, int)
    return Refused(number, label, ip_address(source), "STALE", about, skew_ms)


def test_refusals_come_back_newest_first_and_whole(store: Store) -> None:
    ring = RefusalRing(store)
    given = [refused(1), refused(2, None, "2001:db8::7"), refused(3, skew_ms=312_000)]
    for one in given:
        ring.add(one)
    assert ring.recent() == given[::-1]
    assert ring.recent(limit=1) == [given[2]]
    assert ring.recent(limit=-1) == []


def test_they_can_be_asked_for_by_device_and_by_address(store: Store) -> None:
    ring = RefusalRing(store)
    ring.add(refused(1, "alice", "192.0.2.7"))
    ring.add(refused(2, "bob", "192.0.2.7"))
    ring.add(refused(3, "alice", "2001:db8::7"))
    assert [one.time_ms for one in ring.recent("alice")] == [3, 1]
    assert [one.time_ms for one in ring.recent(source=ip_address("192.0.2.7"))] == [2, 1]
    assert [one.time_ms for one in ring.recent("alice", ip_address("2001:0db8::7"))] == [3]


def test_the_oldest_give_way_also_after_reopening(folder: Path, store: Store) -> None:
    for n in range(1, 8):
        RefusalRing(store, size=5).add(refused(n))
    store.close()
    with open_store(folder) as again:
        ring = RefusalRing(again, size=5)
        ring.add(refused(8))
        assert [one.time_ms for one in ring.recent()] == [8, 7, 6, 5, 4]


def test_a_smaller_ring_drops_what_no_longer_fits(store: Store) -> None:
    for n in range(1, 21):
        RefusalRing(store, size=20).add(refused(n))
    for n in range(21, 31):
        RefusalRing(store, size=5).add(refused(n))
    assert [one.time_ms for one in RefusalRing(store, size=5).recent()] == [30, 29, 28, 27, 26]


def test_what_a_stranger_chose_is_cut_to_size(store: Store) -> None:
    ring = RefusalRing(store)
    ring.add(refused(1, about="x" * 10_000, skew_ms=-(1 << 80)))
    ring.add(refused(2, about="\ud800", skew_ms=1 << 80))
    second, first = ring.recent()
    assert (len(first.about), first.skew_ms) == (200, -(2**63 - 1))
    assert (second.about, second.skew_ms) == ("?", 2**63 - 1)


def test_a_fault_is_swallowed_and_told_at_most_once_a_minute(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    now_s = 100.0
    ring = RefusalRing(store, monotonic=lambda: now_s)
    store.rows("PRAGMA query_only=ON")
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            ring.add(refused(1))
        assert len(caplog.records) == 1
        now_s += 60
        ring.add(refused(1))
        assert len(caplog.records) == 2
    store.rows("PRAGMA query_only=OFF")
    ring.add(refused(2))
    assert len(ring.recent()) == 1


def test_a_noisy_device_keeps_the_reasons_of_no_other_out(store: Store) -> None:
    ring = RefusalRing(store, size=100, of_one=20)
    for number in range(10):
        ring.add(refused(number, f"quiet-{number}"))
    for number in range(1000):
        ring.add(refused(1000 + number, "noisy"))
    assert [one.time_ms for one in ring.recent("noisy", limit=100)] == list(range(1999, 1979, -1))
    assert all(len(ring.recent(f"quiet-{number}")) == 1 for number in range(10))


def test_where_no_device_is_known_each_address_has_its_own_bound(store: Store) -> None:
    ring = RefusalRing(store, size=100, of_one=3)
    for number in range(10):
        ring.add(refused(number, None, "192.0.2.7"))
    ring.add(refused(10, None, "192.0.2.8"))
    assert len(ring.recent(source=ip_address("192.0.2.7"))) == 3
    assert len(ring.recent(source=ip_address("192.0.2.8"))) == 1


def test_many_devices_stay_within_the_bound_of_all(store: Store) -> None:
    ring = RefusalRing(store, size=50, of_one=20)
    for number in range(300):
        ring.add(refused(number, f"device-{number % 100}"))
    assert len(ring.recent(limit=1000)) == 50
