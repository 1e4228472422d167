"""The part of vectors.json that must be refused: each entry with its reason."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from nacl import bindings

from spa_protocol.answer import Answer
from spa_protocol.body import BodyWriter, MessageType
from spa_protocol.keys import exchange_public, sign
from spa_protocol.knock import Knock
from spa_protocol.seal import HEAD_SIZE, Domain, answer_tag, seal, unseal
from spa_protocol.signature import SeedSigner
from spa_protocol.tag import TagKind, TagPosition, compute_tag
from spa_protocol.text import TextKind, encode
from tests.protocol import world

Entry = dict[str, object]

ORDER = 2**252 + 27742317777372353535851937790883648493
FAMILY_AT = {"knock": 16, "answer": 12}


def refused() -> list[Entry]:
    """Every negative vector."""
    return [
        *(_entry(*each) for each in _datagrams()),
        *(_entry("knock-body", *each) for each in _knock_bodies()),
        *(_entry("enrolment-body", *each) for each in _enrolment_bodies()),
        *(_entry("answer-body", *each) for each in _answer_bodies()),
        *(_text_entry(*each) for each in _texts()),
        *(_text_entry("invite", *each) for each in _invites()),
        *_signatures(),
    ]


def _entry(kind: str, reason: str, value: bytes) -> Entry:
    return {"kind": kind, "reason": reason, "input": value.hex()}


def _text_entry(kind: str, reason: str, text: str) -> Entry:
    return {"kind": kind, "reason": reason, "input": text}


def _put(body: bytes, at: int, *values: int) -> bytes:
    return body[:at] + bytes(values) + body[at + len(values) :]


def _datagrams() -> Iterator[tuple[str, str, bytes]]:
    genuine = {
        "knock": world.knock_datagram(),
        "enrolment": world.enrolment_datagram(),
        "answer": world.answer_datagram(),
    }
    for kind, datagram in genuine.items():
        yield kind, "one byte short", datagram[:-1]
        yield kind, "one byte long", datagram + b"\0"
        yield kind, "empty", b""
        for part, at in (("tag", 0), ("nonce", 8), ("body", 32), ("signature", 432), ("authenticator", 511)):
            yield kind, f"a bit of the {part} flipped", _put(datagram, at, datagram[at] ^ 1)
    yield "enrolment", "a knock under a device's tag is no enrolment", genuine["knock"]
    yield "knock", "an enrolment under an invite's tag is no knock", genuine["enrolment"]
    for domain in (Domain.ENROLMENT, Domain.ANSWER):
        yield "knock", f"signed as {domain.name.lower()}", _sealed_knock(domain=domain)
    yield "knock", "signed for another server", _sealed_knock(identity=world.OTHER_SERVER_IDENTITY)
    yield "knock", "signed by another device", _sealed_knock(seed=world.OTHER_DEVICE_SEED)
    yield "knock", "sealed under the answer seal key", _sealed_knock(seal_key=world.DEVICE_KEYS.answer_seal)
    yield "knock", "sealed under the invite's request seal key", _sealed_knock(seal_key=world.INVITE_KEYS.request_seal)
    yield "knock", "the signature's S has the group order added", _with_order_added(genuine["knock"])
    yield "knock", "the tag is that of the window after the time in the body", _sealed_knock(windows_later=1)
    yield "knock", "the tag is that of the window before the time in the body", _sealed_knock(windows_later=-1)
    yield "answer", "answers another request", _answer_to(world.knock_datagram(slot=1)[:HEAD_SIZE])
    yield "answer", "signed by another server", _answer_to(world.knock_datagram()[:HEAD_SIZE], world.OTHER_SERVER_SEED)


def _sealed_knock(
    *,
    domain: Domain = Domain.KNOCK,
    identity: bytes = world.SERVER_IDENTITY,
    seed: bytes = world.DEVICE_SEED,
    seal_key: bytes = world.DEVICE_KEYS.request_seal,
    windows_later: int = 0,
) -> bytes:
    window = TagKind.KNOCK.window(world.TIME_MS) + windows_later
    return seal(
        seal_key=seal_key,
        signer=SeedSigner(seed),
        domain=domain,
        server_identity=identity,
        tag=compute_tag(world.DEVICE_KEYS, TagPosition(TagKind.KNOCK, window, 0)),
        nonce=world.nonce("bad knock"),
        body=Knock(world.TIME_MS, ("web",)).body(),
    )


def _with_order_added(datagram: bytes) -> bytes:
    key = world.DEVICE_KEYS.request_seal
    opened = unseal(datagram, key)
    if opened is None:
        raise AssertionError("it is genuine")
    scalar = int.from_bytes(opened.signature.value[32:], "little") + ORDER
    plain = opened.body + opened.signature.value[:32] + scalar.to_bytes(32, "little")
    sealed = bindings.crypto_aead_xchacha20poly1305_ietf_encrypt(plain, opened.tag, opened.nonce, key)
    return opened.head + sealed


def _answer_to(head: bytes, seed: bytes = world.SERVER_SEED) -> bytes:
    return seal(
        seal_key=world.DEVICE_KEYS.answer_seal,
        signer=SeedSigner(seed),
        domain=Domain.ANSWER,
        server_identity=world.SERVER_IDENTITY,
        tag=answer_tag(world.DEVICE_KEYS, head),
        nonce=world.nonce("bad answer"),
        body=world.answer().body(),
        context=head,
    )


def _heads(body: bytes) -> Iterator[tuple[str, bytes]]:
    yield "version 0", _put(body, 0, 0)
    yield "version 2", _put(body, 0, 2)
    for message_type in {0, 1, 2, 3, 4, 255} - {body[1]}:
        yield f"type {message_type}", _put(body, 1, message_type)
    yield "signature kind 0", _put(body, 2, 0)
    yield "signature kind 2", _put(body, 2, 2)
    yield "399 bytes", body[:-1]
    yield "401 bytes", body + b"\0"
    yield "padding that is not zero, at the end", _put(body, 399, 1)


def _addresses(body: bytes, at: int) -> Iterator[tuple[str, bytes]]:
    yield "IPv4 address with filler that is not zero", _put(body, at, 4, 192, 0, 2, 7, *[0] * 11, 1)
    yield "IPv4-mapped IPv6 address", _put(body, at, 6, *[0] * 10, 255, 255, 192, 0, 2, 7)
    yield "address family 1", _put(body, at, 1, *[0] * 16)
    yield "address family 5", _put(body, at, 5, *[0] * 16)


def _knock_bodies() -> Iterator[tuple[str, bytes]]:
    body = Knock(world.TIME_MS, ("web",)).body()
    yield from _heads(body)
    yield "action 2", _put(body, 3, 2)
    yield from _addresses(body, FAMILY_AT["knock"])
    yield "no source, yet an address", _put(body, FAMILY_AT["knock"], 0, 192, 0, 2, 7)
    yield "padding that is not zero, right after the fields", _put(body, 38, 1)
    yield "nine services", _raw_knock(*(f"s{i}".encode() for i in range(9)))
    yield "255 services", _put(body, 33, 255)
    yield "fewer services than it holds", _put(body, 33, 0)
    yield "more services than it holds", _put(body, 33, 2)
    yield "a service named twice", _raw_knock(b"web", b"ssh", b"web")
    yield "a name that runs past the end", _put(body, 34, 255)
    for reason, name in {
        "empty service name": b"",
        "service name of 25 characters": b"a" * 25,
        "service name in upper case": b"Web",
        "service name that starts with a digit": b"8web",
        "service name that starts with -": b"-web",
        "service name with a line feed": b"web\n",
        "service name with NUL": b"web\0",
        "service name that is not ASCII": "wéb".encode(),
        "service name with _": b"my_web",
    }.items():
        yield reason, _raw_knock(name)


def _raw_knock(*names: bytes) -> bytes:
    writer = BodyWriter(MessageType.KNOCK)
    writer.raw(b"\0" + world.TIME_MS.to_bytes(8, "big") + bytes(4) + bytes(17) + bytes([len(names)]))
    for name in names:
        writer.raw(bytes([len(name)]) + name)
    return writer.finish()


def _enrolment_bodies() -> Iterator[tuple[str, bytes]]:
    body = world.enrolment().body()
    yield from _heads(body)
    yield "flags 128", _put(body, 3, 128)
    yield "padding that is not zero, right after the fields", _put(body, 77 + len("alice-laptop"), 1)
    yield "a label that runs past the end", _put(_labelled(b"a"), 76, 255)
    for reason, label in {
        "empty label": b"",
        "label of 64 characters": b"a" * 64,
        "label that starts with -": b"-laptop",
        "label that starts with .": b".laptop",
        "label with a space": b"alice laptop",
        "label with an escape": b"a\x1b[2J",
        "label that is not ASCII": "büro".encode(),
    }.items():
        yield reason, _labelled(label)


def _labelled(label: bytes) -> bytes:
    body = replace(world.enrolment(), label="a").body()
    return (body[:76] + bytes([len(label)]) + label).ljust(len(body), b"\0")


def _answer_bodies() -> Iterator[tuple[str, bytes]]:
    body = world.answer().body()
    bare = Answer(None, world.TIME_MS, world.answer().seen, 40_000, 16).body()
    yield from _heads(body)
    for at, field, values in ((3, "outcome", (29, 255)), (31, "slots", (0, 65, 255))):
        yield from ((f"{field} {value}", _put(body, at, value)) for value in values)
    yield from _addresses(body, FAMILY_AT["answer"])
    yield "no address seen", _put(body, FAMILY_AT["answer"], *[0] * 17)
    yield "about of 64 characters", _put(bare, 32, 64, *b"a" * 64)
    yield "about with a line feed", _put(bare, 32, 1, 10)
    yield "about with DEL", _put(bare, 32, 1, 127)
    yield "about that is not ASCII", _put(bare, 32, 2, *"é".encode())
    yield "nine services", _put(bare, 33, 9, *(b"\1a" + bytes(9)) * 9)
    yield "service with flag 2", _put(bare, 33, 1, 1, ord("a"), *[0] * 8, 2)
    yield "service without a name", _put(bare, 33, 1, *[0] * 10)
    yield "service name in upper case", _put(bare, 33, 1, 1, ord("A"), *[0] * 9)


def _texts() -> Iterator[tuple[str, str, str]]:
    device = encode(TextKind.DEVICE, world.DEVICE_KEY)
    secret = encode(TextKind.GATE_SECRET, world.GATE_SECRET)
    yield "spa-device", "empty", ""
    yield "spa-device", "prefix alone", "spa-device1"
    yield "spa-device", "another prefix", encode(TextKind.SERVER, world.DEVICE_KEY)
    yield "spa-device", "last character lost", device[:-1]
    yield "spa-device", "mixed case", device.replace("s", "S", 1)
    yield "spa-device", "a character that is not of the set", device[:20] + "b" + device[21:]
    yield "spa-device", "two characters exchanged", device[:20] + device[21] + device[20] + device[22:]
    yield "spa-device", "the checksum of Bech32, not Bech32m", _with_checksum("spa-device", world.DEVICE_KEY, 1)
    yield "spa-device", "31 bytes", encode(TextKind.DEVICE, world.DEVICE_KEY[:31])
    yield "spa-device", "33 bytes", encode(TextKind.DEVICE, world.DEVICE_KEY + b"\0")
    yield "spa-device", "left-over bits that are not zero", _with_checksum("spa-device", world.DEVICE_KEY, left_over=1)
    yield "spa-device", "six left-over bits", _with_checksum("spa-device", world.DEVICE_KEY, more=[0, 0])
    yield "spa-device", "more than 1000 characters", "spa-device1" + "q" * 990
    yield "spa-gate-secret", "a secret key is no gate secret", encode(TextKind.SECRET_KEY, world.DEVICE_SEED)
    yield "spa-gate-secret", "one letter in lower case", secret[:30] + secret[30:].replace("S", "s", 1)


def _with_checksum(
    prefix: str, data: bytes, constant: int = 0x2BC830A3, left_over: int = 0, more: list[int] | None = None
) -> str:
    """A text with a right checksum over data that no writer would write, or with another constant."""
    alphabet = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
    bits = int.from_bytes(data, "big") << (-len(data) * 8 % 5) | left_over
    values = [bits >> 5 * at & 31 for at in reversed(range((len(data) * 8 + 4) // 5))] + (more or [])
    state = 1
    for value in [*(ord(c) >> 5 for c in prefix), 0, *(ord(c) & 31 for c in prefix), *values, *[0] * 6]:
        top, state = state >> 25, (state & 0x1FFFFFF) << 5 ^ value
        for i, generator in enumerate((0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)):
            state ^= generator * (top >> i & 1)
    values += [(state ^ constant) >> shift & 31 for shift in (25, 20, 15, 10, 5, 0)]
    return f"{prefix}1{''.join(alphabet[value] for value in values)}"


def _invites() -> Iterator[tuple[str, str]]:
    fixed = b"\1" + world.INVITE_SECRET + world.SERVER_IDENTITY + exchange_public(world.INVITE_EXCHANGE_SECRET)
    numbers = bytes(8) + b"\xf2\xf9"
    gate = b"\4gate"
    good = fixed + numbers + b"\1" + gate
    text = encode(TextKind.INVITE, good)
    yield "last character lost", text[:-1]
    yield "one character changed", text[:40] + ("q" if text[40] != "q" else "p") + text[41:]
    for reason, data in {
        "empty": b"",
        "version 0": b"\0" + good[1:],
        "version 2": b"\2" + good[1:],
        "no hosts": fixed + numbers + b"\0",
        "five hosts": fixed + numbers + b"\5" + gate * 5,
        "fewer hosts than it holds": fixed + numbers + b"\1" + gate * 2,
        "more hosts than it holds": fixed + numbers + b"\2" + gate,
        "a host that runs past the end": fixed + numbers + b"\1" + b"\5gate",
        "a byte after the last host": good + b"\0",
        "knock port 0": fixed + bytes(10) + b"\1" + gate,
        "shorter than its fixed part": good[:107],
        "empty host": fixed + numbers + b"\1\0",
        "host with a trailing dot": fixed + numbers + b"\1\5gate.",
        "host that is not ASCII": fixed + numbers + b"\1\5b\xc3\xbcro",
        "address with a zone": fixed + numbers + b"\1\x09fe80::1%1",
        "address of five octets": fixed + numbers + b"\1\x091.2.3.4.5",
        "address with a port": fixed + numbers + b"\1\x0c192.0.2.1:44",
        "address in brackets": fixed + numbers + b"\1\5[::1]",
        "address with a leading zero": fixed + numbers + b"\1\x0a192.0.2.01",
    }.items():
        yield reason, encode(TextKind.INVITE, data)


def _signatures() -> Iterator[Entry]:
    message = b"open"
    good = sign(world.DEVICE_SEED, message)
    over = good[:32] + (int.from_bytes(good[32:], "little") + ORDER).to_bytes(32, "little")
    one = (1).to_bytes(32, "little")
    cases = {
        "S has the group order added": (world.DEVICE_KEY, over),
        "another message": (world.DEVICE_KEY, sign(world.DEVICE_SEED, b"shut")),
        "another key": (world.OTHER_SERVER_IDENTITY, good),
        "public key of order 1, which fits every message": (one, one + bytes(32)),
        "public key of order 1, not canonical": (one[:31] + b"\x80", one + bytes(32)),
        "public key whose y is not below the prime": ((2**255 - 18).to_bytes(32, "little"), one + bytes(32)),
    }
    for reason, (public, signature) in cases.items():
        parts = {"public": public.hex(), "message": message.hex(), "signature": signature.hex()}
        yield {"kind": "signature", "reason": reason, **parts}
