"""A second, independent reading of docs/protocol.md: a client and a server's parser that know nothing but the document.

It imports no line of the project. Section numbers are those of the document. Ed25519 and X25519 are the library
`cryptography`'s. Whatever must be refused raises Refused.
"""

from __future__ import annotations

import re
import struct
from hashlib import blake2b
from typing import NamedTuple

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from tests.protocol.second_reading_body import Address, Fields, write_address, write_body, write_text
from tests.protocol.second_reading_body import Refused as Refused
from tests.protocol.second_reading_body import require as require
from tests.protocol.second_reading_cipher import decrypt, encrypt

# Section 2: secrets and derived keys

PRIME = 2**255 - 19
ORDER = 2**252 + 27742317777372353535851937790883648493
_ORDER_8_Y = 2707385501144840649318225287225658788936804267575313519463743609750303021540
SMALL_ORDER_Y = {0, 1, PRIME - 1, _ORDER_8_Y, PRIME - _ORDER_8_Y}


class Keys(NamedTuple):
    """Section 2's table, in its order."""

    tag: bytes
    clock_tag: bytes
    request_seal: bytes
    answer_tag: bytes
    answer_seal: bytes


def hash32(key: bytes, data: bytes) -> bytes:
    """H(key, data)."""
    return blake2b(data, digest_size=32, key=key).digest()


def derive(secret: bytes, channel: str) -> Keys:
    """The five keys; `channel` is "device" or "invite"."""
    purposes = ("tag", "clock tag", "request seal", "answer tag", "answer seal")
    return Keys(*(hash32(secret, f"spa-perimeter v1 {channel} {purpose}".encode()) for purpose in purposes))


def public_key(seed: bytes) -> bytes:
    """The Ed25519 public key of a seed."""
    return Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()


def check_signature(public: bytes, message: bytes, signature: bytes) -> None:
    """Refuse all but a valid signature, with the two rules of section 2."""
    y = int.from_bytes(public, "little") & (1 << 255) - 1
    require(y < PRIME and y not in SMALL_ORDER_Y, "public key")
    require(int.from_bytes(signature[32:], "little") < ORDER, "S not below the order")
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
    except (InvalidSignature, ValueError) as error:
        raise Refused("signature") from error


# Section 3: windows, slots and tags

WINDOW_S = {"knock": 60, "clock": 86_400}


def window_of(kind: str, time_ms: int) -> int:
    """The window that holds a time."""
    return time_ms // (WINDOW_S[kind] * 1000)


def tag(keys: Keys, kind: str, window: int, slot: int) -> bytes:
    """The tag of a position."""
    key = {"knock": keys.tag, "clock": keys.clock_tag}[kind]
    return hash32(key, struct.pack(">QB", window, slot))[:8]


# Section 4: the datagram

DOMAIN = {kind: f"spa-perimeter v1 {kind} signature\0".encode() for kind in ("knock", "enrolment", "answer")}


def signed_bytes(kind: str, identity: bytes, head: bytes, context: bytes, body: bytes) -> bytes:
    """What the signature of 4.1 covers; `head` is tag and nonce."""
    return DOMAIN[kind] + identity + head + context + body


def seal(
    kind: str, seal_key: bytes, seed: bytes, identity: bytes, head: bytes, body: bytes, context: bytes = b""
) -> bytes:
    """A datagram of 512 bytes."""
    signature = Ed25519PrivateKey.from_private_bytes(seed).sign(signed_bytes(kind, identity, head, context, body))
    return head + encrypt(seal_key, head[8:], body + signature, head[:8] + context)


def unseal(datagram: bytes, seal_key: bytes, context: bytes = b"") -> tuple[bytes, bytes, bytes]:
    """(head, body, signature) of a datagram."""
    require(len(datagram) == 512, "size")
    head = datagram[:32]
    try:
        plain = decrypt(seal_key, head[8:], datagram[32:], head[:8] + context)
    except InvalidTag as error:
        raise Refused("seal") from error
    return head, plain[:400], plain[400:]


# Sections 5 to 7: the three messages


class Knock(NamedTuple):
    """Section 5."""

    time_ms: int
    services: tuple[str, ...]
    lease_s: int
    source: Address | None


def _is_service(name: str) -> bool:
    return re.fullmatch("[a-z][a-z0-9-]{0,23}", name) is not None


def build_knock(knock: Knock) -> bytes:
    """The body of a knock."""
    names = b"".join(map(write_text, knock.services))
    fixed = struct.pack(">BQI", 0, knock.time_ms, knock.lease_s) + write_address(knock.source)
    return write_body(1, fixed + bytes([len(knock.services)]) + names)


def parse_knock(body: bytes) -> Knock:
    """The knock in a body."""
    fields = Fields(body, 1)
    require(fields.number(1) == 0, "flags")
    time_ms, lease_s, source = fields.number(8), fields.number(4), fields.address()
    count = fields.number(1)
    require(count <= 8, "services")
    services = tuple(fields.text() for _ in range(count))
    require(all(map(_is_service, services)) and len(set(services)) == count, "service names")
    fields.end()
    return Knock(time_ms, services, lease_s, source)


