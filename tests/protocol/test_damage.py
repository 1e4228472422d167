"""Damaged datagrams: every bit flipped, every length cut, every stretch removed. All of them, not a sample."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import pytest
from nacl import bindings

from spa_protocol.answer import Answer, open_answer
from spa_protocol.body import MalformedBody
from spa_protocol.enrolment import Enrolment
from spa_protocol.keys import KEY_SIZE
from spa_protocol.knock import Action, Knock
from spa_protocol.seal import DATAGRAM_SIZE, HEAD_SIZE
from tests.protocol import world
from tests.protocol.reading import read_enrolment, read_knock

Read = Callable[[bytes], "Knock | Enrolment | Answer | None"]

REQUEST_HEAD = world.knock_datagram()[:HEAD_SIZE]


def read_answer(datagram: bytes, server_identity: bytes = world.SERVER_IDENTITY) -> Answer | None:
    """As the device reads it that sent the world's knock."""
    return open_answer(datagram, keys=world.DEVICE_KEYS, server_identity=server_identity, request_head=REQUEST_HEAD)


def reader_of(name: str) -> Read:
    """What reads the datagram of that name."""
    if name in world.HOLDERS or name == "close":
        return partial(read_knock, holder=world.HOLDERS["device" if name == "close" else name])
    return read_answer if name == "answer" else read_enrolment


KNOCKS = {name: world.knock_datagram(holder=holder) for name, holder in world.HOLDERS.items()}
DATAGRAMS = {
    **KNOCKS,
    "close": world.knock_datagram(Knock(world.TIME_MS, ("web",), action=Action.CLOSE)),
    "enrolment": world.enrolment_datagram(),
    "enrolment of a security key": world.enrolment_datagram(signer=world.SECURITY_KEY),
    "answer": world.answer_datagram(),
}
SEALS = {
    "close": world.DEVICE_KEYS.request_seal,
    "enrolment": world.INVITE_KEYS.request_seal,
    "enrolment of a security key": world.INVITE_KEYS.request_seal,
    "answer": world.DEVICE_KEYS.answer_seal,
    **{name: holder.keys.request_seal for name, holder in world.HOLDERS.items()},
}
MESSAGES = [pytest.param(datagram, reader_of(name), id=name) for name, datagram in DATAGRAMS.items()]
every_message = pytest.mark.parametrize(("datagram", "read"), MESSAGES)


@every_message
def test_undamaged_it_is_read(datagram: bytes, read: Read) -> None:
    assert read(datagram) is not None


@every_message
def test_every_single_flipped_bit_is_refused(datagram: bytes, read: Read) -> None:
    flipped = list(_flips(datagram))
    assert len(flipped) == 4096
    assert not any(map(read, flipped))


@every_message
def test_every_truncation_is_refused_from_either_end(datagram: bytes, read: Read) -> None:
    for size in range(DATAGRAM_SIZE):
        assert read(datagram[:size]) is None
        assert read(datagram[DATAGRAM_SIZE - size :]) is None


@every_message
def test_every_removal_of_1_to_19_bytes_is_refused(datagram: bytes, read: Read) -> None:
    for size in range(1, 20):
        for at in range(DATAGRAM_SIZE - size + 1):
            cut = datagram[:at] + datagram[at + size :]
            assert read(cut) is None
            assert read(cut + bytes(size)) is None
            assert read(bytes(size) + cut) is None


@every_message
def test_additions_at_either_end_and_two_joined_are_refused(datagram: bytes, read: Read) -> None:
    for size in (*range(1, 20), *range(127, 130), *range(399, 402), *range(1023, 1026), *range(1499, 1502), 2000):
        for added in (bytes(size), b"\xff" * size, (datagram * 4)[:size]):
            assert read(datagram + added) is None
            assert read(added + datagram) is None
            if added[:DATAGRAM_SIZE] != datagram:
                assert read((datagram + added)[-DATAGRAM_SIZE:]) is None
                assert read((added + datagram)[:DATAGRAM_SIZE]) is None
    assert read(datagram * 2) is None


