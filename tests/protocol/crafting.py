"""Datagrams of any content under true keys: what only a holder of the secrets could make, and no honest one would."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256

from nacl import bindings

from spa_protocol.keys import ChannelKeys, sign
from spa_protocol.knock import Knock
from spa_protocol.seal import BODY_SIZE, HEAD_SIZE, Domain, of_kind
from spa_protocol.signature import PROOF_SIZE, Signature, SignatureKind
from spa_protocol.tag import TagKind, TagPosition, compute_tag
from tests.protocol import world

ORDER = 2**252 + 27742317777372353535851937790883648493
NEUTRAL_POINT = (1).to_bytes(32, "little")
"""The point of order 1. With a zero S it makes a signature under itself, as a key, that fits every message."""
_SECURITY_KEY = SignatureKind.SK_ED25519.value

Sign = Callable[[bytes], Signature]


@dataclass(frozen=True, slots=True)
class Envelope:
    """Where and for whom a datagram is made; the defaults are those of a knock at the world's time."""

    keys: ChannelKeys
    domain: bytes = Domain.KNOCK.value
    identity: bytes = world.SERVER_IDENTITY
    seal_key: bytes | None = None
    """Another than that of the keys."""
    tag_kind: TagKind = TagKind.KNOCK
    windows_later: int = 0


def sealed(envelope: Envelope, signs: Sign, body: bytes, sent: bytes | None = None) -> bytes:
    """A datagram whose signature is over `body`; with `sent` it holds these 400 bytes instead."""
    body = body.ljust(BODY_SIZE, b"\0")
    kind = envelope.tag_kind
    window = kind.window(world.TIME_MS) + envelope.windows_later
    tag = compute_tag(envelope.keys, TagPosition(kind, window, 0))
    nonce = world.nonce("crafted")
    signature = signs(envelope.domain + envelope.identity + tag + nonce + body)
    if sent is None:
        sent = body[:-PROOF_SIZE] + signature.proof if body[2] == _SECURITY_KEY else body
    key = envelope.keys.request_seal if envelope.seal_key is None else envelope.seal_key
    plain = sent + signature.value
    return tag + nonce + bindings.crypto_aead_xchacha20poly1305_ietf_encrypt(plain, tag, nonce, key)


def ending(body: bytes, flags: int, counter: int) -> bytes:
    """The body with flags and counter in its last 5 bytes."""
    return body[:-PROOF_SIZE] + Signature(b"", flags, counter).proof


def of_security_key(knock: Knock) -> bytes:
    """The body of a knock that a security key signs."""
    return of_kind(knock.body(), SignatureKind.SK_ED25519)


def unsigned(_: bytes) -> Signature:
    """No signature."""
    return Signature(bytes(64))


def by_nobody(_: bytes) -> Signature:
    """What fits every message under the neutral point as a key."""
    return Signature(NEUTRAL_POINT + bytes(32))


def for_application(application: bytes) -> Sign:
    """The world's security key, made for any application."""
    proof = Signature(b"", 1, 41).proof

    def signs(message: bytes) -> Signature:
        value = sign(world.SECURITY_KEY.seed, sha256(application).digest() + proof + sha256(message).digest())
        return Signature(value, 1, 41)

    return signs


def unhashed(message: bytes) -> Signature:
    """The world's security key, over the message itself instead of its hash."""
    proof = Signature(b"", 1, 41).proof
    value = sign(world.SECURITY_KEY.seed, sha256(b"ssh:").digest() + proof + message)
    return Signature(value, 1, 41)


def with_neutral_r(message: bytes) -> Signature:
    """The world's device signs with the neutral point as R: S is then the hash times the secret scalar."""
    scalar = bytearray(_wide(world.DEVICE_SEED)[:32])
    scalar[0] &= 248
    scalar[31] = scalar[31] & 127 | 64
    hashed = bindings.crypto_core_ed25519_scalar_reduce(_wide(NEUTRAL_POINT + world.DEVICE_KEY + message))
    secret = bindings.crypto_core_ed25519_scalar_reduce(bytes(scalar).ljust(64, b"\0"))
    return Signature(NEUTRAL_POINT + bindings.crypto_core_ed25519_scalar_mul(hashed, secret))


def with_order_added(datagram: bytes, seal_key: bytes) -> bytes:
    """The same request, the group order added to its signature's S."""
    tag, nonce, sealed_part = datagram[:8], datagram[8:HEAD_SIZE], datagram[HEAD_SIZE:]
    plain = bindings.crypto_aead_xchacha20poly1305_ietf_decrypt(sealed_part, tag, nonce, seal_key)
    scalar = int.from_bytes(plain[-32:], "little") + ORDER
    plain = plain[:-32] + scalar.to_bytes(32, "little")
    return tag + nonce + bindings.crypto_aead_xchacha20poly1305_ietf_encrypt(plain, tag, nonce, seal_key)


def _wide(data: bytes) -> bytes:
    return bindings.crypto_hash_sha512(data)
