"""A private key in a file: in the project's own form, or in OpenSSH's, locked or not.

It must not know whose file it is.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from spa_client.errors import BadConfiguration, NotPermitted
from spa_client.secret_file import read_secret
from spa_client.signing import person
from spa_client.signing.openssh_file import is_openssh_file, read_public_half, read_seed
from spa_protocol.keys import public_key
from spa_protocol.openssh import UnusableKey
from spa_protocol.signature import SignatureKind, VerifyingKey
from spa_protocol.text import BadText, TextKind, decode_key


@dataclass(frozen=True, slots=True)
class KeyFile:
    """The text of a key's file. Every method raises SpaError."""

    path: Path
    text: str = field(repr=False)

    @classmethod
    def read(cls, path: Path) -> KeyFile:
        """The file; raises BadConfiguration, and NotPermitted where others can read it."""
        if not path.exists():
            raise BadConfiguration(f"there is no key file {path}")
        return cls(path, read_secret(path))

    def public(self) -> VerifyingKey:
        """The public key; no passphrase is needed for it."""
        if not is_openssh_file(self.text):
            return VerifyingKey(public_key(self._plain_seed()))
        return self._public_half()[0]

    def seed(self) -> bytes:
        """The seed; asks for the passphrase where there is one."""
        if not is_openssh_file(self.text):
            return self._plain_seed()
        _, locked = self._public_half()
        try:
            return read_seed(self.text, person.passphrase(str(self.path)) if locked else None)
        except UnusableKey as error:
            raise BadConfiguration(f"{self.path}: {error}") from None
        except NotPermitted as error:
            raise NotPermitted(f"{self.path}: {error}") from None

    def _plain_seed(self) -> bytes:
        try:
            return decode_key(TextKind.SECRET_KEY, self.text)
        except BadText as error:
            raise BadConfiguration(f"{self.path}: {_in_place_of_a_key(self.text) or error}") from None

    def _public_half(self) -> tuple[VerifyingKey, bool]:
        try:
            public, locked = read_public_half(self.text)
        except UnusableKey as error:
            raise BadConfiguration(f"{self.path}: {error}") from None
        if public.kind is SignatureKind.SK_ED25519:
            raise BadConfiguration(
                f"{self.path}: the key itself is in the security key: ssh-add '{self.path}', and give --agent"
            )
        return public, locked


def _in_place_of_a_key(text: str) -> str:
    """What the file holds instead of an Ed25519 private key, if that can be told."""
    start = text.lstrip()[:200]
    if start.startswith(("ssh-", "sk-", "ecdsa-")):
        return "this is the public half; give the file without .pub, or --agent"
    if "PRIVATE KEY" in start:
        return "keys of this form cannot sign knocks; make one that can: ssh-keygen -t ed25519"
    return ""
