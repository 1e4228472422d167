"""The part of vectors.json that must be refused: each entry with its reason."""

from __future__ import annotations

from collections.abc import Iterator

from spa_protocol.keys import sign
from spa_protocol.signature import Signature, VerifyingKey
from tests.protocol import bad_bodies, bad_certificates, bad_datagrams, bad_texts, world
from tests.protocol.crafting import NEUTRAL_POINT, ORDER, by_nobody, with_neutral_r
from tests.protocol.security_key import SecurityKey

Entry = dict[str, object]


def refused() -> list[Entry]:
    """Every negative vector."""
    return [
        *(_entry(kind, reason, value.hex(), channel=at) for kind, at, reason, value in bad_datagrams.datagrams()),
        *(_entry(kind, reason, value.hex()) for kind, reason, value in bad_bodies.bodies()),
        *(_entry("certificate", reason, value.hex(), by=by) for by, reason, value in bad_certificates.certificates()),
        *(_entry(kind, reason, text) for kind, reason, text in bad_texts.texts()),
        *(_signature(*each) for each in _signatures()),
    ]


def _entry(kind: str, reason: str, value: str, **more: str) -> Entry:
    return {"kind": kind, "reason": reason, **more, "input": value}


def _signature(reason: str, key: VerifyingKey, message: bytes, signature: Signature) -> Entry:
    return {
        "kind": "signature",
        "reason": reason,
        "public": key.public.hex(),
        "application": key.application,
        "message": message.hex(),
        "signature": signature.value.hex(),
        "flags": signature.flags,
        "counter": signature.counter,
    }


def _signatures() -> Iterator[tuple[str, VerifyingKey, bytes, Signature]]:
    message = b"open"
    good = sign(world.DEVICE_SEED, message)
    over = good[:32] + (int.from_bytes(good[32:], "little") + ORDER).to_bytes(32, "little")
    nobodys = by_nobody(message).value
    cases = {
        "S has the group order added": (world.DEVICE_KEY, over),
        "another message": (world.DEVICE_KEY, sign(world.DEVICE_SEED, b"shut")),
        "another key": (world.OTHER_SERVER_IDENTITY, good),
        "public key of order 1, which fits every message": (NEUTRAL_POINT, nobodys),
        "public key of order 1, not canonical": (NEUTRAL_POINT[:31] + b"\x80", nobodys),
        "public key whose y is not below the prime": ((2**255 - 18).to_bytes(32, "little"), nobodys),
        "R of order 1, by the key's own holder": (world.DEVICE_KEY, with_neutral_r(message).value),
    }
    for reason, (public, value) in cases.items():
        yield reason, VerifyingKey(public), message, Signature(value)
    yield "a plain key with flags", VerifyingKey(world.DEVICE_KEY), message, Signature(good, flags=1)
    yield "a plain key with a counter", VerifyingKey(world.DEVICE_KEY), message, Signature(good, counter=1)
    yield "a security key's, by a plain key", VerifyingKey(world.DEVICE_KEY), message, _signed(message)
    yield "a plain key's, by a security key", world.SECURITY_KEY.key, message, Signature(_plain(message), 1, 41)
    for flags in bad_datagrams.WRONG_FLAGS:
        yield f"flags {flags:02x}", world.SECURITY_KEY.key, message, _signed(message, flags=flags)
    genuine = _signed(message)
    for reason, flags, counter in (
        ("another counter than was signed", 1, 42),
        ("no counter", 1, 0),
        ("other flags than were signed", 5, 41),
    ):
        yield reason, world.SECURITY_KEY.key, message, Signature(genuine.value, flags, counter)
    yield "another application", world.SECURITY_KEY.key, message, _signed(message, application="ssh:other")


def _signed(message: bytes, *, application: str = "ssh:", flags: int = 1) -> Signature:
    return SecurityKey(world.SECURITY_KEY.seed, application, flags, 41).sign(message)


def _plain(message: bytes) -> bytes:
    return sign(world.SECURITY_KEY.seed, message)
