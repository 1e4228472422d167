"""A second, independent reading of docs/protocol.md: a client and a server's parser that know nothing but the document.

It imports no line of the project. Section numbers are those of the document. X25519 is the library `cryptography`'s.
Whatever must be refused raises Refused.
"""

from __future__ import annotations

import re
import struct
from hashlib import blake2b
from typing import NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from tests.protocol.second_reading_body import (
    Address,
    Fields,
    is_label,
    is_service,
    read_body,
    write_address,
    write_body,
    write_services,
    write_text,
)
from tests.protocol.second_reading_body import Refused as Refused
from tests.protocol.second_reading_body import require as require
from tests.protocol.second_reading_cipher import decrypt, encrypt
from tests.protocol.second_reading_delegation import (
    Certificate,
    build_certificate,
    check_certificate,
    read_certificate,
)
from tests.protocol.second_reading_signature import Key, Signature, Signer, check, is_application

# Section 2: secrets and derived keys


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
    """The five keys; `channel` is "device", "invite" or "delegate"."""
    purposes = ("tag", "clock tag", "request seal", "answer tag", "answer seal")
    return Keys(*(hash32(secret, f"spa-perimeter v1 {channel} {purpose}".encode()) for purpose in purposes))


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


def signed_bytes(message: str, identity: bytes, head: bytes, context: bytes, body: bytes) -> bytes:
    """What the signature of 4.1 covers; `head` is tag and nonce."""
    return DOMAIN[message] + identity + head + context + body


def seal(
    message: str, seal_key: bytes, signer: Signer, identity: bytes, head: bytes, body: bytes, context: bytes = b""
) -> bytes:
    """A datagram of 512 bytes; `body` is the one that is signed."""
    signature = signer.sign(signed_bytes(message, identity, head, context, body))
    return head + encrypt(seal_key, head[8:], plaintext(body, signature), head[:8] + context)


def plaintext(body: bytes, signature: Signature) -> bytes:
    """What is sealed: the last 5 bytes of the body give way to flags and counter."""
    return (body[:395] + signature.proof if body[2] == 2 else body) + signature.value


def unseal(datagram: bytes, seal_key: bytes, context: bytes = b"") -> tuple[bytes, bytes, Signature]:
    """(head, body as it was signed, signature) of a datagram."""
    require(len(datagram) == 512, "size")
    head = datagram[:32]
    try:
        plain = decrypt(seal_key, head[8:], datagram[32:], head[:8] + context)
    except InvalidTag as error:
        raise Refused("seal") from error
    if plain[2] == 2:
        return head, plain[:395] + bytes(5), Signature(plain[400:], plain[395:400])
    return head, plain[:400], Signature(plain[400:])


# Sections 5 to 7: the three messages


class Posture(NamedTuple):
    """Section 5.3; facts in their order; None is unknown."""

    age_s: int
    source: int
    facts: tuple[int, ...]
    patch_age_days: int | None
    uptime_s: int | None
    system: str


class Knock(NamedTuple):
    """Section 5."""

    time_ms: int
    services: tuple[str, ...]
    lease_s: int
    source: Address | None
    action: int = 0
    certificate: Certificate | None = None
    posture: Posture | None = None
    code: str = ""
    request: int = 0


def build_posture(posture: Posture) -> bytes:
    """The fields of a posture."""
    facts = sum(fact << 2 * place for place, fact in enumerate(posture.facts))
    days = 65_535 if posture.patch_age_days is None else posture.patch_age_days
    uptime_s = 2**32 - 1 if posture.uptime_s is None else posture.uptime_s
    return struct.pack(">IBBHI", posture.age_s, posture.source, facts, days, uptime_s) + write_text(posture.system)


