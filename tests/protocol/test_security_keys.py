"""Security keys: a touch for each signature, one form of it, and no way to or from a plain key."""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spa_protocol.keys import sign
from spa_protocol.seal import Domain, unseal
from spa_protocol.signature import SeedSigner, Signature, Signer, VerifyingKey
from tests.protocol import second_reading_delegation as second_delegation
from tests.protocol import second_reading_signature as second
from tests.protocol import world
from tests.protocol.second_reading_body import Refused
from tests.protocol.security_key import SecurityKey
from tests.protocol.strategies import applications, keys, signatures, signers

MESSAGE = b"open"
KEY = world.SECURITY_KEY


def both_verify(key: VerifyingKey, message: bytes, signature: Signature) -> bool:
    """Whether it is valid; both readings must say the same."""
    mine = key.verify(message, signature)
    try:
        second.check(
            second.Key(key.public, key.application), message, second.Signature(signature.value, signature.proof)
        )
        theirs = True
    except Refused:
        theirs = False
    assert mine == theirs
    return mine


@given(signers, st.binary(max_size=600))
def test_what_a_key_signs_both_readings_verify(signer: Signer, message: bytes) -> None:
    assert both_verify(signer.key, message, signer.sign(message))


@given(signers, st.binary(max_size=40), signatures)
def test_nothing_else_is_verified(signer: Signer, message: bytes, other: Signature) -> None:
    assert not both_verify(signer.key, message, other)
    assert not both_verify(signer.key, message + b"\0", signer.sign(message))
    genuine = signer.sign(message)
    if other.proof != genuine.proof:
        assert not both_verify(signer.key, message, replace(other, value=genuine.value))


def test_of_all_flags_only_touched_with_or_without_a_verified_user_are_good() -> None:
    good = [flags for flags in range(256) if both_verify(KEY.key, MESSAGE, replace(KEY, flags=flags).sign(MESSAGE))]
    assert good == [0x01, 0x05]


def test_every_flip_of_a_bit_of_flags_counter_or_signature_is_refused() -> None:
    genuine = KEY.sign(MESSAGE)
    parts = genuine.proof + genuine.value
    for at in range(len(parts)):
        for bit in range(8):
            flipped = parts[:at] + bytes([parts[at] ^ 1 << bit]) + parts[at + 1 :]
            assert not both_verify(KEY.key, MESSAGE, Signature.of(flipped[5:], flipped[:5]))


@pytest.mark.parametrize("counter", [0, 1, 2**31, 2**32 - 1])
def test_the_counter_may_be_anything_for_it_is_the_tag_that_is_used_once(counter: int) -> None:
    assert both_verify(KEY.key, MESSAGE, replace(KEY, counter=counter).sign(MESSAGE))


@given(keys, applications, applications)
def test_a_key_made_for_one_application_signs_for_no_other(seed: bytes, own: str, other: str) -> None:
    if own != other:
        assert not both_verify(
            VerifyingKey(SecurityKey(seed).key.public, own), MESSAGE, SecurityKey(seed, other).sign(MESSAGE)
        )


def test_neither_kind_of_key_is_taken_for_the_other() -> None:
    plain, as_security_key = SeedSigner(KEY.seed), KEY.sign(MESSAGE)
    assert both_verify(plain.key, MESSAGE, plain.sign(MESSAGE))
    assert not both_verify(plain.key, MESSAGE, as_security_key)
    assert not both_verify(plain.key, MESSAGE, replace(as_security_key, flags=0, counter=0))
    for proof in ((0, 0), (1, 0), (1, 41)):
        assert not both_verify(KEY.key, MESSAGE, Signature(plain.sign(MESSAGE).value, *proof))


def test_a_plain_key_that_signs_what_an_authenticator_would_has_signed_nothing_of_ours() -> None:
    message = sha256(b"ssh:").digest() + bytes([1, 0, 0, 0, 41]) + sha256(MESSAGE).digest()
    assert sign(KEY.seed, message) == KEY.sign(MESSAGE).value
    assert not any(message.startswith(domain.value) for domain in Domain)
    assert not both_verify(VerifyingKey(KEY.key.public), MESSAGE, Signature(sign(KEY.seed, message)))


LONGEST_SSH_PACKET = 256 * 1024
"""OpenSSH's limit, for packets and for an agent's requests."""


@pytest.mark.parametrize("domain", [*(domain.value for domain in Domain), second_delegation.DOMAIN])
def test_nothing_that_ssh_signs_starts_as_what_we_sign(domain: bytes) -> None:
    """SSH signs a string first (a session, a certificate's kind), which starts with its length, or else SSHSIG."""
    assert int.from_bytes(domain[:4], "big") > LONGEST_SSH_PACKET
    assert not domain.startswith(b"SSHSIG")


def test_a_plain_key_has_no_flags_and_no_counter() -> None:
    plain = SeedSigner(world.DEVICE_SEED)
    for flags, counter in ((1, 0), (0, 1), (5, 41)):
        assert not both_verify(plain.key, MESSAGE, replace(plain.sign(MESSAGE), flags=flags, counter=counter))


def test_a_knock_says_its_kind_and_that_is_signed() -> None:
    holder = world.HOLDERS["security-key"]
    opened = unseal(world.knock_datagram(holder=holder), holder.keys.request_seal)
    assert opened is not None
    assert opened.body[2] == 2
    assert opened.body[-5:] == bytes(5)
    assert opened.is_signed_by(holder.device.key, Domain.KNOCK, world.SERVER_IDENTITY)
    for kind in {*range(256)} - {2}:
        other = replace(opened, body=opened.body[:2] + bytes([kind]) + opened.body[3:])
        assert not other.is_signed_by(holder.device.key, Domain.KNOCK, world.SERVER_IDENTITY)
        assert not other.is_signed_by(VerifyingKey(holder.device.key.public), Domain.KNOCK, world.SERVER_IDENTITY)


@given(keys, st.just("") | applications)
def test_a_public_key_has_one_form_and_is_read_back_with_its_kind(public: bytes, application: str) -> None:
    key = VerifyingKey(public, application)
    assert VerifyingKey.from_bytes(key.to_bytes()) == key
    assert second.Key(public, application).kind == key.kind.value


@pytest.mark.parametrize(
    "application", ["ssh", "SSH:", "office", "ssh:" + "a" * 61, "ssh:\n", "ssh:\x7f", "ssh:\0", "ssh:büro", " ssh:"]
)
def test_there_is_no_key_for_an_application_that_is_not_sshs(application: str) -> None:
    key = VerifyingKey(world.DEVICE_KEY, application)
    with pytest.raises(ValueError, match="application"):
        key.check()
    with pytest.raises(ValueError, match="application"):
        VerifyingKey.from_bytes(world.DEVICE_KEY + application.encode())
    with pytest.raises(ValueError, match="application"):
        world.enrolment(key).body()
