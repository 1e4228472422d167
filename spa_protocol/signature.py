"""Signatures: which kinds of key a device may have, and how each signs and is verified (docs/protocol.md, section 2.1).

ED25519 signs the message itself. SK_ED25519 is a security key as OpenSSH has it (`sk-ssh-ed25519@openssh.com`): the
authenticator signs the hashes of an application's name and of the message, with flags that say whether somebody touched
it, and a counter. Both keys are Ed25519 keys; the kind and the application belong to the public key.

It must not know where a key is kept: whoever can sign is a Signer.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from hashlib import sha256
from typing import Protocol

from spa_protocol.keys import KEY_SIZE, public_key, sign, verify

TOUCHED = 0x01
"""Flag: the user was present."""
VERIFIED = 0x04
"""Flag: the user was verified, by a PIN or a finger."""
PROOF_SIZE = 5
"""Bytes of flags and counter, which stand beside the 64 of the signature."""
_NO_PROOF = bytes(PROOF_SIZE)
_MAX_APPLICATION = 64


class SignatureKind(Enum):
    """The third byte of every body."""

    ED25519 = 1
    SK_ED25519 = 2


@dataclass(frozen=True, slots=True)
class Signature:
    """64 bytes, and for a security key its flags and counter, which those bytes cover."""

    value: bytes
    flags: int = 0
    counter: int = 0

    @property
    def proof(self) -> bytes:
        """Flags and counter, 5 bytes; zeros for a plain key."""
        return bytes([self.flags]) + self.counter.to_bytes(4, "big")

    @classmethod
    def of(cls, value: bytes, proof: bytes = _NO_PROOF) -> Signature:
        """The signature from its two parts."""
        return cls(value, proof[0], int.from_bytes(proof[1:PROOF_SIZE], "big"))


@dataclass(frozen=True, slots=True)
class VerifyingKey:
    """The public half of a device's key. `application`: what a security key was made for ("ssh:"), or ""."""

    public: bytes
    application: str = ""

    @property
    def kind(self) -> SignatureKind:
        """Which kind of signature it verifies."""
        return SignatureKind.SK_ED25519 if self.application else SignatureKind.ED25519

    def check(self) -> None:
        """Raise ValueError unless it has the form that the protocol can say."""
        if len(self.public) != KEY_SIZE:
            raise ValueError(f"a public key has {KEY_SIZE} bytes, not {len(self.public)}")
        if self.application and not is_application(self.application):
            raise ValueError(f"an application starts with 'ssh:' and has at most {_MAX_APPLICATION} characters")

    def verify(self, message: bytes, signature: Signature) -> bool:
        """Whether the key's holder signed exactly this message, touching the key where it is a security key.

        Flags that OpenSSH does not ask an authenticator for are refused, so that a signature has one form only.
        """
        if self.kind is SignatureKind.ED25519:
            return signature.proof == _NO_PROOF and verify(self.public, message, signature.value)
        if not signature.flags & TOUCHED or signature.flags & ~(TOUCHED | VERIFIED):
            return False
        return verify(self.public, sk_signed(self.application, signature.proof, message), signature.value)

    def to_bytes(self) -> bytes:
        """Its one form in texts and in the registry: 32 bytes, and behind them the application of a security key."""
        return self.public + self.application.encode("ascii")

    @classmethod
    def from_bytes(cls, data: bytes) -> VerifyingKey:
        """The key of such bytes; raises ValueError."""
        try:
            key = cls(data[:KEY_SIZE], data[KEY_SIZE:].decode("ascii"))
        except UnicodeDecodeError:
            raise ValueError("an application has printable ASCII characters only") from None
        key.check()
        return key


def is_application(text: str) -> bool:
    """Whether a security key's application can be said: OpenSSH's all start with `ssh:`."""
    return text.startswith("ssh:") and len(text) <= _MAX_APPLICATION and text.isascii() and text.isprintable()


def sk_signed(application: str, proof: bytes, message: bytes) -> bytes:
    """What a security key's signature covers (OpenSSH's PROTOCOL.u2f; FIDO2 without extensions)."""
    return sha256(application.encode("ascii")).digest() + proof + sha256(message).digest()


class Signer(Protocol):
    """Whoever can sign: a seed, an agent, a security key."""

    @property
    def key(self) -> VerifyingKey:
        """The public half."""

    @property
    def every_time(self) -> bool:
        """Whether a signature costs its user nothing, so that each datagram can have its own."""

    def sign(self, message: bytes) -> Signature:
        """The signature of the message; may ask the user for a touch. Raises what the key's place raises."""


@dataclass(frozen=True, slots=True)
class SeedSigner:
    """Signs with a seed that is at hand."""

    seed: bytes = field(repr=False)

    @property
    def key(self) -> VerifyingKey:
        """The public half."""
        return VerifyingKey(public_key(self.seed))

    @property
    def every_time(self) -> bool:
        """It costs 35 microseconds."""
        return True

    def sign(self, message: bytes) -> Signature:
        """The plain Ed25519 signature."""
        return Signature(sign(self.seed, message))
