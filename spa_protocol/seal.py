"""The datagram: one fixed size for every message, sealed and signed (docs/protocol.md, section 4).

    tag (8) | nonce (24) | XChaCha20-Poly1305( body (400) | signature (64) ) + 16

Theory of operation. Every message is a 400-byte body, padded with zeros. The signature covers a domain string, the
server's identity, the tag, the nonce, the context and the whole body; the seal has the tag and the context as
additional data. The context is empty in a request and is the request's tag and nonce in an answer, so that an answer
belongs to one request. It must not know what a body says.

Which kind of key has signed stands in the third byte of the body. A security key's flags and counter, which its
signature covers by itself, stand in the last 5, and are signed as zeros there.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from nacl import bindings
from nacl.exceptions import CryptoError

from spa_protocol.keys import SIGNATURE_SIZE, ChannelKeys, keyed_hash
from spa_protocol.signature import PROOF_SIZE, Signature, SignatureKind, Signer, VerifyingKey
from spa_protocol.tag import TAG_SIZE

NONCE_SIZE = 24
BODY_SIZE = 400
DATAGRAM_SIZE = TAG_SIZE + NONCE_SIZE + BODY_SIZE + SIGNATURE_SIZE + 16
HEAD_SIZE = TAG_SIZE + NONCE_SIZE
_KIND_AT = 2


class Domain(Enum):
    """What a signature is for; each string ends in a zero byte, so none is the start of another."""

    KNOCK = b"spa-perimeter v1 knock signature\0"
    ENROLMENT = b"spa-perimeter v1 enrolment signature\0"
    ANSWER = b"spa-perimeter v1 answer signature\0"


@dataclass(frozen=True, slots=True)
class Opened:
    """A datagram whose seal was right; nothing in it is believed before its signature is checked."""

    tag: bytes
    nonce: bytes
    body: bytes
    signature: Signature
    context: bytes

    @property
    def head(self) -> bytes:
        """Tag and nonce: what an answer to this message carries as its context."""
        return self.tag + self.nonce

    @property
    def message(self) -> bytes:
        """The body as its message reads it: whoever signed, the signature kind is that of a plain key."""
        return of_kind(self.body, SignatureKind.ED25519)

    def is_signed_by(self, key: VerifyingKey, domain: Domain, server_identity: bytes) -> bool:
        """Whether the holder of the key signed exactly this message to or from exactly this server."""
        if self.body[_KIND_AT] != key.kind.value:
            return False
        message = signed_bytes(domain, server_identity, self.tag, self.nonce, self.context, self.body)
        return key.verify(message, self.signature)


def signed_bytes(
    domain: Domain, server_identity: bytes, tag: bytes, nonce: bytes, context: bytes, body: bytes
) -> bytes:
    """The bytes that the signature covers."""
    return domain.value + server_identity + tag + nonce + context + body


def seal(
    *,
    seal_key: bytes,
    signer: Signer,
    domain: Domain,
    server_identity: bytes,
    tag: bytes,
    nonce: bytes,
    body: bytes,
    context: bytes = b"",
) -> bytes:
    """Sign and seal a body into one datagram of DATAGRAM_SIZE bytes.

    `nonce` is 24 random bytes, new for every call. Raises ValueError when a part has a wrong length, and what the
    signer raises.
    """
    if len(tag) != TAG_SIZE or len(nonce) != NONCE_SIZE or len(body) != BODY_SIZE:
        raise ValueError(f"tag, nonce and body have {TAG_SIZE}, {NONCE_SIZE} and {BODY_SIZE} bytes")
    signature = signer.sign(signed_bytes(domain, server_identity, tag, nonce, context, body))
    if signer.key.kind is SignatureKind.SK_ED25519:
        body = body[:-PROOF_SIZE] + signature.proof
    sealed = bindings.crypto_aead_xchacha20poly1305_ietf_encrypt(body + signature.value, tag + context, nonce, seal_key)
    return tag + nonce + sealed


def unseal(datagram: bytes, seal_key: bytes, context: bytes = b"") -> Opened | None:
    """Open a datagram, or None when it is not of the one size or its seal does not hold."""
    if len(datagram) != DATAGRAM_SIZE:
        return None
    tag, nonce = datagram[:TAG_SIZE], datagram[TAG_SIZE:HEAD_SIZE]
    try:
        plain = bindings.crypto_aead_xchacha20poly1305_ietf_decrypt(
            datagram[HEAD_SIZE:], tag + context, nonce, seal_key
        )
    except CryptoError:
        return None
    body, value = plain[:BODY_SIZE], plain[BODY_SIZE:]
    if body[_KIND_AT] != SignatureKind.SK_ED25519.value:
        return Opened(tag, nonce, body, Signature(value), context)
    signature = Signature.of(value, body[-PROOF_SIZE:])
    return Opened(tag, nonce, body[:-PROOF_SIZE] + bytes(PROOF_SIZE), signature, context)


def of_kind(body: bytes, kind: SignatureKind) -> bytes:
    """The body with that signature kind: what a signer with a key of that kind signs."""
    return body[:_KIND_AT] + bytes([kind.value]) + body[_KIND_AT + 1 :]


def answer_tag(keys: ChannelKeys, request_head: bytes) -> bytes:
    """The first 8 bytes of the one answer to the request with that head: pseudorandom, as a request's are."""
    return keyed_hash(keys.answer_tag, request_head)[:TAG_SIZE]
