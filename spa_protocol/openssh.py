"""OpenSSH's forms of a key and of a signature, read into this protocol's own and back (docs/protocol.md, 2.1).

A public key is a blob of length-prefixed strings (RFC 4253, section 6.6; RFC 8709; OpenSSH's PROTOCOL.u2f), which
stands in base64 in `.pub` files and lines of authorized_keys, and is named by the fingerprint that ssh-keygen prints.
Only the two types that the protocol has signature kinds for are taken. It must not know where a key comes from.
"""

from __future__ import annotations

import binascii
import re
from base64 import b64decode, b64encode
from dataclasses import dataclass
from hashlib import sha256

from spa_protocol.keys import SIGNATURE_SIZE
from spa_protocol.signature import PROOF_SIZE, Signature, SignatureKind, VerifyingKey

ED25519 = "ssh-ed25519"
SK_ED25519 = "sk-ssh-ed25519@openssh.com"
_TYPES = {SignatureKind.ED25519: ED25519, SignatureKind.SK_ED25519: SK_ED25519}
_OTHER_TYPES = re.compile(r"(sk-)?(ssh|ecdsa)-[a-z0-9-]+(@openssh\.com)?\Z")
_WORD = re.compile(r'(?:[^\s"]|"(?:\\.|[^"\\])*")+')
_LONGEST_LINE = 16 * 1024


class UnusableKey(ValueError):
    """A key, or a text in its place, that cannot sign knocks; the message says why and what would."""


@dataclass(frozen=True, slots=True)
class PublicLine:
    """A line of a `.pub` file or of authorized_keys. `options`: what stands before the key, "" mostly."""

    key: VerifyingKey
    comment: str
    options: str


def key_type(key: VerifyingKey) -> str:
    """What OpenSSH calls keys of that kind."""
    return _TYPES[key.kind]


def key_blob(key: VerifyingKey) -> bytes:
    """The public key as OpenSSH hands it about."""
    strings = [key_type(key).encode("ascii"), key.public]
    if key.application:
        strings.append(key.application.encode("ascii"))
    return b"".join(map(ssh_string, strings))


def read_key_blob(blob: bytes) -> VerifyingKey:
    """The key in such a blob; raises UnusableKey."""
    reader = SshReader(blob)
    try:
        name = reader.string().decode("ascii")
        if name not in _TYPES.values():
            raise _other_type(name)
        public = reader.string()
        application = reader.string().decode("ascii") if name == SK_ED25519 else ""
        reader.finish()
        key = VerifyingKey(public, application)
        key.check()
    except UnusableKey:
        raise
    except ValueError as error:
        raise UnusableKey(f"the key is damaged ({error}); copy the whole line again") from None
    if key_type(key) != name:
        raise UnusableKey("the security key names no application; OpenSSH's are made for 'ssh:'")
    return key


def public_line(key: VerifyingKey, comment: str = "") -> str:
    """The line of its `.pub` file."""
    return f"{key_type(key)} {b64encode(key_blob(key)).decode('ascii')} {comment}".rstrip()


def read_public_line(text: str) -> PublicLine:
    """The key in one line as `.pub` files and authorized_keys have them; raises UnusableKey."""
    line = text.strip()
    if "PRIVATE KEY" in line:
        raise UnusableKey("this is a private key, which nobody should have been given; give the line of its .pub file")
    if "\n" in line or len(line) > _LONGEST_LINE:
        raise UnusableKey("this is more than one line; give one key's")
    words = list(_WORD.finditer(line))
    for number, word in enumerate(words[:2]):
        name = word.group()
        if name in _TYPES.values() or _OTHER_TYPES.match(name):
            options = words[0].group() if number else ""
            data = words[number + 1] if number + 1 < len(words) else None
            return PublicLine(
                _encoded(name, data.group() if data else ""), line[data.end() :].strip() if data else "", options
            )
    raise UnusableKey(f"this is no line with a public key; one begins with {ED25519} or {SK_ED25519}")


def fingerprint(key: VerifyingKey) -> str:
    """What `ssh-keygen -l` and `ssh-add -l` print of it: SHA256:..."""
    return "SHA256:" + b64encode(sha256(key_blob(key)).digest()).decode("ascii").rstrip("=")


def read_signature(blob: bytes, kind: SignatureKind) -> Signature:
    """The signature in a blob that a key of that kind gave; raises ValueError."""
    reader = SshReader(blob)
    name, value = reader.string(), reader.string()
    if name != _TYPES[kind].encode("ascii") or len(value) != SIGNATURE_SIZE:
        raise ValueError(f"not a signature by a key of type {_TYPES[kind]}")
    proof = reader.raw(PROOF_SIZE) if kind is SignatureKind.SK_ED25519 else bytes(PROOF_SIZE)
    reader.finish()
    return Signature.of(value, proof)


def ssh_string(value: bytes) -> bytes:
    """A string as SSH has it: four bytes of length before it (RFC 4251, section 5)."""
    return len(value).to_bytes(4, "big") + value


class SshReader:
    """Reads SSH's fields in order; whatever does not fit raises ValueError."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def raw(self, size: int) -> bytes:
        """The next `size` bytes."""
        end = self._at + size
        if end > len(self._data):
            raise ValueError("it ends too early")
        value, self._at = self._data[self._at : end], end
        return value

    def number(self, size: int = 4) -> int:
        """An unsigned number."""
        return int.from_bytes(self.raw(size), "big")

    def string(self) -> bytes:
        """A length and that many bytes."""
        return self.raw(self.number())

    def finish(self) -> None:
        """There must be nothing left."""
        if self._at != len(self._data):
            raise ValueError("there is more than belongs in it")


def _encoded(name: str, data: str) -> VerifyingKey:
    if name not in _TYPES.values():
        raise _other_type(name)
    try:
        blob = b64decode(data, validate=True)
    except (binascii.Error, ValueError):
        raise UnusableKey("the key is damaged (not base64); copy the whole line again") from None
    key = read_key_blob(blob)
    if key_type(key) != name:
        raise UnusableKey(f"the line says {name}, its key {key_type(key)}; copy the whole line again")
    return key


def _other_type(name: str) -> UnusableKey:
    if "-cert-" in name:
        return UnusableKey(f"a certificate ({name}) cannot sign knocks: give the key's own .pub line")
    make = "ed25519-sk" if name.startswith("sk-") else "ed25519"
    shown = name if _OTHER_TYPES.match(name) else "unknown"
    return UnusableKey(f"keys of type {shown} cannot sign knocks; make one that can: ssh-keygen -t {make}")
