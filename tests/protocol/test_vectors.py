"""vectors.json: made anew it is the same, the second reading finds every value, and both refuse all that must be."""

from __future__ import annotations

import json
from ipaddress import ip_address
from typing import Any

import pytest

from spa_protocol.answer import Answer, open_answer
from spa_protocol.body import MalformedBody
from spa_protocol.enrolment import Enrolment
from spa_protocol.invite import Invite
from spa_protocol.keys import verify
from spa_protocol.knock import Knock
from spa_protocol.limits import MAX_SLOTS
from spa_protocol.refusal import Refusal
from spa_protocol.seal import HEAD_SIZE, Domain, unseal
from spa_protocol.signature import VerifyingKey
from spa_protocol.tag import TAG_SIZE, TagKind, TagPosition, compute_tag
from spa_protocol.text import BadText, TextKind, decode_key, decode_verifying_key
from tests.protocol import make_vectors, world
from tests.protocol import second_reading as second
from tests.protocol import second_reading_texts as second_texts

Entry = dict[str, Any]

VECTORS: dict[str, Any] = json.loads(make_vectors.PATH.read_text(encoding="ascii"))
SECRETS = {name: bytes.fromhex(value) for name, value in VECTORS["secrets"].items()}
KEYS = {
    "device": second.derive(SECRETS["gate_secret"], "device"),
    "invite": second.derive(SECRETS["invite_secret"], "invite"),
}


def entries(part: str) -> pytest.MarkDecorator:
    """One test for each entry of a part of the file."""
    names = [entry.get("name") or entry.get("reason") or entry.get("prefix") for entry in VECTORS[part]]
    return pytest.mark.parametrize("entry", VECTORS[part], ids=names)


def hexed(entry: Entry, name: str) -> bytes:
    """A value of an entry as bytes."""
    return bytes.fromhex(entry[name])


def raw(entry: Entry, *names: str) -> tuple[bytes, ...]:
    """Several."""
    return tuple(hexed(entry, name) for name in names)


def test_the_file_is_what_the_program_makes() -> None:
    assert make_vectors.PATH.read_text(encoding="ascii") == make_vectors.rendered()


def test_every_refusal_and_every_kind_of_message_has_a_vector() -> None:
    assert {entry["outcome"] for entry in VECTORS["answers"]} == {0, *(refusal.code for refusal in Refusal)}
    assert {entry["kind"] for entry in VECTORS["refused"]} >= {
        *(f"{message}{part}" for message in ("knock", "enrolment", "answer") for part in ("", "-body")),
        "invite",
        "signature",
        "spa-device",
    }


def test_the_second_reading_derives_the_same_keys_and_public_values() -> None:
    for channel, keys in KEYS.items():
        assert {name: value.hex() for name, value in keys._asdict().items()} == VECTORS["derived"][channel]
    assert second.public_key(SECRETS["device_seed"]) == SECRETS["device_key"]
    assert second.public_key(SECRETS["server_seed"]) == SECRETS["server_identity"]
    for side in ("invite", "device"):
        assert second.exchange_public(SECRETS[f"{side}_exchange_secret"]) == SECRETS[f"{side}_exchange"]


def test_the_second_reading_computes_the_same_tags() -> None:
    for entry in VECTORS["tags"]:
        assert second.window_of(entry["kind"], entry["time_ms"]) == entry["window"]
        assert second.tag(KEYS[entry["channel"]], entry["kind"], entry["window"], entry["slot"]).hex() == entry["tag"]


@entries("knocks")
def test_the_second_reading_makes_and_reads_every_knock(entry: Entry) -> None:
    source = ip_address(entry["source"]) if entry["source"] else None
    knock = second.Knock(entry["time_ms"], tuple(entry["services"]), entry["lease_s"], source)
    assert second.build_knock(knock).hex() == entry["body"]
    check_request("knock", entry, KEYS["device"])
    opened = second.open_knock(
        hexed(entry, "datagram"), KEYS["device"], SECRETS["device_key"], SECRETS["server_identity"]
    )
    assert opened == knock


