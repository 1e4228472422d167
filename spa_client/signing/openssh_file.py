"""OpenSSH's form of a private key (PROTOCOL.key): read its public half, unlock it, write one.

Locking and unlocking is the business of the library `cryptography`, which is loaded only here and only then. It must
not know files or people.
"""

from __future__ import annotations

import binascii
import re
from base64 import b64decode

from spa_client.errors import BadSurroundings, NotPermitted
from spa_protocol.openssh import SshReader, UnusableKey, read_key_blob
from spa_protocol.signature import VerifyingKey

_FORM = re.compile(r"-----BEGIN OPENSSH PRIVATE KEY-----\s+([A-Za-z0-9+/=\s]+)-----END OPENSSH PRIVATE KEY-----\s*\Z")
_MAGIC = b"openssh-key-v1\0"
_ROUNDS = 24
"""Of bcrypt, as ssh-keygen has it since OpenSSH 9.4."""


def is_openssh_file(text: str) -> bool:
    """Whether this is meant to be such a key."""
    return text.lstrip().startswith("-----BEGIN OPENSSH PRIVATE KEY-----")


def read_public_half(text: str) -> tuple[VerifyingKey, bool]:
    """The public key, which stands in clear, and whether the private one is locked. Raises UnusableKey."""
    match = _FORM.match(text.lstrip())
    try:
        reader = SshReader(b64decode("".join(match[1].split()), validate=True) if match else b"")
        magic, cipher, _, _ = reader.raw(len(_MAGIC)), reader.string(), reader.string(), reader.string()
        count, blob = reader.number(), reader.string()
    except (binascii.Error, ValueError):
        magic, cipher, count, blob = b"", b"", 0, b""
    if magic != _MAGIC:
        raise UnusableKey("it is damaged: not the whole of an OpenSSH private key")
    if count != 1:
        raise UnusableKey(f"it holds {count} keys; it takes a file with one")
    return read_key_blob(blob), cipher != b"none"


def read_seed(text: str, passphrase: bytes | None) -> bytes:
    """The 32-byte seed. Raises NotPermitted for a wrong passphrase, UnusableKey, and BadSurroundings."""
    try:
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        from cryptography.hazmat.primitives.serialization import load_ssh_private_key
    except ImportError:
        raise _missing() from None
    try:
        key = load_ssh_private_key(text.encode("ascii"), passphrase)
    except UnsupportedAlgorithm as error:
        if "bcrypt" in str(error):
            raise _missing() from None
        raise UnusableKey(f"it cannot be unlocked here ({error})") from None
    except (ValueError, TypeError):
        if passphrase is not None:
            raise NotPermitted("the passphrase is wrong") from None
        raise UnusableKey("it is damaged") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise UnusableKey("it is not an Ed25519 key: make one with ssh-keygen -t ed25519")
    return key.private_bytes_raw()


def locked_text(seed: bytes, passphrase: bytes) -> str:
    """The seed as a file of OpenSSH's form, locked under the passphrase. Raises BadSurroundings."""
    try:
        import bcrypt  # noqa: F401 - `cryptography` needs it, and would say so too late
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        from cryptography.hazmat.primitives.serialization import Encoding, PrivateFormat
    except ImportError:
        raise _missing() from None
    locking = PrivateFormat.OpenSSH.encryption_builder().kdf_rounds(_ROUNDS).build(passphrase)
    key = Ed25519PrivateKey.from_private_bytes(seed)
    return key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, locking).decode("ascii")


def _missing() -> BadSurroundings:
    return BadSurroundings("keys in OpenSSH's form need two libraries: pip install 'spa-perimeter[openssh]'")
