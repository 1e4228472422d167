"""What is fuzzed: one function for each parser of outside bytes, and inputs to start from.

A target takes any bytes and returns nothing. It lets only the parser's documented exception pass in silence, and where
something was read it asserts that writing it gives the same bytes again. It must not know who runs it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from ipaddress import IPv6Address

from spa_protocol.answer import Answer, Checkpoint, open_answer, seal_answer
from spa_protocol.body import MalformedBody, MessageType, body_head
from spa_protocol.delegation import Certificate
from spa_protocol.delegation_text import Delegation
from spa_protocol.enrolment import Enrolment
from spa_protocol.invite import Invite
from spa_protocol.keys import KEY_SIZE
from spa_protocol.knock import Action, Knock
from spa_protocol.posture import Fact, Posture, PostureSource
from spa_protocol.refusal import Refusal
from spa_protocol.seal import BODY_SIZE, HEAD_SIZE, Domain, Opened, of_kind, seal, unseal
from spa_protocol.signature import PROOF_SIZE, SeedSigner, SignatureKind, VerifyingKey
from spa_protocol.text import BadText, TextKind, decode, encode
from tests.fuzz.key_targets import KEY_TARGETS
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


def _sealed_by(holder: world.Holder, data: bytes) -> tuple[bytes, Opened]:
    """Any body as it is signed, and as it comes out of a datagram that its holder has rightly sealed and signed."""
    body = _body(data)[:BODY_SIZE]
    if holder.signer.key.kind is SignatureKind.SK_ED25519:
        body = of_kind(body[:-PROOF_SIZE] + bytes(PROOF_SIZE), SignatureKind.SK_ED25519)
    datagram = seal(
        seal_key=holder.keys.request_seal,
        signer=holder.signer,
        domain=Domain.KNOCK,
        server_identity=world.SERVER_IDENTITY,
        tag=body[-8:],
        nonce=world.nonce("fuzz"),
        body=body,
    )
    opened = unseal(datagram, holder.keys.request_seal)
    assert opened is not None
    return body, opened


def _sealed_body(data: bytes) -> None:
    """A device that sends what it likes."""
    body, opened = _sealed_by(world.HOLDERS["device"], data)
    signed = opened.is_signed_by(VerifyingKey(world.DEVICE_KEY), Domain.KNOCK, world.SERVER_IDENTITY)
    assert signed == (body_head(body)[2] == SignatureKind.ED25519.value)
    kinds = {MessageType.KNOCK: Knock, MessageType.ENROLMENT: Enrolment, MessageType.ANSWER: Answer}
    of_type = {kind.value: message for kind, message in kinds.items()}
    message = of_type.get(body_head(opened.body)[1])
    if signed and message is not None:
        _one_message(message)(opened.body)


def _security_key_body(data: bytes) -> None:
    """The same of a security key: what it signed comes out, with its flags and counter, and no plain key signed it."""
    holder = world.HOLDERS["security-key"]
    body, opened = _sealed_by(holder, data)
    assert opened.body == body
    assert opened.signature.proof == b"\1\0\0\0\x29"
    assert opened.is_signed_by(holder.device.key, Domain.KNOCK, world.SERVER_IDENTITY)
    assert not opened.is_signed_by(VerifyingKey(holder.device.key.public), Domain.KNOCK, world.SERVER_IDENTITY)
    _one_message(Knock)(opened.message)


def _delegated_body(data: bytes) -> None:
    """A delegate that sends what it likes: what is read is by the one certificate that its device has signed."""
    holder = world.HOLDERS["delegate"]
    _, opened = _sealed_by(holder, data)
    with suppress(MalformedBody):
        certificate = Knock.parse(opened.message).certificate
        if certificate is not None and certificate.is_signed_by(holder.device.key, world.SERVER_IDENTITY):
            assert certificate == world.certificate()


def _certificate(data: bytes) -> None:
    with suppress(MalformedBody):
        assert Certificate.from_bytes(data).to_bytes() == data


def _public_key(data: bytes) -> None:
    with suppress(ValueError):
        assert VerifyingKey.from_bytes(data).to_bytes() == data


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


def _delegation_data(data: bytes) -> None:
    """What a delegation's text holds, with a right checksum; its seed is not found by fuzzing, so it is put in."""
    with suppress(ValueError):
        text = encode(TextKind.DELEGATION, data[:1] + world.DELEGATE_SEED + data[1:])
        with suppress(BadText):
            assert Delegation.parse(text).text() == text


