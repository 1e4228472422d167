"""The parts of vectors.json that are certificates and texts (docs/protocol.md, sections 5.2 and 8)."""

from __future__ import annotations

from dataclasses import replace

from spa_protocol.delegation import Certificate, delegate_secret
from spa_protocol.delegation_text import Delegation
from spa_protocol.invite import Invite
from spa_protocol.signature import VerifyingKey
from spa_protocol.text import TextKind, encode
from tests.protocol import message_vectors, world
from tests.protocol.message_vectors import Entry

CERTIFICATES = {
    "usual": ("device", message_vectors.BY_DEVICE),
    "the shortest": (
        "device",
        world.certificate(name="a", services=("a",), issued_s=0, expires_s=1),
    ),
    "the longest": ("device", message_vectors.LONGEST_CERTIFICATE),
    "by a security key": ("security-key", message_vectors.BY_SECURITY_KEY),
    "by a security key, the user verified": ("security-key", world.certificate(message_vectors.VERIFIED)),
}
INVITES = {
    "host name": world.invite("gate.example.org"),
    "IPv4 address": world.invite("192.0.2.1"),
    "IPv6 address": world.invite("2001:db8::1"),
    "four hosts": world.invite("gate.example.org", "_gate.example.net", "192.0.2.1", "2001:db8::1"),
    "extreme numbers": replace(world.invite("a", knock_ports=(1,)), expires_s=2**64 - 1),
    "two knock ports": world.invite(knock_ports=(62_201, 443)),
    "four knock ports and four hosts": world.invite("a", "b.c", "192.0.2.1", "::", knock_ports=(65_535, 1, 443, 53)),
}
DELEGATIONS = {
    "usual": ("device", world.delegation()),
    "one port": ("device", replace(world.delegation(), knock_ports=(62_201,))),
    "four knock ports and four hosts": (
        "device",
        replace(world.delegation("a", "b.c", "192.0.2.1", "::"), knock_ports=(65_535, 1, 443, 53), label="a" * 63),
    ),
    "the longest certificate": ("device", world.delegation(by=message_vectors.LONGEST_CERTIFICATE)),
    "by a security key": (
        "security-key",
        replace(
            world.delegation(by=message_vectors.BY_SECURITY_KEY),
            gate_secret=delegate_secret(world.SECURITY_KEY_GATE_SECRET),
        ),
    ),
}


def certificates() -> list[Entry]:
    """Section 5.2: `by` is whose device signed."""
    return [_certificate(name, *each) for name, each in CERTIFICATES.items()]


def texts() -> list[Entry]:
    """Section 8.1."""
    security_keys = (world.SECURITY_KEY.key, message_vectors.OTHER_APPLICATION.key)
    held = (
        (TextKind.DEVICE, world.DEVICE_KEY),
        *((TextKind.DEVICE, key.to_bytes()) for key in security_keys),
        (TextKind.SERVER, world.SERVER_IDENTITY),
        (TextKind.SECRET_KEY, world.DEVICE_SEED),
        (TextKind.GATE_SECRET, world.GATE_SECRET),
    )
    return [
        {"prefix": kind.prefix, "data": data.hex(), "text": text, "also": text.swapcase()}
        for kind, data in held
        for text in [encode(kind, data)]
    ]


def invites() -> list[Entry]:
    """Section 8.2."""
    return [_invite(name, invite) for name, invite in INVITES.items()]


def delegations() -> list[Entry]:
    """Section 8.3."""
    return [_delegation(name, *each) for name, each in DELEGATIONS.items()]


def _certificate(name: str, by: str, certificate: Certificate) -> Entry:
    device: VerifyingKey = world.HOLDERS[by].device.key
    signed = certificate.signed_bytes(world.SERVER_IDENTITY)
    return {
        "name": name,
        "by": by,
        "key": certificate.key.hex(),
        "issued_s": certificate.issued_s,
        "expires_s": certificate.expires_s,
        "delegate": certificate.name,
        "services": list(certificate.services),
        **message_vectors.signature_entry(device, signed, certificate.signature),
        "certificate": certificate.to_bytes().hex(),
    }


def _invite(name: str, invite: Invite) -> Entry:
    text = invite.text()
    return {
        "name": name,
        "secret": invite.secret.hex(),
        "server_identity": invite.server_identity.hex(),
        "exchange": invite.exchange.hex(),
        "expires_s": invite.expires_s,
        "knock_ports": list(invite.knock_ports),
        "hosts": list(invite.hosts),
        "text": text,
        "also": text.upper(),
    }


def _delegation(name: str, by: str, delegation: Delegation) -> Entry:
    text = delegation.text()
    return {
        "name": name,
        "by": by,
        "seed": delegation.seed.hex(),
        "delegate_secret": delegation.gate_secret.hex(),
        "server_identity": delegation.server_identity.hex(),
        "certificate": delegation.certificate.to_bytes().hex(),
        "label": delegation.label,
        "knock_ports": list(delegation.knock_ports),
        "hosts": list(delegation.hosts),
        "text": text,
        "also": text.lower(),
    }
