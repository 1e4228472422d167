"""Keys and invites as text: one typing error, one lost letter, one wrong letter case, and nothing is read."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spa_protocol.invite import Invite
from spa_protocol.place import is_host
from spa_protocol.text import MAX_TEXT, BadText, TextKind, decode, decode_key, encode
from tests.protocol import world
from tests.protocol.strategies import invites

CHARSET = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
TEXT = world.invite("gate.example.org", "192.0.2.1", "2001:db8::1", knock_ports=(62_201, 443)).text()


@given(st.sampled_from(TextKind), st.binary(max_size=200))
def test_a_text_reads_back_in_lower_and_in_upper_case(kind: TextKind, data: bytes) -> None:
    text = encode(kind, data)
    assert decode(kind, text.lower()) == decode(kind, text.upper()) == data
    assert text == (text.upper() if kind.secret else text.lower())


@given(invites)
def test_an_invite_reads_back_as_what_was_written(invite: Invite) -> None:
    assert Invite.parse(invite.text()) == Invite.parse(f"  {invite.text().upper()}\n") == invite


@pytest.mark.parametrize("text", [TEXT, TEXT.upper()], ids=["lower", "upper"])
def test_every_flip_of_a_bit_of_an_invite_is_refused(text: str) -> None:
    for at, character in enumerate(text):
        for bit in range(8):
            with pytest.raises(BadText):
                Invite.parse(text[:at] + chr(ord(character) ^ 1 << bit) + text[at + 1 :])


def test_every_other_letter_in_any_place_of_an_invite_is_refused() -> None:
    for at, character in enumerate(TEXT):
        for other in CHARSET:
            if other != character:
                with pytest.raises(BadText):
                    Invite.parse(TEXT[:at] + other + TEXT[at + 1 :])


def test_every_truncation_of_an_invite_is_refused_from_either_end() -> None:
    for at in range(len(TEXT)):
        with pytest.raises(BadText):
            Invite.parse(TEXT[:at])
        with pytest.raises(BadText):
            Invite.parse(TEXT[at + 1 :])


def test_every_removal_and_every_doubling_of_a_stretch_of_an_invite_is_refused() -> None:
    for size in (1, 2, 3, 19):
        for at in range(len(TEXT) - size + 1):
            with pytest.raises(BadText):
                Invite.parse(TEXT[:at] + TEXT[at + size :])
            with pytest.raises(BadText):
                Invite.parse(TEXT[: at + size] + TEXT[at:])


def test_two_neighbouring_letters_exchanged_are_refused() -> None:
    for at in range(len(TEXT) - 1):
        if TEXT[at] != TEXT[at + 1]:
            with pytest.raises(BadText):
                Invite.parse(TEXT[:at] + TEXT[at + 1] + TEXT[at] + TEXT[at + 2 :])


def test_up_to_three_wrong_letters_in_the_longest_text_are_found() -> None:
    size = (MAX_TEXT - len("spa-invite1") - 6) * 5 // 8
    text = encode(TextKind.INVITE, world.made_up("long", size))
    assert MAX_TEXT - 1 <= len(text) <= MAX_TEXT
    chance = random.Random(20260101)
    for _ in range(1000):
        changed = list(text)
        for at in chance.sample(range(len("spa-invite1"), len(text)), 3):
            changed[at] = chance.choice(CHARSET.replace(text[at], ""))
        with pytest.raises(BadText):
            decode(TextKind.INVITE, "".join(changed))


def test_a_text_of_one_kind_is_not_read_as_another() -> None:
    for written in TextKind:
        for asked in set(TextKind) - {written}:
            with pytest.raises(BadText, match=f"starts with {asked.prefix}1"):
                decode(asked, encode(written, bytes(32)))


def test_a_key_of_another_size_is_refused() -> None:
    for size in {*range(66)} - {32}:
        with pytest.raises(BadText, match="holds 32 bytes"):
            decode_key(TextKind.DEVICE, encode(TextKind.DEVICE, bytes(size)))


def test_what_a_secret_text_held_is_in_no_error() -> None:
    text = encode(TextKind.GATE_SECRET, world.GATE_SECRET)
    for bad in (text[:-1], text + "Q", text.replace("G", "g"), "SPA-GATE-SECRET", text[:-3] + "QQQ", text * 30):
        with pytest.raises(BadText) as caught:
            decode_key(TextKind.GATE_SECRET, bad)
        assert text[-20:-8] not in str(caught.value).upper()


@pytest.mark.parametrize(
    "text", ["", "1", "spa-invite", "spa-invite1", "spa-invite1qqqqqq", "\0", "é", "İ", "SPA-INVİTE1", "K" * 2000]
)
def test_what_is_no_text_at_all_is_refused(text: str) -> None:
    for kind in TextKind:
        with pytest.raises(BadText):
            decode(kind, text)


@pytest.mark.parametrize(
    "host",
    [
        "a",
        "gate",
        "gate.example.org",
        "_srv.example",
        "xn--bcher-kva.example",
        "192.0.2.1",
        "2001:db8::1",
        "::",
        "a" * 63,
        "4u.example",
    ],
)
def test_a_host_is_a_name_or_an_address(host: str) -> None:
    assert is_host(host)


@pytest.mark.parametrize(
    "host",
    [
        "", ".", "gate.", ".gate", "a..b", "-a", "a-", "a_", "a b", "a/b", "gate\n", "büro.example", "a" * 64,
        "a." * 126 + "ab", "192.0.2", "192.0.2.256", "1.2.3.4.5", "192.0.2.1.", "192.0.2.01", "192.0.2.1:443",
        "[2001:db8::1]", "fe80::1%eth0", "2001:db8::1/64", "12345", "\uff11.\uff12.\uff13.\uff14",
    ],
)  # fmt: skip
def test_a_host_is_nothing_else(host: str) -> None:
    assert not is_host(host)


def test_an_invite_says_nothing_that_would_not_be_read_back() -> None:
    good = world.invite()
    long = ".".join(["a" * 60] * 4)
    bad = [
        Invite(good.secret[1:], good.server_identity, good.exchange, 0, (1,), good.hosts),
        Invite(good.secret, good.server_identity + b"\0", good.exchange, 0, (1,), good.hosts),
        Invite(good.secret, good.server_identity, b"", 0, (1,), good.hosts),
        Invite(good.secret, good.server_identity, good.exchange, -1, (1,), good.hosts),
        Invite(good.secret, good.server_identity, good.exchange, 2**64, (1,), good.hosts),
        Invite(good.secret, good.server_identity, good.exchange, 0, (0,), good.hosts),
        Invite(good.secret, good.server_identity, good.exchange, 0, (-1,), good.hosts),
        Invite(good.secret, good.server_identity, good.exchange, 0, (65_536,), good.hosts),
        Invite(good.secret, good.server_identity, good.exchange, 0, (), good.hosts),
        Invite(good.secret, good.server_identity, good.exchange, 0, (1, 1), good.hosts),
        Invite(good.secret, good.server_identity, good.exchange, 0, (1, 2, 3, 4, 5), good.hosts),
        Invite(good.secret, good.server_identity, good.exchange, 0, (1,), ()),
        world.invite(*["a"] * 5),
        world.invite("gate."),
        world.invite(*[long] * 3),
    ]
    for invite in bad:
        with pytest.raises(ValueError, match=r".+"):
            invite.text()
    assert Invite.parse(world.invite(long, long).text()).hosts == (long, long)
