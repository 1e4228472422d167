"""Where a device's key is kept, and which it is: what perimeter.toml says of it. Nothing here is secret."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from spa_protocol.signature import VerifyingKey


class KeyKind(Enum):
    """The kinds of place; the values are what the file says."""

    OWN = "own"
    """The perimeter's file device.key."""
    PASSPHRASE = "passphrase"  # noqa: S105 - the name of a kind
    """The same file, locked under a passphrase."""
    KEYRING = "keyring"
    """The platform's key ring."""
    FILE = "file"
    """A key that the user has elsewhere, mostly OpenSSH's."""
    AGENT = "agent"
    """A key in ssh-agent, which may be a security key."""

    @property
    def is_made_here(self) -> bool:
        """Whether the key was made for one perimeter, and goes when that is forgotten."""
        return self not in (KeyKind.FILE, KeyKind.AGENT)


_SAID = {
    KeyKind.OWN: "a file of its own",
    KeyKind.PASSPHRASE: "a file of its own, under a passphrase",
    KeyKind.KEYRING: "the key ring",
    KeyKind.AGENT: "the key agent",
}


@dataclass(frozen=True, slots=True)
class KeyPlace:
    """`public`: the key; None where the place itself tells, as the own file does. `path`: of a file elsewhere."""

    kind: KeyKind = KeyKind.OWN
    public: VerifyingKey | None = None
    path: str = ""

    def __str__(self) -> str:
        return _SAID.get(self.kind) or f"the file {self.path}"


OWN_FILE = KeyPlace()
"""Where a key is unless somebody wants it elsewhere."""
