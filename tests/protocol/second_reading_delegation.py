"""Section 5.2 of docs/protocol.md read a second time: certificates. It imports no line of the project."""

from __future__ import annotations

import struct
from hashlib import blake2b
from typing import NamedTuple

from tests.protocol.second_reading_body import Fields, is_delegate, require, write_services, write_text
from tests.protocol.second_reading_signature import Key, Signature, Signer, check

DOMAIN = b"spa-perimeter v1 delegation signature\0"
EXPIRED, TOO_LONG, NOT_DELEGATED = 25, 27, 28


class Certificate(NamedTuple):
    """What the device signs, and its signature."""

    key: bytes
    issued_s: int
    expires_s: int
    name: str
    services: tuple[str, ...]
    signature: Signature = Signature(bytes(64))


def delegate_secret(gate_secret: bytes) -> bytes:
    """Section 2's last secret."""
    return blake2b(b"spa-perimeter v1 delegate gate secret", digest_size=32, key=gate_secret).digest()


def signed_bytes(certificate: Certificate, identity: bytes) -> bytes:
    """What the device signs."""
    return DOMAIN + identity + _claims(certificate)


def build_certificate(certificate: Certificate) -> bytes:
    """All of its fields."""
    return _claims(certificate) + b"".join(certificate.signature)


def issue(signer: Signer, identity: bytes, certificate: Certificate) -> Certificate:
    """The certificate, signed."""
    return certificate._replace(signature=signer.sign(signed_bytes(certificate, identity)))


def read_certificate(fields: Fields) -> Certificate:
    """The certificate that comes next; nothing in it is believed before `check_certificate`."""
    key, issued_s, expires_s, name = fields.take(32), fields.number(8), fields.number(8), fields.text()
    require(is_delegate(name) and expires_s > issued_s, "name or times")
    services = fields.services(1, 4)
    return Certificate(key, issued_s, expires_s, name, services, Signature(fields.take(64), fields.take(5)))


def check_certificate(certificate: Certificate, device: Key, identity: bytes) -> None:
    """Refuse a certificate that is not the device's, for this server."""
    check(device, signed_bytes(certificate, identity), certificate.signature)


def refusal_code(
    certificate: Certificate, wanted: tuple[str, ...], *, now_ms: int, skew_ms: int, longest_s: int
) -> int | None:
    """The code with which a server refuses a delegated knock, its signatures being right; None where it does not."""
    if certificate.issued_s * 1000 > now_ms + skew_ms or certificate.expires_s * 1000 < now_ms + 1000:
        return EXPIRED
    if certificate.expires_s - certificate.issued_s > longest_s:
        return TOO_LONG
    return None if set(wanted) <= set(certificate.services) else NOT_DELEGATED


def _claims(certificate: Certificate) -> bytes:
    times = struct.pack(">QQ", certificate.issued_s, certificate.expires_s)
    return certificate.key + times + write_text(certificate.name) + write_services(certificate.services)
