"""Devices out of one registry and into another: all of them or none."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from spa_server.remember.delegations import Delegations, is_revoked
from spa_server.remember.registry import Registry, RegistryError
from spa_server.remember.store import Store, open_store
from spa_server.remember.used import Use, UsedSlots
from tests.server.remember.enrolled import NOW_S, add, invite, key


def test_an_export_comes_back_whole_elsewhere(registry: Registry, tmp_path: Path) -> None:
    add(registry)
    registry.redeem(invite(registry), key(3), key(4), key(5), NOW_S)
    add(registry, "bob", 20)
    registry.set_enabled("bob", False)
    text = json.dumps(registry.export())
    other = tmp_path / "other"
    other.mkdir(mode=0o700)
    with open_store(other, create=True) as store:
        devices = Registry(store).import_(json.loads(text), first_window=100)
        assert [device.label for device in devices] == ["alice-laptop", "bob"]
        assert Registry(store).export() == json.loads(text)


def test_what_was_revoked_of_a_devices_delegations_stays_so_through_an_export(
    registry: Registry, store: Store, tmp_path: Path
) -> None:
    add(registry)
    add(registry, "bob", 20)
    Delegations(store).revoke("bob", "ci", 1000)
    Delegations(store).revoke("alice-laptop", "", 2000)
    text = json.dumps(registry.export())
    other = tmp_path / "other"
    other.mkdir(mode=0o700)
    with open_store(other, create=True) as elsewhere:
        devices = {device.label: device.id for device in Registry(elsewhere).import_(json.loads(text), 100)}
        revoked = Delegations(elsewhere).revoked()
        assert [is_revoked(revoked, devices["bob"], "ci", issued_s) for issued_s in (1000, 1001)] == [True, False]
        assert [is_revoked(revoked, devices["alice-laptop"], "x", issued_s) for issued_s in (2000, 2001)] == [
            True,
            False,
        ]
        assert not is_revoked(revoked, devices["bob"], "x", 1000)
        assert Registry(elsewhere).export() == json.loads(text)


def test_an_export_from_before_there_were_delegations_is_taken(registry: Registry) -> None:
    assert [device.label for device in registry.import_([GOOD], first_window=0)] == ["new"]


def test_an_imported_device_starts_with_windows_nobody_can_have_used(registry: Registry, store: Store) -> None:
    add(registry)
    records = registry.export()
    registry.remove("alice-laptop")
    registry.import_(records, first_window=100)
    (credential,) = registry.credentials(NOW_S)
    used = UsedSlots(store)
    assert used.use(credential.id, 99, 0) is Use.RETIRED
    assert used.use(credential.id, 100, 0) is Use.FIRST
    assert used.use(credential.id + 1, 99, 0) is Use.FIRST


GOOD_CREDENTIAL = {
    "public_key": key(70).hex(),
    "gate_secret": key(71).hex(),
    "created_s": 5,
    "retires_s": None,
}
GOOD = {
    "label": "new",
    "user": "alice",
    "roles": ["dev"],
    "enabled": True,
    "created_s": 5,
    "credentials": [GOOD_CREDENTIAL],
}


@pytest.mark.parametrize(
    "bad",
    [
        [],
        {**GOOD, "label": "alice-laptop"},
        {**GOOD, "label": 5},
        {**GOOD, "label": "no good"},
        {**GOOD, "roles": "dev"},
        {**GOOD, "roles": []},
        {**GOOD, "roles": [1]},
        {**GOOD, "enabled": 1},
        {**GOOD, "created_s": True},
        {**GOOD, "created_s": 1 << 70},
        {**GOOD, "credentials": None},
        {**GOOD, "credentials": [{}]},
        {**GOOD, "credentials": [{**GOOD_CREDENTIAL, "public_key": "xyz"}]},
        {**GOOD, "credentials": [{**GOOD_CREDENTIAL, "public_key": "00"}]},
        {k: v for k, v in GOOD.items() if k != "user"},
    ],
)
def test_an_import_with_one_bad_entry_adds_nothing(registry: Registry, bad: object) -> None:
    add(registry)
    with pytest.raises(RegistryError, match=r"entry 2: .*nothing was imported"):
        registry.import_([GOOD, bad], first_window=0)
    assert [device.label for device in registry.devices()] == ["alice-laptop"]


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (None, "'revoked_delegations' must be a list"),
        ([{"delegate": "ci"}], "there is no 'up_to_s'"),
        ([{"delegate": "no good", "up_to_s": 5}], "'delegate' must be a delegate's name"),
        ([{"delegate": "ci", "up_to_s": -1}], "'up_to_s' must be whole seconds since 1970"),
    ],
)
def test_an_import_that_does_not_say_what_was_revoked_adds_nothing(registry: Registry, bad: object, said: str) -> None:
    with pytest.raises(RegistryError, match=f"entry 1: {said}.*nothing was imported"):
        registry.import_([{**GOOD, "revoked_delegations": bad}], first_window=0)
    assert registry.devices() == ()


def test_an_import_of_something_else_is_refused(registry: Registry) -> None:
    with pytest.raises(RegistryError, match="not an export"):
        registry.import_({"label": "x"}, first_window=0)
