"""Delegation: a device lets another key open some of its services for a while (docs/protocol.md, section 5.2).

A certificate, signed by the device's key, names the delegate's key, the services and the time. It travels inside every
knock of the delegate, so that the server honours it without being told before. Delegates have a channel of their own,
whose secret is derived from the device's gate secret one way: they can neither read the device's knocks nor use up its
slots. A delegate cannot delegate: only the device's own key signs certificates. It must not know what a knock is.
"""

from __future__ import annotations

from dataclasses import dataclass

from spa_protocol.body import FieldReader, FieldWriter, MalformedBody
from spa_protocol.keys import KEY_SIZE, SIGNATURE_SIZE, keyed_hash
from spa_protocol.names import is_delegate_name, is_service_name
from spa_protocol.signature import PROOF_SIZE, Signature, Signer, VerifyingKey

MAX_DELEGATED = 4
"""Most services that one certificate names, and most that one delegated knock does."""
_DOMAIN = b"spa-perimeter v1 delegation signature\0"
_SECRET = b"spa-perimeter v1 delegate gate secret"
_UNSIGNED = Signature(bytes(SIGNATURE_SIZE))


def delegate_secret(gate_secret: bytes) -> bytes:
    """The gate secret of all delegates of the device that has this one; it does not lead back."""
    return keyed_hash(gate_secret, _SECRET)


@dataclass(frozen=True, slots=True)
class Certificate:
    """Which key may open what until when.

    `key`: the delegate's Ed25519 public key, 32 bytes. `name`: what it is called. `services`: those it may open.
    `issued_s` and `expires_s`: UTC seconds since 1970. `signature`: the device's.
    """

    key: bytes
    name: str
    services: tuple[str, ...]
    issued_s: int
    expires_s: int
    signature: Signature = _UNSIGNED

    def write(self, writer: FieldWriter) -> None:
        """Its fields, the signature last; raises ValueError for what the protocol cannot say."""
        self._check(ValueError)
        self._write_claims(writer)
        writer.raw(self.signature.value + self.signature.proof)

    def to_bytes(self) -> bytes:
        """Its fields alone; raises ValueError."""
        writer = FieldWriter()
        self.write(writer)
        return writer.written()

    @classmethod
    def from_bytes(cls, data: bytes) -> Certificate:
        """The certificate that is all of these bytes; raises MalformedBody."""
        reader = FieldReader(data, 0, len(data))
        certificate = cls.read(reader)
        if reader.rest():
            raise MalformedBody("something after the certificate")
        return certificate

    def _write_claims(self, writer: FieldWriter) -> None:
        writer.raw(self.key)
        writer.number(self.issued_s, 8)
        writer.number(self.expires_s, 8)
        writer.text(self.name)
        writer.number(len(self.services), 1)
        for name in self.services:
            writer.text(name)

    @classmethod
    def read(cls, reader: FieldReader) -> Certificate:
        """The certificate whose fields come next; raises MalformedBody."""
        key, issued_s, expires_s, name = reader.raw(KEY_SIZE), reader.number(8), reader.number(8), reader.text()
        services = tuple(reader.text() for _ in range(min(reader.number(1), MAX_DELEGATED + 1)))
        signature = Signature.of(reader.raw(SIGNATURE_SIZE), reader.raw(PROOF_SIZE))
        certificate = cls(key, name, services, issued_s, expires_s, signature)
        certificate._check(MalformedBody)
        return certificate

    def signed_bytes(self, server_identity: bytes) -> bytes:
        """What the device signs: for this server only."""
        writer = FieldWriter(_DOMAIN + server_identity)
        self._write_claims(writer)
        return writer.written()

    def is_signed_by(self, device: VerifyingKey, server_identity: bytes) -> bool:
        """Whether the device's key made exactly this certificate for exactly this server."""
        return device.verify(self.signed_bytes(server_identity), self.signature)

    def _check(self, wrong: type[ValueError]) -> None:
        if len(self.key) != KEY_SIZE or not is_delegate_name(self.name):
            raise wrong("a delegate has a key of 32 bytes and a name")
        if not 1 <= len(self.services) <= MAX_DELEGATED or len(set(self.services)) != len(self.services):
            raise wrong(f"one to {MAX_DELEGATED} services are delegated, each named once")
        if not all(map(is_service_name, self.services)):
            raise wrong("a service name with other characters than a-z, 0-9 and -")
        if not self.issued_s < self.expires_s:
            raise wrong("a delegation that ends before it begins")


def issue(
    signer: Signer,
    server_identity: bytes,
    *,
    key: bytes,
    name: str,
    services: tuple[str, ...],
    issued_s: int,
    expires_s: int,
) -> Certificate:
    """A certificate signed by a device for one of its servers. Raises ValueError, and what the signer raises."""
    bare = Certificate(key, name, services, issued_s, expires_s)
    bare._check(ValueError)
    signature = signer.sign(bare.signed_bytes(server_identity))
    return Certificate(key, name, services, issued_s, expires_s, signature)
