"""Sections 2.1 and 2.2 of docs/protocol.md read a second time: kinds of key and their signatures.

It imports no line of the project. Ed25519 is the library `cryptography`'s.
"""

from __future__ import annotations

import re
from hashlib import sha256
from typing import NamedTuple

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from tests.protocol.second_reading_body import Refused, require

PRIME = 2**255 - 19
ORDER = 2**252 + 27742317777372353535851937790883648493
_ORDER_8_Y = 2707385501144840649318225287225658788936804267575313519463743609750303021540
SMALL_ORDER_Y = {0, 1, PRIME - 1, _ORDER_8_Y, PRIME - _ORDER_8_Y}


class Key(NamedTuple):
    """A public key; one without an application is of kind 1."""

    public: bytes
    application: str = ""

    @property
    def kind(self) -> int:
        return 2 if self.application else 1


class Signature(NamedTuple):
    """64 bytes, and flags and counter, which are zeros for kind 1."""

    value: bytes
    proof: bytes = bytes(5)


class Signer(NamedTuple):
    """What signs: a seed; with an application it does as a security key does, with these flags and this counter."""

    seed: bytes
    application: str = ""
    flags: int = 0
    counter: int = 0

    @property
    def key(self) -> Key:
        return Key(public_key(self.seed), self.application)

    def sign(self, message: bytes) -> Signature:
        private = Ed25519PrivateKey.from_private_bytes(self.seed)
        if self.key.kind == 1:
            return Signature(private.sign(message))
        proof = bytes([self.flags]) + self.counter.to_bytes(4, "big")
        return Signature(private.sign(authenticated(self.application, proof, message)), proof)


def public_key(seed: bytes) -> bytes:
    """The Ed25519 public key of a seed."""
    return Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()


def authenticated(application: str, proof: bytes, message: bytes) -> bytes:
    """What a security key signs in the place of the message."""
    return sha256(application.encode("ascii")).digest() + proof + sha256(message).digest()


def is_application(text: str) -> bool:
    """Whether a key of kind 2 can have been made for that."""
    return re.fullmatch("ssh:[\x20-\x7e]{0,60}", text) is not None


def check(key: Key, message: bytes, signature: Signature) -> None:
    """Refuse all but a signature of the key's own kind."""
    if key.kind == 1:
        require(signature.proof == bytes(5), "flags or counter without a security key")
        check_signature(key.public, message, signature.value)
    else:
        require(signature.proof[0] in (1, 5), "flags")
        check_signature(key.public, authenticated(key.application, signature.proof, message), signature.value)


def check_signature(public: bytes, message: bytes, signature: bytes) -> None:
    """Refuse all but a valid Ed25519 signature, with the rules of 2.2."""
    require(len(public) == 32 and len(signature) == 64, "size")
    require(int.from_bytes(public, "little") & (1 << 255) - 1 < PRIME, "public key that is not canonical")
    require(not _has_small_order(public) and not _has_small_order(signature[:32]), "point of small order")
    require(int.from_bytes(signature[32:], "little") < ORDER, "S not below the order")
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
    except (InvalidSignature, ValueError) as error:
        raise Refused("signature") from error


def _has_small_order(point: bytes) -> bool:
    return (int.from_bytes(point, "little") & (1 << 255) - 1) % PRIME in SMALL_ORDER_Y
