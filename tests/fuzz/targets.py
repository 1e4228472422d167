"""What is fuzzed: one function for each parser of outside bytes, and inputs to start from.

A target takes any bytes and returns nothing. It lets only the parser's documented exception pass in silence, and where
something was read it asserts that writing it gives the same bytes again. It must not know who runs it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from ipaddress import IPv6Address

from spa_protocol.answer import Answer, open_answer, seal_answer
from spa_protocol.body import MalformedBody, MessageType, body_head
from spa_protocol.enrolment import Enrolment
from spa_protocol.invite import Invite
from spa_protocol.knock import Knock
from spa_protocol.seal import BODY_SIZE, HEAD_SIZE, Domain, seal, unseal
from spa_protocol.signature import SeedSigner, SignatureKind, VerifyingKey
from spa_protocol.text import BadText, TextKind, decode, encode
from tests.fuzz.server_targets import SERVER_TARGETS
from tests.fuzz.target import Target
from tests.protocol import world


def _body(data: bytes) -> bytes:
    """Short inputs are padded, so that the fuzzer need not find 400 bytes; long ones stay as they are."""
    return data.ljust(BODY_SIZE, b"\0")


def _one_message(message: type[Knock | Enrolment | Answer]) -> Callable[[bytes], None]:
    def run(data: bytes) -> None:
        with suppress(MalformedBody):
            assert message.parse(_body(data)).body() == _body(data)

    return run


def _sealed_body(data: bytes) -> None:
    """A body as it comes out of a datagram, rightly sealed and signed by a device that sends what it likes."""
    body = _body(data)[:BODY_SIZE]
    datagram = seal(
        seal_key=world.DEVICE_KEYS.request_seal,
        signer=SeedSigner(world.DEVICE_SEED),
        domain=Domain.KNOCK,
        server_identity=world.SERVER_IDENTITY,
        tag=body[-8:],
        nonce=world.nonce("fuzz"),
        body=body,
    )
    opened = unseal(datagram, world.DEVICE_KEYS.request_seal)
    assert opened is not None
    if body_head(body)[2] != SignatureKind.ED25519.value:
        assert not opened.is_signed_by(VerifyingKey(world.DEVICE_KEY), Domain.KNOCK, world.SERVER_IDENTITY)
        return
    assert opened.is_signed_by(VerifyingKey(world.DEVICE_KEY), Domain.KNOCK, world.SERVER_IDENTITY)
    kinds = {MessageType.KNOCK: Knock, MessageType.ENROLMENT: Enrolment, MessageType.ANSWER: Answer}
    of_type = {kind.value: message for kind, message in kinds.items()}
    message = of_type.get(body_head(opened.body)[1])
    if message is not None:
        _one_message(message)(opened.body)


def _datagram(data: bytes) -> None:
    """A datagram that nobody sealed: neither side may read anything in it, nor fail."""
    head = world.knock_datagram()[:HEAD_SIZE]
    genuine = (world.knock_datagram(), world.enrolment_datagram(), world.answer_datagram())
    if data not in genuine:
        assert unseal(data, world.DEVICE_KEYS.request_seal) is None
        assert unseal(data, world.INVITE_KEYS.request_seal) is None
        assert (
            open_answer(data, keys=world.DEVICE_KEYS, server_identity=world.SERVER_IDENTITY, request_head=head) is None
        )


def _answer_datagram(data: bytes) -> None:
    """A rightly sealed answer of any body, as a client opens it: never an exception, whatever it says."""
    head = world.knock_datagram()[:HEAD_SIZE]
    genuine = Answer(None, world.TIME_MS, IPv6Address(1), 1, 16)
    shown = seal_answer(
        genuine,
        keys=world.DEVICE_KEYS,
        server_seed=world.SERVER_SEED,
        server_identity=world.SERVER_IDENTITY,
        request_head=head,
        nonce=world.nonce("fuzz"),
    )
    sealed = seal(
        seal_key=world.DEVICE_KEYS.answer_seal,
        signer=SeedSigner(world.SERVER_SEED),
        domain=Domain.ANSWER,
        server_identity=world.SERVER_IDENTITY,
        tag=shown[:8],
        nonce=world.nonce("fuzz"),
        body=_body(data)[:BODY_SIZE],
        context=head,
    )
    answer = open_answer(sealed, keys=world.DEVICE_KEYS, server_identity=world.SERVER_IDENTITY, request_head=head)
    assert answer is None or answer.body() == _body(data)[:BODY_SIZE]


def _invite_data(data: bytes) -> None:
    """What an invite's text holds, with a right checksum, which no fuzzer would find."""
    with suppress(ValueError):
        text = encode(TextKind.INVITE, data)
        with suppress(BadText):
            assert Invite.parse(text).text() == text


def _invite_text(data: bytes) -> None:
    text = data.decode("utf-8", "surrogateescape")
    with suppress(BadText):
        assert Invite.parse(text).text() == text.strip().lower()


def _text(data: bytes) -> None:
    text = data.decode("utf-8", "surrogateescape")
    for kind in TextKind:
        with suppress(BadText):
            assert encode(kind, decode(kind, text)).lower() == text.lower()


_KNOCKS = (Knock(world.TIME_MS).body(), Knock(0, ("web", "a-1"), 30, IPv6Address("2001:db8::7")).body())
_ENROLMENTS = (world.enrolment().body(),)
_ANSWERS = (world.answer().body(),)
_INVITES = (world.invite().text(), world.invite("192.0.2.1", "2001:db8::1", "a.b").text())

TARGETS: Mapping[str, Target] = {
    **SERVER_TARGETS,
    "knock": Target(_one_message(Knock), _KNOCKS, BODY_SIZE + 1),
    "enrolment": Target(_one_message(Enrolment), _ENROLMENTS, BODY_SIZE + 1),
    "answer": Target(_one_message(Answer), _ANSWERS, BODY_SIZE + 1),
    "sealed_body": Target(_sealed_body, _KNOCKS + _ENROLMENTS + _ANSWERS, BODY_SIZE),
    "answer_datagram": Target(_answer_datagram, _ANSWERS, BODY_SIZE),
    "datagram": Target(_datagram, (world.knock_datagram(), world.answer_datagram()), 2000),
    "invite_data": Target(_invite_data, tuple(decode(TextKind.INVITE, text) for text in _INVITES), 700),
    "invite_text": Target(_invite_text, tuple(text.encode() for text in _INVITES), 1100),
    "text": Target(_text, tuple(encode(kind, bytes(32)).encode() for kind in TextKind), 200),
}