def _delegation_text(data: bytes) -> None:
    text = data.decode("utf-8", "surrogateescape")
    with suppress(BadText):
        assert Delegation.parse(text).text() == text.strip().upper()


def _text(data: bytes) -> None:
    text = data.decode("utf-8", "surrogateescape")
    for kind in TextKind:
        with suppress(BadText):
            assert encode(kind, decode(kind, text)).lower() == text.lower()


_POSTURE = Posture(
    30, PostureSource.OSQUERY, Fact.YES, Fact.NO, Fact.UNKNOWN, Fact.YES, patch_age_days=3, system="Debian 12"
)
_KNOCKS = (
    Knock(world.TIME_MS).body(),
    Knock(0, ("web", "a-1"), 30, IPv6Address("2001:db8::7")).body(),
    Knock(world.TIME_MS, ("web",), action=Action.CLOSE).body(),
    Knock(world.TIME_MS, ("web",), posture=_POSTURE, code="123456").body(),
    Knock(world.TIME_MS, lease_s=1800, action=Action.APPROVE, code="00000000", request=4711).body(),
    Knock(world.TIME_MS, action=Action.DENY, request=2**32 - 1).body(),
)
_DELEGATED = tuple(replace(world.usual_knock(world.HOLDERS[name]), services=()).body() for name in world.HOLDERS)
_ENROLMENTS = (world.enrolment().body(), world.enrolment(world.SECURITY_KEY.key).body())
_ANSWERS = (
    world.answer().body(),
    replace(world.answer(), checkpoint=Checkpoint(4711, bytes(range(16)))).body(),
    Answer(Refusal.APPROVAL_NEEDED, world.TIME_MS, IPv6Address(1), 1, 16, "4711").body(),
)
_INVITES = (
    world.invite().text(),
    world.invite("192.0.2.1", "2001:db8::1", "a.b").text(),
    world.invite("a", knock_ports=(62_201, 443, 53, 1)).text(),
)
_DELEGATIONS = (
    world.delegation().text(),
    world.delegation("192.0.2.1", "::", by=world.certificate(world.SECURITY_KEY, name="a", services=("a",))).text(),
)
_CERTIFICATES = tuple(world.certificate(world.HOLDERS[name].device).to_bytes() for name in ("device", "security-key"))
_PUBLIC_KEYS = tuple(world.HOLDERS[name].device.key.to_bytes() for name in ("device", "security-key"))


def _without_seed(text: str) -> bytes:
    data = decode(TextKind.DELEGATION, text)
    return data[:1] + data[1 + KEY_SIZE :]


TARGETS: Mapping[str, Target] = {
    **SERVER_TARGETS,
    **KEY_TARGETS,
    "knock": Target(_one_message(Knock), _KNOCKS + _DELEGATED, BODY_SIZE + 1),
    "enrolment": Target(_one_message(Enrolment), _ENROLMENTS, BODY_SIZE + 1),
    "answer": Target(_one_message(Answer), _ANSWERS, BODY_SIZE + 1),
    "sealed_body": Target(_sealed_body, _KNOCKS + _ENROLMENTS + _ANSWERS, BODY_SIZE),
    "security_key_body": Target(_security_key_body, _KNOCKS + _DELEGATED, BODY_SIZE),
    "delegated_body": Target(_delegated_body, _DELEGATED, BODY_SIZE),
    "certificate": Target(_certificate, _CERTIFICATES, 300),
    "public_key": Target(_public_key, _PUBLIC_KEYS, 120),
    "answer_datagram": Target(_answer_datagram, _ANSWERS, BODY_SIZE),
    "datagram": Target(_datagram, (world.knock_datagram(), world.answer_datagram()), 2000),
    "invite_data": Target(_invite_data, tuple(decode(TextKind.INVITE, text) for text in _INVITES), 700),
    "invite_text": Target(_invite_text, tuple(text.encode() for text in _INVITES), 1100),
    "delegation_data": Target(_delegation_data, tuple(map(_without_seed, _DELEGATIONS)), 700),
    "delegation_text": Target(_delegation_text, tuple(text.encode() for text in _DELEGATIONS), 1100),
    "text": Target(_text, tuple(encode(kind, bytes(32)).encode() for kind in TextKind), 200),
}
