"""Joining: the invite, the answer, and what is left when either fails."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from spa_client.enrol import default_name, join, own_label
from spa_client.errors import BadConfiguration, BadUsage, ClockWrong, NoAnswer, Refused
from spa_client.exchange import wall_ms
from spa_client.knocking import Request, knock_perimeter
from spa_client.storage import Store
from spa_protocol.enrolment import Enrolment
from spa_protocol.names import is_label
from spa_protocol.signature import SeedSigner
from tests.client.gatekeeper import Gatekeeper
from tests.stalls import promptly, wait_until


def under_way(store: Store) -> list[Path]:
    return list(store.folder.glob(".joining-*")) if store.folder.exists() else []


def test_both_sides_hold_the_same_secrets_afterwards(server: Gatekeeper, store: Store) -> None:
    perimeter = join(server.invite().text(), store=store, name="office")
    assert len(server.devices) == 1
    assert perimeter.gate_secret == server.devices[0].gate_secret
    assert perimeter.signer.key.public == server.devices[0].public
    assert perimeter.label == "alice-laptop"
    assert [(service.name, service.tcp_port) for service in perimeter.services] == [("web", 8443)]
    assert store.load("office") == perimeter


def test_nothing_of_the_enrolment_is_left(server: Gatekeeper, store: Store) -> None:
    join(server.invite().text(), store=store, name="office")
    assert sorted(path.name for path in (store.folder / "office").iterdir()) == [
        "device.key",
        "gate.secret",
        "perimeter.toml",
    ]
    assert not under_way(store)


def test_white_space_around_the_invite_does_not_matter(server: Gatekeeper, store: Store) -> None:
    join(f"  {server.invite().text()}\n", store=store, name="office")
    assert store.names() == ("office",)


def test_an_answer_that_was_lost_does_not_lose_the_key(server: Gatekeeper, store: Store) -> None:
    invite = server.invite().text()
    server.behaviour.lose_answers = 100
    with pytest.raises(NoAnswer, match="run the same join again"):
        join(invite, store=store, name="office", timeout_s=0.2)
    wait_until(lambda: len(server.devices) > 0, "the server to have enrolled it")
    assert len(server.devices) == 1
    assert store.names() == ()
    server.behaviour.lose_answers = 0
    perimeter = join(invite, store=store, name="another-name")
    assert len(server.devices) == 1
    assert perimeter.gate_secret == server.devices[0].gate_secret
    assert store.names() == ("another-name",)
    assert not under_way(store)


def test_a_crash_between_key_and_answer_does_not_lose_the_key(
    server: Gatekeeper, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    invite = server.invite().text()

    def crash(*anything: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Store, "adopt", crash)
        with pytest.raises(KeyboardInterrupt):
            join(invite, store=store, name="office")
    assert len(server.devices) == 1
    perimeter = join(invite, store=store, name="office")
    assert perimeter.gate_secret == server.devices[0].gate_secret
    assert len(server.devices) == 1


def test_every_try_shows_the_same_key_and_exchange(server: Gatekeeper, store: Store) -> None:
    server.behaviour.lose_answers = 5
    join(server.invite().text(), store=store, name="office", timeout_s=8)
    shown = {
        (seen.message.device_key, seen.message.exchange)
        for seen in server.requests
        if isinstance(seen.message, Enrolment)
    }
    assert len(server.requests) > 2
    assert len(shown) == 1


def test_an_invite_used_by_another_is_refused(server: Gatekeeper, store: Store) -> None:
    invite = server.invite()
    join(invite.text(), store=store, name="office")
    with pytest.raises(Refused, match="already used"):
        join(invite.text(), store=store, name="second")
    assert not under_way(store)
    assert store.names() == ("office",)


def test_an_expired_invite_is_refused_before_anything_is_sent(server: Gatekeeper, store: Store) -> None:
    with pytest.raises(Refused, match=r"the invite expired at \d{4}-\d\d-\d\d \d\d:\d\d UTC.*ask for a new one"):
        join(server.invite(expires_in_s=-10).text(), store=store, name="office")
    assert not server.requests
    assert not under_way(store)


def test_a_join_begun_in_time_is_still_tried_when_the_invite_has_expired(server: Gatekeeper, store: Store) -> None:
    invite = server.invite()
    server.behaviour.silent = True
    with pytest.raises(NoAnswer):
        join(invite.text(), store=store, name="office", timeout_s=0.1)
    later_ms = (invite.expires_s + 60) * 1000
    with pytest.raises(Refused, match="the invite expired"):
        join(invite.text(), store=store, name="office", timeout_s=0.1, clock=lambda: later_ms)
    server.behaviour.silent = False
    server.behaviour.clock_ms = later_ms - wall_ms()
    assert join(invite.text(), store=store, name="office", clock=lambda: later_ms).name == "office"


def test_an_invite_that_expires_in_a_time_that_never_was_is_handled(server: Gatekeeper, store: Store) -> None:
    invite = replace(server.invite(), expires_s=(1 << 64) - 1)
    # The server does not know it; the point is that its date breaks nothing here.
    with pytest.raises(NoAnswer):
        join(replace(invite, secret=bytes(32)).text(), store=store, name="office", timeout_s=0.1)


def test_a_clock_an_hour_off_is_named(server: Gatekeeper, store: Store) -> None:
    server.behaviour.clock_ms = 1800_000
    with pytest.raises(ClockWrong, match=r"clock is 18\d\d s behind"):
        join(server.invite().text(), store=store, name="office")


def test_no_changed_character_of_an_invite_is_accepted(server: Gatekeeper, store: Store) -> None:
    text = server.invite().text()
    for at, character in enumerate(text):
        for other in ("q", "p", "1", "!", " ", "é", "\0"):
            # A space at the end is only white space around it.
            if other != character and not (other == " " and at == len(text) - 1):
                with pytest.raises(BadUsage, match="the invite cannot be used"):
                    join(text[:at] + other + text[at + 1 :], store=store, name="office")
    assert not server.requests


def test_no_truncated_invite_is_accepted(server: Gatekeeper, store: Store) -> None:
    text = server.invite().text()
    for size in range(len(text)):
        with pytest.raises(BadUsage, match="the invite cannot be used"):
            join(text[:size], store=store, name="office")


def test_a_degenerate_exchange_value_is_refused_before_anything_is_sent(server: Gatekeeper, store: Store) -> None:
    with pytest.raises(BadUsage, match="degenerate"):
        join(replace(server.invite(), exchange=bytes(32)).text(), store=store, name="office")
    assert not server.requests
    assert not under_way(store)


def test_a_name_that_is_taken_is_kept(server: Gatekeeper, store: Store) -> None:
    first = join(server.invite().text(), store=store, name="office")
    server.requests.clear()
    with pytest.raises(BadUsage, match=r"joined already.*--name.*--replace"):
        join(server.invite().text(), store=store, name="office")
    assert not server.requests
    assert store.load("office") == first


def test_a_name_that_is_taken_can_be_replaced(server: Gatekeeper, store: Store) -> None:
    first = join(server.invite().text(), store=store, name="office")
    second = join(server.invite().text(), store=store, name="office", replace_old=True)
    assert store.load("office") == second
    assert second.signer.key != first.signer.key
    assert store.names() == ("office",)
    assert not list(store.folder.glob(".replaced-*"))


def test_a_failed_replacement_leaves_the_old_one(server: Gatekeeper, store: Store) -> None:
    first = join(server.invite().text(), store=store, name="office")
    server.behaviour.silent = True
    with pytest.raises(NoAnswer):
        join(server.invite().text(), store=store, name="office", replace_old=True, timeout_s=0.1)
    assert store.load("office") == first


def test_one_laptop_can_join_two_servers(server: Gatekeeper, store: Store) -> None:
    with Gatekeeper() as other:
        join(server.invite().text(), store=store, name="one")
        join(other.invite().text(), store=store, name="two")
        for name in ("one", "two"):
            perimeter = store.load(name)
            assert knock_perimeter(perimeter, Request(), store.memory(perimeter.name)).addresses


def test_a_server_that_never_answers_can_be_joined(server: Gatekeeper, store: Store) -> None:
    server.behaviour.silent = True
    perimeter = join(server.invite().text(), store=store, name="office", answers=False, timeout_s=0.2)
    assert not perimeter.answers
    wait_until(lambda: len(server.devices) > 0, "the server to have enrolled it")
    assert perimeter.gate_secret == server.devices[0].gate_secret
    assert is_label(perimeter.label)


def test_a_knock_at_a_server_that_never_answers_does_not_wait(server: Gatekeeper, store: Store) -> None:
    server.behaviour.silent = True
    perimeter = join(server.invite().text(), store=store, name="office", answers=False, timeout_s=0.2)
    server.requests.clear()

    def knock() -> None:
        with pytest.raises(NoAnswer, match="does not answer knocks: use --wait"):
            knock_perimeter(perimeter, Request(), store.memory(perimeter.name))

    promptly(knock, 0.2)


@pytest.mark.parametrize("name", ["", "Office", "-x", "a/b", "..", ".x", "a b", "a" * 64, "a.b"])
def test_a_name_is_also_a_safe_folder(name: str, server: Gatekeeper, store: Store) -> None:
    with pytest.raises(BadUsage, match="cannot name a perimeter"):
        join(server.invite().text(), store=store, name=name)


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("office.example.com", "office"),
        ("OFFICE", "office"),
        ("198.51.100.1", "198-51-100-1"),
        ("2001:db8::1", "2001-db8-1"),
        ("::1", "1"),
        ("_x.example", "x"),
        ("_", "perimeter"),
    ],
)
def test_the_name_comes_from_the_server_where_none_is_given(host: str, name: str) -> None:
    assert default_name(host) == name


@pytest.mark.parametrize("host", ["Ann's Mac.local", "", "...", "ü" * 80, "a" * 200])
def test_whatever_the_computer_is_called_it_has_a_label(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: host)
    assert is_label(own_label())


def test_a_damaged_join_under_way_is_named(server: Gatekeeper, store: Store) -> None:
    invite = server.invite().text()
    server.behaviour.silent = True
    with pytest.raises(NoAnswer):
        join(invite, store=store, name="office", timeout_s=0.1)
    (under_way(store)[0] / "device.key").write_text("nonsense")
    with pytest.raises(BadConfiguration, match="damaged"):
        join(invite, store=store, name="office")


def test_the_secrets_do_not_show_in_a_repr(server: Gatekeeper, store: Store) -> None:
    perimeter = join(server.invite().text(), store=store, name="office")
    assert isinstance(perimeter.signer, SeedSigner)
    for secret in (perimeter.signer.seed, perimeter.gate_secret):
        assert repr(secret)[2:-1] not in repr(perimeter.signer)
        assert repr(secret)[2:-1] not in repr(perimeter)
        assert secret.hex() not in repr(perimeter)


def test_the_joining_is_on_disk_before_the_first_datagram(
    server: Gatekeeper, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[str] = []

    def stop(*anything: object) -> None:
        found.extend(path.name for path in under_way(store)[0].iterdir())
        raise KeyboardInterrupt

    monkeypatch.setattr("spa_client.enrol.ask", stop)
    with pytest.raises(KeyboardInterrupt):
        join(server.invite().text(), store=store, name="office")
    assert sorted(found) == ["device.key", "exchange.secret"]
    assert all(path.stat().st_mode & 0o077 == 0 for path in under_way(store)[0].iterdir()) or os.name == "nt"
    assert wall_ms() > 0