@entries("enrolments")
def test_the_second_reading_makes_and_reads_every_enrolment(entry: Entry) -> None:
    device_key, exchange = raw(entry, "device_key", "exchange")
    enrolment = second.Enrolment(entry["time_ms"], device_key, exchange, entry["label"])
    assert second.build_enrolment(enrolment).hex() == entry["body"]
    check_request("enrolment", entry, KEYS["invite"])
    assert second.open_enrolment(hexed(entry, "datagram"), KEYS["invite"], SECRETS["server_identity"]) == enrolment
    transcript = SECRETS["invite_exchange"] + exchange + device_key
    for own, peer in (("device_exchange_secret", "invite_exchange"), ("invite_exchange_secret", "device_exchange")):
        agreed = second.agree(SECRETS[own], SECRETS[peer], SECRETS["invite_secret"], transcript)
        assert (agreed.shared.hex(), agreed.gate_secret.hex()) == (entry["z"], entry["agreed_gate_secret"])


@entries("answers")
def test_the_second_reading_makes_and_reads_every_answer(entry: Entry) -> None:
    services = tuple(second.Service(*service) for service in entry["services"])
    head = bytes.fromhex(entry["request_head"])
    numbers = entry["outcome"], entry["time_ms"], ip_address(entry["seen"]), entry["seen_port"], entry["slots"]
    answer = second.Answer(*numbers, entry["about"], services)
    keys = KEYS[entry["channel"]]
    assert second.build_answer(answer).hex() == entry["body"]
    assert second.answer_tag(keys, head).hex() == entry["tag"]
    check_sealed("answer", entry, keys.answer_seal, SECRETS["server_seed"], head)
    assert second.open_answer(hexed(entry, "datagram"), keys, SECRETS["server_identity"], head) == answer


def check_request(kind: str, entry: Entry, keys: second.Keys) -> None:
    """The tag of an entry, and the rest of its datagram."""
    assert second.window_of(entry["kind"], entry["time_ms"]) == entry["window"]
    assert second.tag(keys, entry["kind"], entry["window"], entry["slot"]).hex() == entry["tag"]
    check_sealed(kind, entry, keys.request_seal, SECRETS["device_seed"])


def check_sealed(kind: str, entry: Entry, seal_key: bytes, seed: bytes, context: bytes = b"") -> None:
    """Every value between body and datagram."""
    tag, nonce, body, datagram = raw(entry, "tag", "nonce", "body", "datagram")
    identity = SECRETS["server_identity"]
    assert len(datagram) == 512
    assert second.seal(kind, seal_key, seed, identity, tag + nonce, body, context) == datagram
    assert second.signed_bytes(kind, identity, tag + nonce, context, body).hex() == entry["signed"]
    assert second.unseal(datagram, seal_key, context)[2].hex() == entry["signature"]
    assert (entry["additional_data"], entry["ciphertext"]) == ((tag + context).hex(), datagram[32:].hex())


@entries("texts")
def test_both_readings_agree_on_every_text(entry: Entry) -> None:
    kind = next(kind for kind in TextKind if kind.prefix == entry["prefix"])
    data = bytes.fromhex(entry["data"])
    assert second_texts.write_text(entry["prefix"], data) == entry["text"]
    for text in (entry["text"], entry["also"]):
        assert decode_key(kind, text) == second_texts.read_text(entry["prefix"], text) == data


@entries("invites")
def test_both_readings_agree_on_every_invite(entry: Entry) -> None:
    said = second_texts.Invite(
        hexed(entry, "secret"),
        hexed(entry, "server_identity"),
        hexed(entry, "exchange"),
        entry["expires_s"],
        tuple(entry["knock_ports"]),
        tuple(entry["hosts"]),
    )
    assert second_texts.build_invite(said) == entry["text"]
    for text in (entry["text"], entry["also"]):
        assert second_texts.parse_invite(text) == said
        assert Invite.parse(text) == Invite(*said)


