"""Invites: one device each, once, and what they do to a device that is there already."""

from __future__ import annotations

from pathlib import Path

import pytest

from spa_server.remember.registry import InviteExpired, InviteUsed, Registry, RegistryError
from tests.server.remember.enrolled import NOW_S, add, anywhere, invite, key


def test_an_invite_makes_a_device_and_loses_its_exchange_key(folder: Path, registry: Registry) -> None:
    number = invite(registry)
    assert anywhere(folder, key(2050))
    device = registry.redeem(number, key(3), key(4), key(5), NOW_S + 10)
    assert (device.label, device.user, device.roles, device.enabled) == (
        "alice-laptop",
        "alice",
        frozenset({"admin", "dev"}),
        True,
    )
    (credential,) = registry.credentials(NOW_S + 10)
    assert (credential.public_key, credential.gate_secret, credential.retires_s) == (key(3), key(5), None)
    (used,) = registry.invites(NOW_S + 10)
    assert (used.exchange_key, used.used_by_key, used.used_exchange) == (None, key(3), key(4))
    assert not anywhere(folder, key(2050))


def test_an_invite_works_for_one_key_only(registry: Registry) -> None:
    number = invite(registry)
    device = registry.redeem(number, key(3), key(4), key(5), NOW_S)
    assert registry.redeem(number, key(3), key(4), key(6), NOW_S) == device
    for other in ((key(9), key(4)), (key(3), key(9)), (key(9), key(9))):
        with pytest.raises(InviteUsed, match="make a new one: spa-server invite alice-laptop"):
            registry.redeem(number, *other, key(6), NOW_S)
    assert len(registry.credentials(NOW_S)) == 1


def test_a_used_invite_does_not_bring_a_removed_device_back(registry: Registry) -> None:
    number = invite(registry)
    registry.redeem(number, key(3), key(4), key(5), NOW_S)
    registry.remove("alice-laptop")
    with pytest.raises(RegistryError, match="no such invite"):
        registry.redeem(number, key(3), key(4), key(5), NOW_S)
    assert registry.devices() == ()


def test_an_expired_invite_is_refused_and_no_longer_listed(registry: Registry) -> None:
    number = invite(registry)
    assert len(registry.invites(NOW_S + 3599)) == 1
    assert registry.invites(NOW_S + 3600) == ()
    with pytest.raises(InviteExpired):
        registry.redeem(number, key(3), key(4), key(5), NOW_S + 3600)
    assert registry.devices() == ()


def test_an_invite_without_time_or_number_is_refused(registry: Registry) -> None:
    with pytest.raises(RegistryError, match="expired already"):
        registry.add_invite("a", "alice", ["dev"], key(1), key(2), NOW_S, NOW_S)
    with pytest.raises(RegistryError, match="no such invite"):
        registry.redeem(77, key(3), key(4), key(5), NOW_S)


def test_old_invites_can_be_erased(folder: Path, registry: Registry) -> None:
    invite(registry)
    assert registry.drop_invites(NOW_S + 3600) == 0
    assert registry.drop_invites(NOW_S + 3601) == 1
    assert not anywhere(folder, key(50))
    assert not anywhere(folder, key(2050))


def test_a_second_invite_rotates_keys_with_an_overlap(registry: Registry) -> None:
    add(registry)
    number = invite(registry, overlap_s=600)
    before = registry.device("alice-laptop")
    assert registry.redeem(number, key(3), key(4), key(5), NOW_S + 10) == before
    keys = {credential.public_key: credential.retires_s for credential in registry.credentials(NOW_S + 10)}
    assert keys == {key(1): NOW_S + 610, key(3): None}
    assert [credential.public_key for credential in registry.credentials(NOW_S + 610)] == [key(3)]


def test_a_later_rotation_does_not_lengthen_an_earlier_overlap(registry: Registry) -> None:
    add(registry)
    registry.redeem(invite(registry, number=50, overlap_s=100), key(3), key(4), key(5), NOW_S)
    registry.redeem(invite(registry, number=51, overlap_s=900), key(6), key(7), key(8), NOW_S)
    ends = {credential.public_key: credential.retires_s for credential in registry.credentials(NOW_S)}
    assert ends == {key(1): NOW_S + 100, key(3): NOW_S + 900, key(6): None}


def test_a_rotation_without_overlap_erases_the_old_keys_whatever_the_clock_does(registry: Registry) -> None:
    add(registry)
    registry.redeem(invite(registry, overlap_s=0), key(3), key(4), key(5), NOW_S)
    assert [credential.public_key for credential in registry.credentials(0)] == [key(3)]


def test_a_rotation_leaves_a_disabled_device_disabled(registry: Registry) -> None:
    add(registry)
    registry.set_enabled("alice-laptop", False)
    assert not registry.redeem(invite(registry), key(3), key(4), key(5), NOW_S).enabled


def test_a_rotation_cannot_change_user_or_roles(registry: Registry) -> None:
    add(registry)
    for user, roles in (("mallory", ["admin", "dev"]), ("alice", ["admin"])):
        with pytest.raises(RegistryError, match="give the same to rotate its keys"):
            registry.add_invite("alice-laptop", user, roles, key(60), key(61), NOW_S, NOW_S + 60)


def test_a_device_that_appeared_since_the_invite_is_not_taken_over(registry: Registry) -> None:
    number = invite(registry)
    registry.add_device("alice-laptop", "bob", ["dev"], key(1), key(2), NOW_S)
    with pytest.raises(RegistryError, match="of user bob"):
        registry.redeem(number, key(3), key(4), key(5), NOW_S)
    assert registry.invites(NOW_S)[0].used_by_key is None
    assert len(registry.credentials(NOW_S)) == 1


def test_an_invite_redeemed_with_another_devices_key_is_refused_whole(registry: Registry) -> None:
    add(registry, "other", 3)
    number = invite(registry)
    with pytest.raises(RegistryError, match="already belongs to device other"):
        registry.redeem(number, key(3), key(4), key(5), NOW_S)
    assert registry.device("alice-laptop") is None
    assert registry.invites(NOW_S)[0].exchange_key == key(2050)


@pytest.mark.parametrize("shut_out", ["remove", "disable"])
def test_a_device_that_is_shut_out_cannot_come_back_by_an_older_invite(registry: Registry, shut_out: str) -> None:
    registry.add_device("laptop", "alice", ("admin",), key(1), key(2), 100)
    invite = registry.add_invite("laptop", "alice", ("admin",), key(3), key(4), 100, 10_000)
    other = registry.add_invite("phone", "alice", ("admin",), key(5), key(6), 100, 10_000)
    if shut_out == "remove":
        registry.remove("laptop")
    else:
        registry.set_enabled("laptop", False)
    assert [left.id for left in registry.invites(200)] == [other.id]
    with pytest.raises(RegistryError, match="no such invite"):
        registry.redeem(invite.id, key(7), key(8), key(9), 200)


def test_an_invite_that_nobody_used_can_be_withdrawn(registry: Registry) -> None:
    used = registry.add_invite("laptop", "alice", ("admin",), key(3), key(4), 100, 10_000)
    registry.redeem(used.id, key(7), key(8), key(9), 200)
    registry.add_invite("laptop", "alice", ("admin",), key(5), key(6), 100, 10_000)
    assert registry.withdraw_invites("laptop") == 1
    assert registry.withdraw_invites("laptop") == 0
    assert [left.id for left in registry.invites(200)] == [used.id]
    assert registry.redeem(used.id, key(7), key(8), None, 300).label == "laptop"