@every_message
def test_every_byte_replaced_by_nul_control_or_high_bytes_is_refused(datagram: bytes, read: Read) -> None:
    for at, byte in enumerate(datagram):
        for other in {0x00, 0x0A, 0x1F, 0x7F, 0x80, 0xFF} - {byte}:
            assert read(datagram[:at] + bytes([other]) + datagram[at + 1 :]) is None


@every_message
def test_for_another_server_it_is_void(datagram: bytes, read: Callable[..., object]) -> None:
    assert read(datagram, server_identity=world.OTHER_SERVER_IDENTITY) is None
    assert not any(read(datagram, server_identity=identity) for identity in _flips(world.SERVER_IDENTITY))


@pytest.mark.parametrize("name", DATAGRAMS)
def test_whoever_holds_the_gate_secret_alone_changes_no_bit(name: str) -> None:
    """Flags and counter of a security key, and a delegate's certificate, are among the bits."""
    datagram, read, seal_key = DATAGRAMS[name], reader_of(name), SEALS[name]
    context = REQUEST_HEAD if name == "answer" else b""
    tag, nonce = datagram[:8], datagram[8:HEAD_SIZE]
    plain = bindings.crypto_aead_xchacha20poly1305_ietf_decrypt(datagram[HEAD_SIZE:], tag + context, nonce, seal_key)

    def resealed(text: bytes, tag: bytes, nonce: bytes) -> bytes:
        sealed = bindings.crypto_aead_xchacha20poly1305_ietf_encrypt(text, tag + context, nonce, seal_key)
        return tag + nonce + sealed

    assert resealed(plain, tag, nonce) == datagram
    assert not any(read(resealed(flipped, tag, nonce)) for flipped in _flips(plain))
    assert not any(read(resealed(plain, flipped, nonce)) for flipped in _flips(tag))
    assert not any(read(resealed(plain, tag, flipped)) for flipped in _flips(nonce))


def test_an_answer_belongs_to_one_request() -> None:
    for head in (*_flips(REQUEST_HEAD), world.knock_datagram(slot=1)[:HEAD_SIZE], b"", REQUEST_HEAD[1:]):
        opened = open_answer(
            world.answer_datagram(),
            keys=world.DEVICE_KEYS,
            server_identity=world.SERVER_IDENTITY,
            request_head=head,
        )
        assert opened is None


def test_no_message_is_taken_for_one_of_another_kind_or_channel() -> None:
    for own, datagram in DATAGRAMS.items():
        read = {name for name in DATAGRAMS if reader_of(name)(datagram) is not None}
        alike = [{"device", "close"}, {"enrolment", "enrolment of a security key"}]
        assert read == next((names for names in alike if own in names), {own})


def test_no_type_of_body_is_taken_for_another() -> None:
    bodies = (Knock(0).body(), world.enrolment().body(), world.answer().body())
    for parse, own_body in zip((Knock.parse, Enrolment.parse, Answer.parse), bodies, strict=True):
        for body in bodies:
            if body != own_body:
                with pytest.raises(MalformedBody, match="head"):
                    parse(body)


def test_the_plaintext_shows_nowhere_in_the_datagram() -> None:
    for datagram in DATAGRAMS.values():
        assert len(datagram) == DATAGRAM_SIZE
        for clear in (
            b"web",
            b"alice",
            b"ssh:",
            world.certificate().key[:4],
            world.DEVICE_KEY[:4],
            world.SERVER_IDENTITY[:4],
            bytes(KEY_SIZE),
        ):
            assert clear not in datagram


def _flips(data: bytes) -> Iterator[bytes]:
    for at in range(len(data)):
        for bit in range(8):
            yield data[:at] + bytes([data[at] ^ 1 << bit]) + data[at + 1 :]