def read_posture(fields: Fields) -> Posture:
    """The posture whose fields come next."""
    age_s, source, packed = fields.number(4), fields.number(1), fields.number(1)
    days, uptime_s, system = fields.number(2), fields.number(4), fields.text()
    facts = tuple(packed // 4**place % 4 for place in range(4))
    require(source in (1, 2) and 3 not in facts, "source or a fact")
    require(re.fullmatch("[\x20-\x7e]{0,24}", system), "system")
    days_known, uptime_known = days != 65_535, uptime_s != 2**32 - 1
    return Posture(age_s, source, facts, days if days_known else None, uptime_s if uptime_known else None, system)


def build_knock(knock: Knock, kind: int = 1) -> bytes:
    """The body of a knock, for a key of that kind to sign."""
    fields = struct.pack(">BQI", knock.action, knock.time_ms, knock.lease_s) + write_address(knock.source)
    certificate = b"\0" if knock.certificate is None else b"\1" + build_certificate(knock.certificate)
    posture = b"\0" if knock.posture is None else b"\1" + build_posture(knock.posture)
    rest = certificate + posture + write_text(knock.code) + struct.pack(">I", knock.request)
    return write_body(1, kind, fields + write_services(knock.services) + rest)


def parse_knock(body: bytes, kind: int = 1) -> Knock:
    """The knock in a body."""
    fields = read_body(body, 1, kind)
    action, time_ms, lease_s, source = fields.number(1), fields.number(8), fields.number(4), fields.address()
    require(action <= 3 and not (action in (1, 3) and lease_s), "action, or a lease of what is closed or denied")
    services, follows = fields.services(0, 8), fields.number(1)
    require(follows in (0, 1), "whether a certificate follows")
    certificate = read_certificate(fields) if follows else None
    require(certificate is None or len(services) <= 4, "services of a delegated knock")
    told = fields.number(1)
    require(told in (0, 1), "whether a posture follows")
    posture = read_posture(fields) if told else None
    code, request = fields.text(), fields.number(4)
    fields.zeros()
    require(re.fullmatch("([0-9]{6,8})?", code), "code")
    require((action >= 2) == (request > 0), "a request with another action, or none")
    require(action < 2 or not (services or source is not None), "more than a request to approve or deny")
    require(certificate is None or not (posture or code or request), "what only the device can say")
    return Knock(time_ms, services, lease_s, source, action, certificate, posture, code, request)


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
    kind = Key(enrolment.device_key, enrolment.application).kind
    return write_body(2, kind, numbers + enrolment.device_key + enrolment.exchange + texts)


def parse_enrolment(body: bytes, kind: int = 1) -> Enrolment:
    """The enrolment in a body."""
    fields = read_body(body, 2, kind)
    require(fields.number(1) == 0, "flags")
    enrolment = Enrolment(fields.number(8), fields.take(32), fields.take(32), fields.text(), fields.text())
    require(is_label(enrolment.label), "label")
    require(not enrolment.application or is_application(enrolment.application), "application")
    fields.zeros()
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
    checkpoint: tuple[int, bytes] | None = None


def build_answer(answer: Answer) -> bytes:
    """The body of an answer."""
    services = b"".join(write_text(service[0]) + struct.pack(">IHHB", *service[1:]) for service in answer.services)
    head = (
        struct.pack(">BQ", answer.outcome, answer.time_ms)
        + write_address(answer.seen)
        + struct.pack(">HB", answer.seen_port, answer.slots)
    )
    checkpoint = b"" if answer.checkpoint is None else struct.pack(">Q", answer.checkpoint[0]) + answer.checkpoint[1]
    return write_body(3, 1, head + write_text(answer.about) + bytes([len(answer.services)]) + services + checkpoint)


def parse_answer(body: bytes) -> Answer:
    """The answer in a body."""
    fields = read_body(body, 3, 1)
    outcome, time_ms, seen, port = fields.number(1), fields.number(8), fields.address(), fields.number(2)
    require(outcome <= 37, "outcome")
    slots, about, count = fields.number(1), fields.text(), fields.number(1)
    require(1 <= slots <= 64, "slots")
    require(re.fullmatch("[\x20-\x7e]{0,63}", about) and count <= 8, "about or count")
    services = tuple(_service(fields) for _ in range(count))
    seq, hash_ = fields.number(8), fields.take(16)
    require(seq > 0 or not any(hash_), "a checkpoint of no record")
    fields.zeros()
    if seen is None:
        raise Refused("no address seen")
    return Answer(outcome, time_ms, seen, port, slots, about, services, (seq, hash_) if seq else None)


def _service(fields: Fields) -> Service:
    name, left_s, tcp, udp, flag = fields.text(), fields.number(4), fields.number(2), fields.number(2), fields.number(1)
    require(is_service(name) and flag in (0, 1), "service")
    return Service(name, left_s, tcp, udp, flag == 1)


def answer_tag(keys: Keys, request_head: bytes) -> bytes:
    """The tag of the one answer to a request."""
    return hash32(keys.answer_tag, request_head)[:8]


def open_knock(datagram: bytes, keys: Keys, device: Key, identity: bytes) -> Knock:
    """Steps 2 to 5 of 11.1 under a device's tag."""
    head, body, signature = unseal(datagram, keys.request_seal)
    require(body[2] == device.kind, "signature kind that is not the key's")
    check(device, signed_bytes("knock", identity, head, b"", body), signature)
    knock = parse_knock(body, device.kind)
    require(knock.certificate is None, "a certificate on the channel of the device")
    return knock


def open_delegated_knock(datagram: bytes, keys: Keys, device: Key, identity: bytes) -> Knock:
    """The same under a tag of the device's delegates."""
    head, body, signature = unseal(datagram, keys.request_seal)
    knock = parse_knock(body)
    if knock.certificate is None:
        raise Refused("no certificate on the channel of the delegates")
    check_certificate(knock.certificate, device, identity)
    check(Key(knock.certificate.key), signed_bytes("knock", identity, head, b"", body), signature)
    return knock


def open_enrolment(datagram: bytes, keys: Keys, identity: bytes) -> Enrolment:
    """Steps 2 to 5 of 11.1 under an invite's tag."""
    head, body, signature = unseal(datagram, keys.request_seal)
    enrolment = parse_enrolment(body, body[2])
    key = Key(enrolment.device_key, enrolment.application)
    require(body[2] == key.kind, "signature kind that is not the key's")
    check(key, signed_bytes("enrolment", identity, head, b"", body), signature)
    return enrolment


def open_answer(datagram: bytes, keys: Keys, identity: bytes, request_head: bytes) -> Answer:
    """As section 7 ends."""
    head, body, signature = unseal(datagram, keys.answer_seal, request_head)
    require(head[:8] == answer_tag(keys, request_head), "tag of another request")
    check(Key(identity), signed_bytes("answer", identity, head, request_head, body), signature)
    return parse_answer(body)
