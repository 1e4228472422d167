"""What the product writes the second reading reads, and the other way round, whatever is said."""

from __future__ import annotations

import ast
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nacl import bindings

from spa_protocol.answer import Answer, open_answer, seal_answer
from spa_protocol.body import MalformedBody
from spa_protocol.delegation import Certificate, delegate_secret, issue
from spa_protocol.delegation_text import Delegation
from spa_protocol.enrolment import Enrolment, seal_enrolment
from spa_protocol.invite import Invite
from spa_protocol.keys import Channel, agreed_gate_secret, derive, exchange_public, public_key
from spa_protocol.knock import Knock, seal_knock
from spa_protocol.seal import HEAD_SIZE
from spa_protocol.signature import SeedSigner, Signer
from spa_protocol.tag import TagKind
from spa_protocol.text import BadText, TextKind, decode, decode_verifying_key, encode
from tests.protocol import second_reading as second
from tests.protocol import second_reading_body as second_body
from tests.protocol import second_reading_cipher as second_cipher
from tests.protocol import second_reading_delegation as second_delegation
from tests.protocol import second_reading_signature as second_signature
from tests.protocol import second_reading_texts as second_texts
from tests.protocol import translation, world
from tests.protocol.reading import read_enrolment, read_knock
from tests.protocol.strategies import (
    answers,
    certificates,
    delegated_knocks,
    delegations,
    enrolments,
    invites,
    keys,
    knocks,
    own_knocks,
    signers,
)

nonces = st.binary(min_size=24, max_size=24)
slots = st.integers(0, 63)
READINGS = (second, second_body, second_cipher, second_delegation, second_signature, second_texts)


