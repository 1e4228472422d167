"""What the product writes the second reading reads, and the other way round, whatever is said."""

from __future__ import annotations

import ast
from dataclasses import asdict, astuple
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nacl import bindings

from spa_protocol.answer import Answer, AnsweredService, open_answer, seal_answer
from spa_protocol.body import MalformedBody
from spa_protocol.enrolment import Enrolment, seal_enrolment
from spa_protocol.invite import Invite
from spa_protocol.keys import Channel, agreed_gate_secret, derive, exchange_public, public_key
from spa_protocol.knock import Knock, seal_knock
from spa_protocol.refusal import Refusal
from spa_protocol.seal import HEAD_SIZE, Domain, unseal
from spa_protocol.signature import SeedSigner, VerifyingKey
from spa_protocol.tag import TagKind
from spa_protocol.text import BadText, TextKind, decode, encode
from tests.protocol import second_reading as second
from tests.protocol import second_reading_body as second_body
from tests.protocol import second_reading_cipher as second_cipher
from tests.protocol import second_reading_texts as second_texts
from tests.protocol.strategies import answers, enrolments, invites, keys, knocks

nonces = st.binary(min_size=24, max_size=24)
slots = st.integers(0, 63)


def test_the_second_reading_imports_nothing_of_the_project() -> None:
    own = {module.__name__ for module in (second, second_body, second_cipher)}
    for module in (second, second_body, second_cipher, second_texts):
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


@given(knocks, keys, keys, keys, slots, nonces, st.sampled_from(TagKind))
def test_knocks(
    knock: Knock, secret: bytes, seed: bytes, server_seed: bytes, slot: int, nonce: bytes, kind: TagKind
) -> None:
    product_keys, second_keys = derive(secret, Channel.DEVICE), second.derive(secret, "device")
    identity = public_key(server_seed)
    sealed = seal_knock(
        knock, keys=product_keys, signer=SeedSigner(seed), server_identity=identity, slot=slot, nonce=nonce, kind=kind
    )
    said = second.Knock(knock.time_ms, knock.services, knock.lease_s, knock.source)
    name = kind.name.lower()
    head = second.tag(second_keys, name, second.window_of(name, knock.time_ms), slot) + nonce
    built = second.seal("knock", second_keys.request_seal, seed, identity, head, second.build_knock(said))
    assert built == sealed
    assert second.open_knock(sealed, second_keys, second.public_key(seed), identity) == said
    opened = unseal(built, product_keys.request_seal)
    assert opened is not None
    assert opened.is_signed_by(VerifyingKey(public_key(seed)), Domain.KNOCK, identity)
    assert Knock.parse(opened.body) == knock


@given(enrolments, keys, keys, slots, nonces)
def test_enrolments(enrolment: Enrolment, secret: bytes, seed: bytes, slot: int, nonce: bytes) -> None:
    own = Enrolment(enrolment.time_ms, public_key(seed), enrolment.exchange, enrolment.label)
    product_keys, second_keys = derive(secret, Channel.INVITE), second.derive(secret, "invite")
    sealed = seal_enrolment(
        own, keys=product_keys, signer=SeedSigner(seed), server_identity=enrolment.device_key, slot=slot, nonce=nonce
    )
    said = second.Enrolment(*astuple(own))
    head = second.tag(second_keys, "knock", own.time_ms // 60_000, slot) + nonce
    body = second.build_enrolment(said)
    assert sealed == second.seal("enrolment", second_keys.request_seal, seed, enrolment.device_key, head, body)
    assert second.open_enrolment(sealed, second_keys, enrolment.device_key) == said
    assert Enrolment.parse(body) == own


@given(answers, keys, keys, st.sampled_from(Channel), st.binary(min_size=HEAD_SIZE, max_size=HEAD_SIZE), nonces)
def test_answers(answer: Answer, secret: bytes, seed: bytes, channel: Channel, request: bytes, nonce: bytes) -> None:
    product_keys = derive(secret, channel)
    second_keys = second.derive(secret, channel.name.lower())
    identity = public_key(seed)
    sealed = seal_answer(
        answer, keys=product_keys, server_seed=seed, server_identity=identity, request_head=request, nonce=nonce
    )
    said = _second_answer(answer)
    head = second.answer_tag(second_keys, request) + nonce
    built = second.seal("answer", second_keys.answer_seal, seed, identity, head, second.build_answer(said), request)
    assert built == sealed
    assert second.open_answer(sealed, second_keys, identity, request) == said
    assert open_answer(built, keys=product_keys, server_identity=identity, request_head=request) == answer


@given(invites)
def test_invites(invite: Invite) -> None:
    said = second_texts.Invite(**asdict(invite))
    assert second_texts.build_invite(said) == invite.text()
    assert second_texts.parse_invite(invite.text().upper()) == said


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


bodies = st.one_of(knocks, enrolments, answers).map(lambda message: message.body())


@given(bodies, st.lists(st.tuples(st.integers(0, 130), st.integers(0, 255)), min_size=1, max_size=4))
def test_both_refuse_the_same_bodies(body: bytes, changes: list[tuple[int, int]]) -> None:
    changed = bytearray(body)
    for at, value in changes:
        changed[at] = value
    parsers = [
        (Knock.parse, second.parse_knock),
        (Enrolment.parse, second.parse_enrolment),
        (Answer.parse, second.parse_answer),
    ]
    for product, other in parsers:
        try:
            mine: object = product(bytes(changed))
        except MalformedBody:
            with pytest.raises(second.Refused):
                other(bytes(changed))
        else:
            theirs = other(bytes(changed))
            assert theirs == (_second_answer(mine) if isinstance(mine, Answer) else _second_request(mine))


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


@given(keys, nonces, st.binary(max_size=600), st.binary(max_size=40))
def test_both_libraries_seal_alike(key: bytes, nonce: bytes, plain: bytes, additional: bytes) -> None:
    sealed = bindings.crypto_aead_xchacha20poly1305_ietf_encrypt(plain, additional, nonce, key)
    assert second_cipher.encrypt(key, nonce, plain, additional) == sealed
    assert second_cipher.decrypt(key, nonce, sealed, additional) == plain


def _second_answer(answer: Answer) -> second.Answer:
    outcome = answer.refusal.code if isinstance(answer.refusal, Refusal) else 0
    services = tuple(second.Service(*_service_values(service)) for service in answer.services)
    seen, port = answer.seen, answer.seen_port
    return second.Answer(outcome, answer.time_ms, seen, port, answer.slots, answer.about, services)


def _service_values(service: AnsweredService) -> tuple[str, int, int, int, bool]:
    return service.name, service.left_s, service.tcp_port, service.udp_port, service.needs_signed_source


def _second_request(message: object) -> second.Knock | second.Enrolment:
    if isinstance(message, Knock):
        return second.Knock(message.time_ms, message.services, message.lease_s, message.source)
    assert isinstance(message, Enrolment)
    return second.Enrolment(message.time_ms, message.device_key, message.exchange, message.label)
