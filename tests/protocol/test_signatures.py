"""Ed25519 and X25519 at their edges: one valid signature, no keys that anyone could sign for."""

from __future__ import annotations

from dataclasses import replace

import pytest
from nacl import bindings

from spa_protocol.enrolment import Enrolment
from spa_protocol.keys import agreed_gate_secret, exchange_public, sign, verify
from spa_protocol.knock import Knock
from spa_protocol.seal import HEAD_SIZE, Domain, Opened, seal, unseal
from spa_protocol.signature import SeedSigner, Signature, VerifyingKey
from tests.protocol import crafting, world
from tests.protocol import second_reading as second
from tests.protocol import second_reading_signature as second_signature

MESSAGE = b"open"
SMALL_ORDER_KEYS = sorted(
    (y | sign_bit << 255).to_bytes(32, "little") for y in second_signature.SMALL_ORDER_Y for sign_bit in (0, 1)
)
NON_CANONICAL_KEYS = sorted(
    (y | sign_bit << 255).to_bytes(32, "little") for y in range(second_signature.PRIME, 2**255) for sign_bit in (0, 1)
)
SMALL_ORDER_X25519 = [
    bytes(32),
    (1).to_bytes(32, "little"),
    bytes.fromhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"),
    bytes.fromhex("5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157"),
    (second_signature.PRIME - 1).to_bytes(32, "little"),
    second_signature.PRIME.to_bytes(32, "little"),
    (second_signature.PRIME + 1).to_bytes(32, "little"),
    ((1 << 255) | 1).to_bytes(32, "little"),
]


def both_verify(public: bytes, message: bytes, signature: bytes) -> bool:
    """Whether it is valid; both readings must say the same."""
    mine = verify(public, message, signature)
    try:
        second_signature.check_signature(public, message, signature)
        theirs = True
    except second.Refused:
        theirs = False
    assert mine == theirs
    return mine


def plus_order(signature: bytes, times: int = 1) -> bytes:
    """The same signature with a multiple of the group order added to S."""
    scalar = int.from_bytes(signature[32:], "little") + times * second_signature.ORDER
    return signature[:32] + scalar.to_bytes(32, "little")


def test_adding_the_group_order_to_a_signature_makes_it_invalid() -> None:
    signature = sign(world.DEVICE_SEED, MESSAGE)
    assert both_verify(world.DEVICE_KEY, MESSAGE, signature)
    for times in range(1, 15):
        assert not both_verify(world.DEVICE_KEY, MESSAGE, plus_order(signature, times))


def test_a_datagram_whose_signature_had_the_group_order_added_is_refused() -> None:
    opened = unseal(world.knock_datagram(), world.DEVICE_KEYS.request_seal)
    assert opened is not None
    assert opened.is_signed_by(VerifyingKey(world.DEVICE_KEY), Domain.KNOCK, world.SERVER_IDENTITY)
    changed = replace(opened, signature=Signature(plus_order(opened.signature.value)))
    assert not changed.is_signed_by(VerifyingKey(world.DEVICE_KEY), Domain.KNOCK, world.SERVER_IDENTITY)


@pytest.mark.parametrize("public", SMALL_ORDER_KEYS + NON_CANONICAL_KEYS, ids=bytes.hex)
def test_a_key_for_which_anyone_could_sign_verifies_nothing(public: bytes) -> None:
    # With a key of small order, R = any point of small order and S = 0 fits one message in eight, or every one.
    for message in (MESSAGE, b"", *(bytes([i]) for i in range(16))):
        for r in (crafting.NEUTRAL_POINT, public):
            assert not both_verify(public, message, r + bytes(32))


def test_a_signature_whose_r_has_small_order_is_invalid_though_its_key_made_it() -> None:
    assert not both_verify(world.DEVICE_KEY, MESSAGE, crafting.with_neutral_r(MESSAGE).value)


@pytest.mark.parametrize("public", SMALL_ORDER_KEYS, ids=bytes.hex)
def test_an_enrolment_under_a_key_for_which_anyone_could_sign_is_refused(public: bytes) -> None:
    body = replace(world.enrolment(), device_key=public).body()
    for i in range(16):
        opened = Opened(bytes(8), bytes([i]) * 24, body, Signature(crafting.NEUTRAL_POINT + bytes(32)), b"")
        assert Enrolment.parse(opened.body).device_key == public
        assert not opened.is_signed_by(VerifyingKey(public), Domain.ENROLMENT, world.SERVER_IDENTITY)


@pytest.mark.parametrize("size", [0, 31, 33])
def test_a_public_key_of_another_size_verifies_nothing(size: int) -> None:
    assert not verify((world.DEVICE_KEY * 2)[:size], MESSAGE, sign(world.DEVICE_SEED, MESSAGE))