class Enrolment(NamedTuple):
    """Section 6."""

    time_ms: int
    device_key: bytes
    exchange: bytes
    label: str
    application: str = ""


def build_enrolment(enrolment: Enrolment) -> bytes:
    """The body of an enrolment."""
    numbers = struct.pack(">BQ", 0, enrolment.time_ms)
    texts = write_text(enrolment.label) + write_text(enrolment.application)
    return write_body(2, numbers + enrolment.device_key + enrolment.exchange + texts)


def parse_enrolment(body: bytes) -> Enrolment:
    """The enrolment in a body."""
    fields = Fields(body, 2)
    require(fields.number(1) == 0, "flags")
    enrolment = Enrolment(fields.number(8), fields.take(32), fields.take(32), fields.text(), fields.text())
    require(re.fullmatch("[A-Za-z0-9][A-Za-z0-9._-]{0,62}", enrolment.label), "label")
    require(re.fullmatch("(ssh:[\x20-\x7e]{0,60})?", enrolment.application), "application")
    fields.end()
    return enrolment


class Agreement(NamedTuple):
    """Section 6.2: Z and the gate secret."""

    shared: bytes
    gate_secret: bytes


def agree(own_secret: bytes, peer: bytes, invite_secret: bytes, transcript: bytes) -> Agreement:
    """`transcript`: the invite's exchange value, the device's, the device's public key."""
    try:
        shared = X25519PrivateKey.from_private_bytes(own_secret).exchange(X25519PublicKey.from_public_bytes(peer))
    except ValueError as error:
        raise Refused("Z is zero") from error
    return Agreement(shared, hash32(invite_secret, b"spa-perimeter v1 gate secret" + shared + transcript))


def exchange_public(secret: bytes) -> bytes:
    """The X25519 public value of a secret."""
    return X25519PrivateKey.from_private_bytes(secret).public_key().public_bytes_raw()


class Service(NamedTuple):
    """A service in an answer."""

    name: str
    left_s: int
    tcp_port: int
    udp_port: int
    needs_signed_source: bool


class Answer(NamedTuple):
    """Section 7."""

    outcome: int
    time_ms: int
    seen: Address
    seen_port: int
    slots: int
    about: str
    services: tuple[Service, ...]


def build_answer(answer: Answer) -> bytes:
    """The body of an answer."""
    services = b"".join(write_text(service[0]) + struct.pack(">IHHB", *service[1:]) for service in answer.services)
    head = (
        struct.pack(">BQ", answer.outcome, answer.time_ms)
        + write_address(answer.seen)
        + struct.pack(">HB", answer.seen_port, answer.slots)
    )
    return write_body(3, head + write_text(answer.about) + bytes([len(answer.services)]) + services)


def parse_answer(body: bytes) -> Answer:
    """The answer in a body."""
    fields = Fields(body, 3)
    outcome, time_ms, seen, port = fields.number(1), fields.number(8), fields.address(), fields.number(2)
    require(outcome <= 28, "outcome")
    slots, about, count = fields.number(1), fields.text(), fields.number(1)
    require(1 <= slots <= 64, "slots")
    require(re.fullmatch("[\x20-\x7e]{0,63}", about) and count <= 8, "about or count")
    services = tuple(_service(fields) for _ in range(count))
    fields.end()
    if seen is None:
        raise Refused("no address seen")
    return Answer(outcome, time_ms, seen, port, slots, about, services)


def _service(fields: Fields) -> Service:
    name, left_s, tcp, udp, flag = fields.text(), fields.number(4), fields.number(2), fields.number(2), fields.number(1)
    require(_is_service(name) and flag in (0, 1), "service")
    return Service(name, left_s, tcp, udp, flag == 1)


def answer_tag(keys: Keys, request_head: bytes) -> bytes:
    """The tag of the one answer to a request."""
    return hash32(keys.answer_tag, request_head)[:8]


def open_knock(datagram: bytes, keys: Keys, device_key: bytes, identity: bytes) -> Knock:
    """Steps 2 to 5 of 11.1 under a device's tag."""
    head, body, signature = unseal(datagram, keys.request_seal)
    check_signature(device_key, signed_bytes("knock", identity, head, b"", body), signature)
    return parse_knock(body)


def open_enrolment(datagram: bytes, keys: Keys, identity: bytes) -> Enrolment:
    """Steps 2 to 5 of 11.1 under an invite's tag."""
    head, body, signature = unseal(datagram, keys.request_seal)
    check_signature(body[12:44], signed_bytes("enrolment", identity, head, b"", body), signature)
    return parse_enrolment(body)


def open_answer(datagram: bytes, keys: Keys, identity: bytes, request_head: bytes) -> Answer:
    """As section 7 ends."""
    head, body, signature = unseal(datagram, keys.answer_seal, request_head)
    require(head[:8] == answer_tag(keys, request_head), "tag of another request")
    check_signature(identity, signed_bytes("answer", identity, head, request_head, body), signature)
    return parse_answer(body)
