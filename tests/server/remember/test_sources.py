"""Which addresses a device was let in from."""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path

import pytest

from spa_server.remember import sources
from spa_server.remember.sources import SourcesOfDevices
from spa_server.remember.store import Store, open_store
from spa_server.remember.used import NotRecorded

HOME, TRAIN = ip_address("192.0.2.7"), ip_address("2001:db8::7")


def test_every_address_of_a_device_is_known_after_a_restart(folder: Path, store: Store) -> None:
    noted = SourcesOfDevices(store)
    for label, source in (("alice", HOME), ("bob", HOME), ("alice", TRAIN), ("alice", HOME)):
        noted.note(label, source, 1000)
    store.close()
    with open_store(folder) as again:
        assert set(SourcesOfDevices(again).of("alice")) == {HOME, TRAIN}
        assert SourcesOfDevices(again).of("bob") == (HOME,)
        assert SourcesOfDevices(again).of("carol") == ()


def test_what_cannot_be_written_is_said(store: Store) -> None:
    noted = SourcesOfDevices(store)
    store.rows("PRAGMA query_only=ON")
    with pytest.raises(NotRecorded):
        noted.note("alice", HOME, 1000)
    store.rows("PRAGMA query_only=OFF")
    noted.note("alice", HOME, 1000)
    assert noted.of("alice") == (HOME,)


def test_a_pair_is_written_again_when_it_is_no_longer_fresh_or_the_clock_went_back(store: Store) -> None:
    noted = SourcesOfDevices(store)
    seen = []
    for now_s in (1000, 1001, 1000 + sources.FRESH_S, 500):
        noted.note("alice", HOME, now_s)
        seen.append(store.rows("SELECT last_s FROM source_of_device")[0][0])
    assert seen == [1000, 1000, 1000 + sources.FRESH_S, 500]


def test_the_oldest_are_forgotten_beyond_the_bound(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "MOST_SOURCES", 10)
    noted = SourcesOfDevices(store)
    for number in range(12):
        noted.note("alice", ip_address(f"192.0.2.{number}"), number * 10_000)
    noted.prune()
    assert {str(source) for source in noted.of("alice")} == {f"192.0.2.{number}" for number in range(7, 12)}
    noted.prune()
    assert len(noted.of("alice")) == 5