def test_the_second_reading_imports_nothing_of_the_project() -> None:
    own = {module.__name__ for module in READINGS}
    for module in READINGS:
        tree = ast.parse(Path(str(module.__file__)).read_text(encoding="utf-8"))
        imported = {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
        imported |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
        assert not {name for name in imported - own if name.startswith(("spa_", "nacl", "tests"))}


def test_hchacha20_gives_the_drafts_own_example() -> None:
    key = bytes(range(32))
    nonce = bytes.fromhex("000000090000004a0000000031415927")
    assert (
        second_cipher.hchacha20(key, nonce).hex() == "82413b4227b27bfed30e42508a877d73a0f9e4d58a74a853c12ec41326d3ecdc"
    )


@given(own_knocks, keys, signers, keys, slots, nonces, st.sampled_from(TagKind))
def test_knocks(
    knock: Knock, secret: bytes, signer: Signer, server_seed: bytes, slot: int, nonce: bytes, kind: TagKind
) -> None:
    holder = world.Holder(derive(secret, Channel.DEVICE), signer, signer)
    second_keys = second.derive(secret, "device")
    identity = public_key(server_seed)
    sealed = seal_knock(
        knock, keys=holder.keys, signer=signer, server_identity=identity, slot=slot, nonce=nonce, kind=kind
    )
    said, device = translation.of_knock(knock), translation.of_signer(signer)
    name = kind.name.lower()
    head = second.tag(second_keys, name, second.window_of(name, knock.time_ms), slot) + nonce
    body = second.build_knock(said, device.key.kind)
    assert second.seal("knock", second_keys.request_seal, device, identity, head, body) == sealed
    assert second.open_knock(sealed, second_keys, device.key, identity) == said
    assert read_knock(sealed, holder, identity) == knock


@given(delegated_knocks, keys, signers, keys, keys, slots, nonces)
def test_delegated_knocks(
    knock: Knock, secret: bytes, device: Signer, seed: bytes, server_seed: bytes, slot: int, nonce: bytes
) -> None:
    delegate, identity = SeedSigner(seed), public_key(server_seed)
    assert knock.certificate is not None
    knock = replace(knock, certificate=_signed(knock.certificate, device, identity, delegate.key.public))
    keys_of_delegates = derive(delegate_secret(secret), Channel.DELEGATE)
    holder = world.Holder(keys_of_delegates, device, delegate, delegated=True)
    second_keys = second.derive(second_delegation.delegate_secret(secret), "delegate")
    sealed = seal_knock(knock, keys=holder.keys, signer=delegate, server_identity=identity, slot=slot, nonce=nonce)
    said, signs = translation.of_knock(knock), second_signature.Signer(seed)
    assert said.certificate is not None
    assert said.certificate == second_delegation.issue(translation.of_signer(device), identity, said.certificate)
    head = second.tag(second_keys, "knock", second.window_of("knock", knock.time_ms), slot) + nonce
    body = second.build_knock(said)
    assert second.seal("knock", second_keys.request_seal, signs, identity, head, body) == sealed
    assert second.open_delegated_knock(sealed, second_keys, translation.of_key(device.key), identity) == said
    assert read_knock(sealed, holder, identity) == knock


@given(enrolments, signers, keys, slots, nonces)
def test_enrolments(enrolment: Enrolment, signer: Signer, server_seed: bytes, slot: int, nonce: bytes) -> None:
    own = replace(enrolment, device_key=signer.key.public, application=signer.key.application)
    second_keys = second.derive(world.INVITE_SECRET, "invite")
    identity = public_key(server_seed)
    sealed = seal_enrolment(
        own, keys=world.INVITE_KEYS, signer=signer, server_identity=identity, slot=slot, nonce=nonce
    )
    said, device = translation.of_enrolment(own), translation.of_signer(signer)
    head = second.tag(second_keys, "knock", own.time_ms // 60_000, slot) + nonce
    body = second.build_enrolment(said)
    assert sealed == second.seal("enrolment", second_keys.request_seal, device, identity, head, body)
    assert second.open_enrolment(sealed, second_keys, identity) == said
    assert read_enrolment(sealed, identity) == own


@given(answers, keys, keys, st.sampled_from(Channel), st.binary(min_size=HEAD_SIZE, max_size=HEAD_SIZE), nonces)
def test_answers(answer: Answer, secret: bytes, seed: bytes, channel: Channel, request: bytes, nonce: bytes) -> None:
    product_keys = derive(secret, channel)
    second_keys = second.derive(secret, channel.name.lower())
    identity = public_key(seed)
    sealed = seal_answer(
        answer, keys=product_keys, server_seed=seed, server_identity=identity, request_head=request, nonce=nonce
    )
    said, server = translation.of_answer(answer), second_signature.Signer(seed)
    head = second.answer_tag(second_keys, request) + nonce
    built = second.seal("answer", second_keys.answer_seal, server, identity, head, second.build_answer(said), request)
    assert built == sealed
    assert second.open_answer(sealed, second_keys, identity, request) == said
    assert open_answer(built, keys=product_keys, server_identity=identity, request_head=request) == answer


@given(certificates, signers, keys, keys)
def test_certificates(certificate: Certificate, device: Signer, identity: bytes, key: bytes) -> None:
    signed = _signed(certificate, device, identity, key)
    said = second_delegation.issue(translation.of_signer(device), identity, translation.of_certificate(signed))
    assert translation.of_certificate(signed) == said
    assert second_delegation.signed_bytes(said, identity) == signed.signed_bytes(identity)
    assert second_delegation.build_certificate(said) == signed.to_bytes()
    second_delegation.check_certificate(said, translation.of_key(device.key), identity)
    assert signed.is_signed_by(device.key, identity)


@given(invites)
def test_invites(invite: Invite) -> None:
    said = translation.of_invite(invite)
    assert second_texts.build_invite(said) == invite.text()
    assert second_texts.parse_invite(invite.text().upper()) == said


@given(delegations)
def test_delegations(delegation: Delegation) -> None:
    said = translation.of_delegation(delegation)
    assert second_texts.build_delegation(said) == delegation.text()
    assert second_texts.parse_delegation(delegation.text().lower()) == said


@given(signers)
def test_public_keys_as_text(signer: Signer) -> None:
    text = encode(TextKind.DEVICE, signer.key.to_bytes())
    said = translation.of_key(signer.key)
    assert second_texts.write_device_key(said) == text
    assert second_texts.read_device_key(text) == said
    assert decode_verifying_key(text) == signer.key


@given(st.sampled_from(TextKind), st.binary(max_size=100))
def test_texts(kind: TextKind, data: bytes) -> None:
    assert second_texts.write_text(kind.prefix, data) == encode(kind, data)
    assert second_texts.read_text(kind.prefix, encode(kind, data).lower()) == data


@given(keys, keys, keys, keys)
def test_both_sides_of_an_enrolment_agree_on_the_gate_secret(
    server: bytes, device: bytes, invite_secret: bytes, device_key: bytes
) -> None:
    server_public, device_public = exchange_public(server), second.exchange_public(device)
    transcript = server_public + device_public + device_key
    at_server = agreed_gate_secret(
        own_secret=server,
        peer_public=device_public,
        invite_secret=invite_secret,
        invite_exchange=server_public,
        device_exchange=device_public,
        device_key=device_key,
    )
    assert at_server == second.agree(device, server_public, invite_secret, transcript).gate_secret


messages = st.one_of(knocks, delegated_knocks, enrolments, answers)
changes = st.lists(st.tuples(st.integers(0, 399), st.integers(0, 255)), min_size=1, max_size=4)


@given(messages, changes, st.booleans())
def test_both_refuse_the_same_bodies(
    message: Knock | Enrolment | Answer, changed_at: list[tuple[int, int]], near: bool
) -> None:
    changed = bytearray(message.body())
    used = len(bytes(changed).rstrip(b"\0")) + 1
    for at, value in changed_at:
        changed[at % used if near else at] = value
    assert _product_reads_body(bytes(changed)) == _second_reads_body(bytes(changed))


@given(messages, st.integers(0, 399), st.integers(-3, 3))
def test_both_refuse_the_same_bodies_where_a_length_is_a_little_off(
    message: Knock | Enrolment | Answer, at: int, by: int
) -> None:
    changed = bytearray(message.body())
    at %= len(bytes(changed).rstrip(b"\0")) + 1
    changed[at] = (changed[at] + by) % 256
    assert _product_reads_body(bytes(changed)) == _second_reads_body(bytes(changed))


@given(certificates, st.lists(st.tuples(st.integers(0, 300), st.integers(0, 255)), max_size=3), st.integers(-3, 3))
def test_both_refuse_the_same_certificates(
    certificate: Certificate, changed_at: list[tuple[int, int]], longer: int
) -> None:
    changed = bytearray(certificate.to_bytes())
    for at, value in changed_at:
        changed[at % len(changed)] = value
    data = bytes(changed[: len(changed) + min(longer, 0)]) + bytes(max(longer, 0))
    fields = second_body.Fields(data)
    try:
        theirs = second_delegation.read_certificate(fields)
        second.require(not fields.rest, "something after the certificate")
    except second.Refused:
        with pytest.raises(MalformedBody):
            Certificate.from_bytes(data)
    else:
        assert translation.of_certificate(Certificate.from_bytes(data)) == theirs


@given(st.sampled_from(TextKind), st.binary(max_size=70), st.integers(0, 200), st.characters(max_codepoint=0x17F))
def test_both_refuse_the_same_texts(kind: TextKind, data: bytes, at: int, character: str) -> None:
    text = encode(kind, data)
    changed = text[:at] + character + text[at + 1 :]
    try:
        mine = decode(kind, changed.strip())
    except BadText:
        with pytest.raises(second.Refused):
            second_texts.read_text(kind.prefix, changed)
    else:
        assert second_texts.read_text(kind.prefix, changed) == mine


@given(
    invites | delegations,
    st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=3),
    st.binary(max_size=5),
)
def test_both_refuse_the_same_invites_and_delegations(
    said: Invite | Delegation, changed_at: list[tuple[int, int]], more: bytes
) -> None:
    """Changed under the checksum, which is put right again."""
    kind = TextKind.INVITE if isinstance(said, Invite) else TextKind.DELEGATION
    changed = bytearray(decode(kind, said.text()))
    for at, value in changed_at:
        changed[at % len(changed)] = value
    text = second_texts.write_text(kind.prefix, bytes(changed) + more)
    assert _product_reads_text(kind, text) == _second_reads_text(kind, text)


@given(keys, nonces, st.binary(max_size=600), st.binary(max_size=40))
def test_both_libraries_seal_alike(key: bytes, nonce: bytes, plain: bytes, additional: bytes) -> None:
    sealed = bindings.crypto_aead_xchacha20poly1305_ietf_encrypt(plain, additional, nonce, key)
    assert second_cipher.encrypt(key, nonce, plain, additional) == sealed
    assert second_cipher.decrypt(key, nonce, sealed, additional) == plain


def _signed(certificate: Certificate, device: Signer, identity: bytes, key: bytes) -> Certificate:
    return issue(
        device,
        identity,
        key=key,
        name=certificate.name,
        services=certificate.services,
        issued_s=certificate.issued_s,
        expires_s=certificate.expires_s,
    )


T = TypeVar("T")
Said = second.Knock | second.Enrolment | second.Answer


def _product_reads_body(body: bytes) -> list[Said | None]:
    return [
        _unless(MalformedBody, lambda: translation.of_knock(Knock.parse(body))),
        _unless(MalformedBody, lambda: translation.of_enrolment(Enrolment.parse(body))),
        _unless(MalformedBody, lambda: translation.of_answer(Answer.parse(body))),
    ]


def _second_reads_body(body: bytes) -> list[Said | None]:
    return [
        _unless(second.Refused, lambda: second.parse_knock(body)),
        _unless(second.Refused, lambda: second.parse_enrolment(body)),
        _unless(second.Refused, lambda: second.parse_answer(body)),
    ]


def _product_reads_text(kind: TextKind, text: str) -> second_texts.Invite | second_texts.Delegation | None:
    if kind is TextKind.INVITE:
        return _unless(BadText, lambda: translation.of_invite(Invite.parse(text)))
    return _unless(BadText, lambda: translation.of_delegation(Delegation.parse(text)))


def _second_reads_text(kind: TextKind, text: str) -> second_texts.Invite | second_texts.Delegation | None:
    if kind is TextKind.INVITE:
        return _unless(second.Refused, lambda: second_texts.parse_invite(text))
    return _unless(second.Refused, lambda: second_texts.parse_delegation(text))


def _unless(refused: type[Exception], read: Callable[[], T]) -> T | None:
    try:
        return read()
    except refused:
        return None