def test_a_signature_of_another_size_is_none_even_where_the_message_begins_with_the_rest() -> None:
    signature = sign(world.DEVICE_SEED, MESSAGE)
    assert not verify(world.DEVICE_KEY, signature[63:] + MESSAGE, signature[:63])
    assert not verify(world.DEVICE_KEY, MESSAGE[1:], signature + MESSAGE[:1])


@pytest.mark.parametrize("size", [0, 31, 33])
def test_an_exchange_value_or_secret_of_another_size_is_an_error(size: int) -> None:
    for own, peer in ((bytes(size), bytes(32)), (bytes(32), bytes(size))):
        with pytest.raises(ValueError, match="32 bytes"):
            agreed_gate_secret(
                own_secret=own,
                peer_public=peer,
                invite_secret=world.INVITE_SECRET,
                invite_exchange=bytes(32),
                device_exchange=bytes(32),
                device_key=world.DEVICE_KEY,
            )
    with pytest.raises(ValueError, match="32 bytes"):
        exchange_public(bytes(size))


def test_a_signature_for_one_purpose_serves_no_other() -> None:
    opened = unseal(world.knock_datagram(), world.DEVICE_KEYS.request_seal)
    assert opened is not None
    valid = [
        domain
        for domain in Domain
        if opened.is_signed_by(VerifyingKey(world.DEVICE_KEY), domain, world.SERVER_IDENTITY)
    ]
    assert valid == [Domain.KNOCK]


@pytest.mark.parametrize("seed", [world.OTHER_DEVICE_SEED, world.SERVER_SEED])
def test_the_gate_secret_without_the_devices_key_signs_nothing(seed: bytes) -> None:
    opened = unseal(world.knock_datagram(signer=SeedSigner(seed)), world.DEVICE_KEYS.request_seal)
    assert opened is not None
    assert not opened.is_signed_by(VerifyingKey(world.DEVICE_KEY), Domain.KNOCK, world.SERVER_IDENTITY)


def test_each_signed_part_is_covered_and_none_can_slide_into_the_next() -> None:
    opened = unseal(world.answer_datagram(), world.DEVICE_KEYS.answer_seal, world.knock_datagram()[:HEAD_SIZE])
    assert opened is not None
    assert opened.is_signed_by(VerifyingKey(world.SERVER_IDENTITY), Domain.ANSWER, world.SERVER_IDENTITY)
    slid = replace(opened, tag=opened.tag + opened.nonce[:1], nonce=opened.nonce[1:])
    # The bytes are the same, so only the fixed sizes keep them apart: `seal` and `unseal` must hold to them.
    assert slid.is_signed_by(VerifyingKey(world.SERVER_IDENTITY), Domain.ANSWER, world.SERVER_IDENTITY)
    for tag, nonce, body in ((9, 23, 400), (8, 24, 399), (7, 24, 401), (8, 25, 400)):
        with pytest.raises(ValueError, match="tag, nonce and body have 8, 24 and 400 bytes"):
            seal(
                seal_key=world.DEVICE_KEYS.request_seal,
                signer=SeedSigner(world.DEVICE_SEED),
                domain=Domain.KNOCK,
                server_identity=world.SERVER_IDENTITY,
                tag=bytes(tag),
                nonce=bytes(nonce),
                body=bytes(body),
            )


def test_two_nonces_give_datagrams_with_nothing_in_common() -> None:
    knock = Knock(world.TIME_MS)
    one, other = (
        seal(
            seal_key=world.DEVICE_KEYS.request_seal,
            signer=SeedSigner(world.DEVICE_SEED),
            domain=Domain.KNOCK,
            server_identity=world.SERVER_IDENTITY,
            tag=world.made_up(name, 8),
            nonce=world.nonce(name),
            body=knock.body(),
        )
        for name in ("one", "other")
    )
    assert not any(one[at : at + 4] in other for at in range(len(one) - 3))


@pytest.mark.parametrize("peer", SMALL_ORDER_X25519, ids=bytes.hex)
def test_a_degenerate_exchange_value_agrees_on_nothing(peer: bytes) -> None:
    agreed = agreed_gate_secret(
        own_secret=world.INVITE_EXCHANGE_SECRET,
        peer_public=peer,
        invite_secret=world.INVITE_SECRET,
        invite_exchange=bindings.crypto_scalarmult_base(world.INVITE_EXCHANGE_SECRET),
        device_exchange=peer,
        device_key=world.DEVICE_KEY,
    )
    assert agreed is None
    with pytest.raises(second.Refused):
        second.agree(world.INVITE_EXCHANGE_SECRET, peer, world.INVITE_SECRET, peer)
