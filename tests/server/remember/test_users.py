"""People in the state file: kept out, let in, and known by codes of which each counts once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spa_protocol.keys import public_key
from spa_server.remember import one_time
from spa_server.remember.device import RegistryError
from spa_server.remember.one_time import STEP_S, code_of, step_of
from spa_server.remember.registry import Registry
from spa_server.remember.store import Store, open_store
from spa_server.remember.users import MOST_TRIES, TRIES_WITHIN_S, Users

SECRET = b"12345678901234567890"
NOW_S = 1_767_225_600


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    (tmp_path / "state").mkdir(mode=0o700)
    with open_store(tmp_path / "state", create=True) as opened:
        registry = Registry(opened)
        for number, (label, user) in enumerate((("alice-laptop", "alice"), ("alice-pc", "alice"), ("bob-pc", "bob"))):
            registry.add_device(label, user, ["admin"], public_key(bytes([number]) * 32), bytes([number]) * 32, NOW_S)
        yield opened


@pytest.fixture
def users(store: Store) -> Users:
    return Users(store)


@pytest.mark.parametrize(
    ("time_s", "code"),
    [
        (59, "94287082"),
        (1111111109, "07081804"),
        (1111111111, "14050471"),
        (1234567890, "89005924"),
        (2000000000, "69279037"),
        (20000000000, "65353130"),
    ],
)
def test_codes_are_those_of_rfc_6238(time_s: int, code: str) -> None:
    assert code_of(SECRET, time_s // STEP_S, digits=8) == code
    assert code_of(SECRET, time_s // STEP_S) == code[2:]


def code_at(time_s: int) -> str:
    return code_of(SECRET, time_s // STEP_S)


def test_everybody_who_has_a_device_is_a_user(users: Users) -> None:
    assert [(each.name, each.enabled, each.has_totp, each.devices) for each in users.users()] == [
        ("alice", True, False, ("alice-laptop", "alice-pc")),
        ("bob", True, False, ("bob-pc",)),
    ]
    with pytest.raises(RegistryError, match="spa-server user list"):
        users.user("carol")


def test_who_is_disabled_is_known_and_loses_invites(users: Users, store: Store) -> None:
    registry = Registry(store)
    registry.add_invite("alice-new", "alice", ["admin"], bytes(32), bytes(32), NOW_S, NOW_S + 60)
    registry.add_invite("bob-new", "bob", ["admin"], b"b" * 32, bytes(32), NOW_S, NOW_S + 60)
    users.set_enabled("alice", False)
    assert users.disabled() == {"alice"}
    assert [invite.user for invite in registry.invites(NOW_S)] == ["bob"]
    users.set_enabled("alice", True)
    assert users.disabled() == frozenset()
    with pytest.raises(RegistryError):
        users.set_enabled("carol", False)


def test_each_code_counts_once_also_for_another_process(users: Users, store: Store) -> None:
    users.set_totp("alice", SECRET)
    assert users.has_totp("alice")
    assert users.check_code("alice", code_at(NOW_S), NOW_S)
    assert not users.check_code("alice", code_at(NOW_S), NOW_S)
    with open_store(store.path.parent) as other:
        assert not Users(other).check_code("alice", code_at(NOW_S), NOW_S + 5)
    assert not users.check_code("alice", code_at(NOW_S - STEP_S), NOW_S), "nor does one from before it"
    assert users.check_code("alice", code_at(NOW_S + STEP_S), NOW_S)


def test_a_code_that_was_asked_for_when_the_secret_was_set_counts_no_more(users: Users) -> None:
    users.set_totp("alice", SECRET, used_step=NOW_S // STEP_S)
    assert not users.check_code("alice", code_at(NOW_S), NOW_S)
    assert users.check_code("alice", code_at(NOW_S + STEP_S), NOW_S)


def is_on_disk(store: Store, secret: bytes) -> bool:
    return any(secret in path.read_bytes() for path in store.path.parent.iterdir())


def test_secrets_that_were_taken_away_are_on_no_disk(users: Users, store: Store) -> None:
    users.set_totp("alice", SECRET)
    assert is_on_disk(store, SECRET)
    users.set_totp("alice", None)
    assert not is_on_disk(store, SECRET)


@pytest.mark.parametrize("edit", ["user kept out", "other roles"])
def test_neither_are_invites_that_an_edit_makes_void(users: Users, store: Store, edit: str) -> None:
    invited = b"i" * 32
    Registry(store).add_invite("alice-laptop", "alice", ["admin"], invited, bytes(32), NOW_S, NOW_S + 60)
    assert is_on_disk(store, invited)
    if edit == "user kept out":
        users.set_enabled("alice", False)
    else:
        Registry(store).set_roles("alice-laptop", ["dev"])
    assert not is_on_disk(store, invited)


@pytest.mark.parametrize(("off", "taken"), [(-2, False), (-1, True), (0, True), (1, True), (2, False)])
def test_a_clock_may_be_off_by_one_step(users: Users, off: int, taken: bool) -> None:
    users.set_totp("alice", SECRET)
    assert users.check_code("alice", code_at(NOW_S + off * STEP_S), NOW_S) is taken


def test_codes_are_taken_of_nobody_else(users: Users) -> None:
    users.set_totp("alice", SECRET)
    assert not users.check_code("bob", code_at(NOW_S), NOW_S)
    assert not users.check_code("carol", code_at(NOW_S), NOW_S)
    users.set_totp("alice", None)
    assert not users.has_totp("alice")
    assert not users.check_code("alice", code_at(NOW_S), NOW_S)


def test_after_so_many_wrong_ones_none_is_taken_for_a_while(users: Users) -> None:
    users.set_totp("alice", SECRET)
    for _ in range(MOST_TRIES):
        assert not users.check_code("alice", "000000", NOW_S)
    assert not users.check_code("alice", code_at(NOW_S), NOW_S)
    later_s = NOW_S + TRIES_WITHIN_S
    assert users.check_code("alice", code_at(later_s), later_s)


@given(st.text(st.characters(max_codepoint=0x17F), max_size=9), st.integers(0, 2**40), st.integers(-1, 2**36))
def test_no_text_is_taken_for_a_code_of_another_step(code: str, now_s: int, used: int) -> None:
    step = step_of(SECRET, code, now_s, used)
    if step is not None:
        assert code == code_of(SECRET, step)
        assert step > used
        assert abs(step - now_s // STEP_S) <= 1


def test_a_second_factor_is_remembered_for_its_device_until_the_key_or_the_secret_changes(
    users: Users, store: Store
) -> None:
    assert users.factor_age_s("alice-laptop", NOW_S) is None
    users.note_factor("alice-laptop", NOW_S)
    assert users.factor_age_s("alice-laptop", NOW_S + 7) == 7
    assert users.factor_age_s("alice-pc", NOW_S + 7) is None
    assert users.factor_age_s("alice-laptop", NOW_S - 1) is None, "a clock that was set back"
    users.set_totp("alice", SECRET)
    assert users.factor_age_s("alice-laptop", NOW_S + 7) is None
    users.note_factor("alice-laptop", NOW_S)
    Registry(store).remove("alice-laptop")
    assert users.factor_age_s("alice-laptop", NOW_S + 7) is None
    users.note_factor("alice-laptop", NOW_S)
    Registry(store).add_device("alice-laptop", "mallory", ["admin"], public_key(b"m" * 32), b"m" * 32, NOW_S)
    assert users.factor_age_s("alice-laptop", NOW_S + 7) is None


def test_the_uri_is_what_apps_read() -> None:
    said = one_time.uri(SECRET, "alice@example.org", "gw.example.org")
    assert said == (
        "otpauth://totp/gw.example.org%3Aalice@example.org"
        "?secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ&issuer=gw.example.org"
    )


def test_other_roles_void_the_invites_for_the_old_ones(store: Store) -> None:
    registry = Registry(store)
    registry.add_invite("alice-laptop", "alice", ["admin"], bytes(32), bytes(32), NOW_S, NOW_S + 60)
    assert registry.set_roles("alice-laptop", ["dev"]).roles == {"dev"}
    assert registry.invites(NOW_S) == ()
    with pytest.raises(RegistryError, match="at least one role"):
        registry.set_roles("alice-laptop", [])
    with pytest.raises(RegistryError):
        registry.set_roles("nobody", ["dev"])
