"""An authority for one test, and a certificate of its for one name.

It must not know what serves it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


@dataclass(frozen=True, slots=True)
class Certificates:
    """The files: the authority's certificate, which clients trust, and the server's key and certificate in one."""

    authority: Path
    chain: Path

    @classmethod
    def made(cls, folder: Path, name: str) -> Certificates:
        """Make them in a folder."""
        made = cls(folder / "authority.pem", folder / "server.pem")
        signing, serving = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
        issuer = _named("the tests' authority")
        root = _builder(issuer, issuer, signing.public_key())
        root = root.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        usage = x509.KeyUsage(
            digital_signature=False,
            content_commitment=False,
            key_encipherment=False,
            data_encipherment=False,
            key_agreement=False,
            key_cert_sign=True,
            crl_sign=True,
            encipher_only=False,
            decipher_only=False,
        )
        root = root.add_extension(usage, critical=True)
        leaf = _builder(_named(name), issuer, serving.public_key())
        leaf = leaf.add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        made.authority.write_bytes(root.sign(signing, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
        key = serving.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        made.chain.write_bytes(key + leaf.sign(signing, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
        return made


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _builder(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    # Wide, for a machine whose clock is off.
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=2))
        .not_valid_after(now + timedelta(days=2))
    )
