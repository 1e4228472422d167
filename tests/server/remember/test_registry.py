"""Devices and credentials: who gets in, by which key, and what is refused in which words."""

from __future__ import annotations

from pathlib import Path

import pytest

from spa_server.remember.registry import Registry, RegistryError
from spa_server.remember.store import Store, open_store
from spa_server.remember.used import Use, UsedSlots
from tests.server.remember.enrolled import NOW_S, add, anywhere, invite, key


def test_a_device_comes_back_as_it_was_added(registry: Registry) -> None:
    add(registry)
    device = registry.device("alice-laptop")
    assert device is not None
    assert (device.label, device.user, device.roles) == ("alice-laptop", "alice", frozenset({"admin", "dev"}))
    assert device.enabled
    assert registry.devices() == (device,)
    (credential,) = registry.credentials(NOW_S)
    assert (credential.device_id, credential.public_key, credential.gate_secret) == (device.id, key(1), key(1001))
    assert registry.device("bob") is None


def test_secrets_do_not_show_in_logs(registry: Registry) -> None:
    add(registry)
    invite(registry)
    assert repr(key(1001)) not in repr(registry.credentials(NOW_S))
    assert repr(key(50)) not in repr(registry.invites(NOW_S))


@pytest.mark.parametrize(
    ("label", "user", "roles", "about"),
    [
        ("", "alice", ["admin"], "label"),
        ("-x", "alice", ["admin"], "label"),
        ("a" * 64, "alice", ["admin"], "label"),
        ("a\n", "alice", ["admin"], "label"),
        ("a b", "alice", ["admin"], "label"),
        ("laptop", "", ["admin"], "user"),
        ("laptop", "al ice", ["admin"], "user"),
        ("laptop", "alice", [], "at least one role"),
        ("laptop", "alice", ["Admin"], "role"),
        ("laptop", "alice", ["admin", "a b"], "role"),
    ],
)
def test_bad_names_are_refused(registry: Registry, label: str, user: str, roles: list[str], about: str) -> None:
    with pytest.raises(RegistryError, match=about):
        registry.add_device(label, user, roles, key(1), key(2), NOW_S)
    with pytest.raises(RegistryError, match=about):
        registry.add_invite(label, user, roles, key(1), key(2), NOW_S, NOW_S + 60)
    assert registry.devices() == ()
    assert registry.invites(NOW_S) == ()


def test_a_key_of_another_length_is_refused(registry: Registry) -> None:
    with pytest.raises(RegistryError, match="has 32 bytes, not 31"):
        registry.add_device("a", "alice", ["admin"], bytes(31), key(2), NOW_S)
    assert registry.devices() == ()


def test_a_label_is_taken_once(registry: Registry) -> None:
    add(registry)
    with pytest.raises(RegistryError, match="already a device alice-laptop"):
        add(registry, number=2)


def test_one_public_key_is_one_device(registry: Registry) -> None:
    add(registry)
    with pytest.raises(RegistryError, match="already belongs to device alice-laptop"):
        registry.add_device("other", "bob", ["dev"], key(1), key(7), NOW_S)
    assert registry.device("other") is None


def test_one_gate_secret_is_one_credential(registry: Registry) -> None:
    add(registry)
    with pytest.raises(RegistryError, match="gate secret is in use"):
        registry.add_device("other", "bob", ["dev"], key(2), key(1001), NOW_S)
    assert registry.device("other") is None


def test_a_disabled_device_keeps_its_credentials_and_can_be_enabled(registry: Registry) -> None:
    add(registry)
    assert not registry.set_enabled("alice-laptop", False).enabled
    assert len(registry.credentials(NOW_S)) == 1
    assert registry.set_enabled("alice-laptop", True).enabled


def test_what_is_asked_of_a_missing_device_says_where_to_look(registry: Registry) -> None:
    with pytest.raises(RegistryError, match="see: spa-server device list"):
        registry.remove("bob")
    with pytest.raises(RegistryError, match="see: spa-server device list"):
        registry.set_enabled("bob", True)


def test_a_removed_device_takes_its_credentials_and_secrets_with_it(folder: Path, registry: Registry) -> None:
    add(registry)
    registry.remove("alice-laptop")
    assert registry.devices() == ()
    assert registry.credentials(NOW_S) == ()
    assert not anywhere(folder, key(1001))


def test_numbers_are_never_given_to_another_device(registry: Registry) -> None:
    add(registry, "a", 1)
    (first,) = registry.credentials(NOW_S)
    registry.remove("a")
    add(registry, "a", 2)
    (second,) = registry.credentials(NOW_S)
    assert second.id > first.id
    assert second.device_id > first.device_id


def test_the_same_keys_added_again_keep_what_they_used(registry: Registry, store: Store) -> None:
    used = UsedSlots(store)
    add(registry)
    (first,) = registry.credentials(NOW_S)
    assert used.use(first.id, 9, 0) is Use.FIRST
    registry.remove("alice-laptop")
    assert used.use(first.id, 9, 0) is Use.AGAIN
    add(registry, "renamed")
    (second,) = registry.credentials(NOW_S)
    assert used.use(second.id, 9, 0) is Use.AGAIN


def test_the_version_changes_with_every_edit_here_or_elsewhere_and_only_then(folder: Path, registry: Registry) -> None:
    seen = [registry.version()]
    add(registry, "a", 1)
    seen.append(registry.version())
    with open_store(folder) as other:
        add(Registry(other), "b", 2)
        seen.append(registry.version())
        Registry(other).set_enabled("b", False)
        seen.append(registry.version())
    assert len(set(seen)) == len(seen)
    registry.credentials(NOW_S)
    assert registry.version() == seen[-1]
