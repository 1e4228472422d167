"""What is kept of delegations, and a state file of an older version that learns to keep it."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from spa_protocol.delegation import Certificate
from spa_server.remember import schema
from spa_server.remember.delegations import FRESH_S, Delegations, is_revoked
from spa_server.remember.registry import Registry, RegistryError
from spa_server.remember.store import StateError, Store, open_store
from tests.server.remember.older import make_older

KEY = bytes(range(32))


def certificate(name: str = "ci", issued_s: int = 1000) -> Certificate:
    return Certificate(KEY, name, ("web", "ssh"), issued_s, issued_s + 600)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "state"
    made.mkdir(mode=0o700)
    return made


@pytest.fixture
def store(folder: Path) -> Store:
    return open_store(folder, create=True)


def add(store: Store, label: str = "alice-laptop") -> Registry:
    registry = Registry(store)
    registry.add_device(label, "alice", ("admin",), KEY, label.encode().ljust(32, b"."), 1)
    return registry


def test_what_was_used_is_listed_once_with_its_last_use(store: Store) -> None:
    device = add(store).device("alice-laptop")
    assert device is not None
    kept = Delegations(store)
    for now_s in (1000, 1001, 1000 + FRESH_S, 1002 + FRESH_S):
        kept.note(device, certificate(), now_s)
    kept.note(device, certificate("bob"), 5000)
    assert [(each.name, each.services, each.last_s) for each in Delegations(store).seen()] == [
        ("bob", ("web", "ssh"), 5000),
        ("ci", ("web", "ssh"), 1000 + FRESH_S),
    ]
    assert kept.seen("another") == ()


def test_what_is_revoked_is_what_was_issued_until_then(store: Store) -> None:
    registry = add(store)
    device = registry.device("alice-laptop")
    assert device is not None
    before = Registry(open_store(store.path.parent)).version
    version = before()
    kept = Delegations(store)
    kept.revoke("alice-laptop", "ci", 2000)
    assert before() != version, "a running server sees it"
    kept.revoke("alice-laptop", "ci", 1500)
    revoked = kept.revoked()
    for name, issued_s, expected in (("ci", 2000, True), ("ci", 2001, False), ("bob", 1000, False)):
        assert is_revoked(revoked, device.id, name, issued_s) is expected
    assert not is_revoked(revoked, device.id + 1, "ci", 1000)
    kept.revoke("alice-laptop", "", 1000)
    assert is_revoked(kept.revoked(), device.id, "bob", 1000)
    assert is_revoked(kept.revoked(), device.id, "ci", 2000), "what was revoked by name stays so"


def test_what_a_removed_device_delegated_is_forgotten_with_it(store: Store) -> None:
    registry = add(store)
    device = registry.device("alice-laptop")
    assert device is not None
    kept = Delegations(store)
    kept.note(device, certificate(), 1000)
    kept.revoke("alice-laptop", "", 1000)
    registry.remove("alice-laptop")
    assert kept.seen() == ()
    assert kept.revoked() == {}
    with pytest.raises(RegistryError, match="no device"):
        kept.revoke("alice-laptop", "ci", 1)


def test_a_state_of_the_first_version_is_brought_up_to_date_with_all_that_is_in_it(folder: Path, store: Store) -> None:
    add(store)
    store.close()
    make_older(store.path, 1)
    with open_store(folder) as upgraded:
        assert upgraded.rows("PRAGMA user_version") == [(schema.VERSION,)]
        assert [device.label for device in Registry(upgraded).devices()] == ["alice-laptop"]
        Delegations(upgraded).revoke("alice-laptop", "ci", 5)
    with open_store(folder) as again:
        assert len(Delegations(again).revoked()) == 1


def test_a_state_of_a_later_version_is_left_alone(folder: Path, store: Store) -> None:
    store.close()
    with sqlite3.connect(folder / "state.sqlite3") as later:
        later.execute(f"PRAGMA user_version={schema.VERSION + 1}")
    later.close()
    with pytest.raises(StateError, match="another version"):
        open_store(folder)