@entries("refused")
def test_the_product_refuses_every_negative_vector(entry: Entry) -> None:
    assert not product_reads(entry)


@entries("refused")
def test_the_second_reading_refuses_every_negative_vector(entry: Entry) -> None:
    with pytest.raises(second.Refused):
        second_reads(entry)


def product_reads(entry: Entry) -> bool:
    """Whether the product takes a negative vector for good."""
    kind = entry["kind"]
    text_kinds = {text_kind.prefix: text_kind for text_kind in TextKind}
    try:
        if kind == "signature":
            return verify(*raw(entry, "public", "message", "signature"))
        if kind == "invite":
            return bool(Invite.parse(entry["input"]))
        if kind in text_kinds:
            if text_kinds[kind] is TextKind.DEVICE:
                return bool(decode_verifying_key(entry["input"]))
            return bool(decode_key(text_kinds[kind], entry["input"]))
        return _product_reads_bytes(kind, bytes.fromhex(entry["input"]))
    except (BadText, MalformedBody):
        return False


def _product_reads_bytes(kind: str, data: bytes) -> bool:
    bodies = {"knock-body": Knock.parse, "enrolment-body": Enrolment.parse, "answer-body": Answer.parse}
    if kind in bodies:
        return bool(bodies[kind](data))
    if kind == "answer":
        head = world.knock_datagram()[:HEAD_SIZE]
        identity = world.SERVER_IDENTITY
        return open_answer(data, keys=world.DEVICE_KEYS, server_identity=identity, request_head=head) is not None
    keys = world.DEVICE_KEYS if kind == "knock" else world.INVITE_KEYS
    opened = unseal(data, keys.request_seal)
    if opened is None:
        return False
    message = Knock.parse(opened.message) if kind == "knock" else Enrolment.parse(opened.message)
    signer = message.key if isinstance(message, Enrolment) else VerifyingKey(world.DEVICE_KEY)
    domain = Domain.KNOCK if kind == "knock" else Domain.ENROLMENT
    window = TagKind.KNOCK.window(message.time_ms)
    tags = [compute_tag(keys, TagPosition(TagKind.KNOCK, window, slot)) for slot in range(MAX_SLOTS)]
    return opened.is_signed_by(signer, domain, world.SERVER_IDENTITY) and opened.tag in tags


def second_reads(entry: Entry) -> None:
    """Read a negative vector as the document says; raises Refused."""
    kind = entry["kind"]
    if kind == "signature":
        second.check_signature(*raw(entry, "public", "message", "signature"))
    elif kind == "invite":
        second_texts.parse_invite(entry["input"])
    elif kind.startswith("spa-"):
        second.require(len(second_texts.read_text(kind, entry["input"])) == 32, "size of a key")
    else:
        _second_reads_bytes(kind, bytes.fromhex(entry["input"]))


def _second_reads_bytes(kind: str, data: bytes) -> None:
    identity = SECRETS["server_identity"]
    if kind == "knock-body":
        second.parse_knock(data)
    elif kind == "enrolment-body":
        second.parse_enrolment(data)
    elif kind == "answer-body":
        second.parse_answer(data)
    elif kind == "answer":
        second.open_answer(data, KEYS["device"], identity, world.knock_datagram()[:HEAD_SIZE])
    elif kind == "enrolment":
        _second_window(data, KEYS["invite"], second.open_enrolment(data, KEYS["invite"], identity).time_ms)
    else:
        knock = second.open_knock(data, KEYS["device"], SECRETS["device_key"], identity)
        _second_window(data, KEYS["device"], knock.time_ms)


def _second_window(data: bytes, keys: second.Keys, time_ms: int) -> None:
    window = second.window_of("knock", time_ms)
    tags = [second.tag(keys, "knock", window, slot) for slot in range(64)]
    second.require(data[:TAG_SIZE] in tags, "the tag's window is not that of the time")
