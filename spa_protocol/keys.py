"""Secrets and what is derived from them (docs/protocol.md, section 2).

Two keys stand behind every device: an Ed25519 signing key, of which the server has only the public half, and a 32-byte
gate secret that both sides hold. The gate secret lets a datagram be looked at; only the signature opens anything.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from hashlib import blake2b

from nacl import bindings
from nacl.exceptions import BadSignatureError, CryptoError

KEY_SIZE = 32
"""Bytes in a gate secret, a signing seed, a public key, an exchange key, a derived key."""
SIGNATURE_SIZE = 64

_DOMAIN = b"spa-perimeter v1 "


class Channel(Enum):
    """Which secret a request is sealed under; no key derived for one channel is ever valid in the other."""

    DEVICE = b"device "
    INVITE = b"invite "
    DELEGATE = b"delegate "


@dataclass(frozen=True, slots=True)
class ChannelKeys:
    """The five keys derived from one gate secret, each under a domain string of its own."""

    tag: bytes = field(repr=False)
    clock_tag: bytes = field(repr=False)
    request_seal: bytes = field(repr=False)
    answer_tag: bytes = field(repr=False)
    answer_seal: bytes = field(repr=False)


def keyed_hash(key: bytes, data: bytes) -> bytes:
    """BLAKE2b with a 32-byte key and a 32-byte digest (RFC 7693)."""
    return blake2b(data, key=key, digest_size=KEY_SIZE).digest()


def derive(gate_secret: bytes, channel: Channel) -> ChannelKeys:
    """The keys of one gate secret (a device's, its delegates') or one invite secret.

    Raises ValueError when the secret is not 32 bytes.
    """
    if len(gate_secret) != KEY_SIZE:
        raise ValueError(f"a gate secret has {KEY_SIZE} bytes, not {len(gate_secret)}")
    prefix = _DOMAIN + channel.value
    purposes = (b"tag", b"clock tag", b"request seal", b"answer tag", b"answer seal")
    return ChannelKeys(*(keyed_hash(gate_secret, prefix + purpose) for purpose in purposes))


def public_key(seed: bytes) -> bytes:
    """The Ed25519 public key (32 bytes) of a 32-byte seed (RFC 8032)."""
    return bindings.crypto_sign_seed_keypair(seed)[0]


def sign(seed: bytes, message: bytes) -> bytes:
    """The 64-byte Ed25519 signature (RFC 8032, deterministic)."""
    secret = bindings.crypto_sign_seed_keypair(seed)[1]
    return bindings.crypto_sign(message, secret)[:SIGNATURE_SIZE]


def verify(public: bytes, message: bytes, signature: bytes) -> bool:
    """Whether the signature is the key's over exactly this message.

    libsodium refuses S not below the group order, public keys of small order and non-canonical points, so a valid
    signature has no second valid form that one without the key could make. The sizes are checked here, since
    PyNaCl 1.6 does not check them: a shorter key would be read past its end, a shorter signature take from the message.
    """
    if len(public) != KEY_SIZE or len(signature) != SIGNATURE_SIZE:
        return False
    try:
        bindings.crypto_sign_open(signature + message, public)
    except (BadSignatureError, ValueError):
        return False
    return True


def exchange_public(secret: bytes) -> bytes:
    """The X25519 public value (32 bytes) of a 32-byte secret (RFC 7748); raises ValueError for another size."""
    _check_exchange_size(secret)
    return bindings.crypto_scalarmult_base(secret)


def agreed_gate_secret(
    *,
    own_secret: bytes,
    peer_public: bytes,
    invite_secret: bytes,
    invite_exchange: bytes,
    device_exchange: bytes,
    device_key: bytes,
) -> bytes | None:
    """The gate secret that an enrolment settles (docs/protocol.md, section 6.2), or None for a degenerate peer value.

    `own_secret` and `peer_public` are this side's X25519 secret and the other side's public value; the rest is the
    transcript, the same on both sides. Both X25519 secrets are erased afterwards, so that neither the invite's text nor
    a recording of the datagram gives the gate secret away later. Raises ValueError where either has another size.
    """
    _check_exchange_size(own_secret, peer_public)
    try:
        shared = bindings.crypto_scalarmult(own_secret, peer_public)
    except (CryptoError, RuntimeError):
        return None
    transcript = shared + invite_exchange + device_exchange + device_key
    return keyed_hash(invite_secret, _DOMAIN + b"gate secret" + transcript)


def _check_exchange_size(*values: bytes) -> None:
    # PyNaCl 1.6 passes any size on to libsodium, which reads 32 bytes whatever there is.
    if any(len(value) != KEY_SIZE for value in values):
        raise ValueError(f"an X25519 secret or public value has {KEY_SIZE} bytes")
