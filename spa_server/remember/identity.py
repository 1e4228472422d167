"""The server's own signing key, in the state folder: with it the server proves its answers; it opens nothing."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from spa_protocol.keys import public_key
from spa_protocol.text import BadText, TextKind, decode_key, encode
from spa_server.remember.store import StateError

FILE_NAME = "server.key"


@dataclass(frozen=True, slots=True)
class ServerIdentity:
    """The Ed25519 seed and public key of this server; the public key is what devices know it by."""

    seed: bytes = field(repr=False)
    public: bytes

    @property
    def text(self) -> str:
        """The public key as people see it."""
        return encode(TextKind.SERVER, self.public)


def create_identity(folder: Path, seed: bytes) -> ServerIdentity:
    """Write a new key. Raises StateError where there is one already."""
    path = folder / FILE_NAME
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(encode(TextKind.SECRET_KEY, seed) + "\n")
            file.flush()
            os.fsync(file.fileno())
    except FileExistsError:
        raise StateError(f"{path} exists already and is not overwritten") from None
    except OSError as error:
        raise StateError(f"{path} cannot be written: {error.strerror}") from error
    return ServerIdentity(seed, public_key(seed))


def read_identity(folder: Path) -> ServerIdentity:
    """The key in the state folder. Raises StateError that says what to do."""
    path = folder / FILE_NAME
    try:
        if path.stat().st_mode & 0o077:
            raise StateError(f"{path} can be read by others: chmod 600 {path}")
        seed = decode_key(TextKind.SECRET_KEY, path.read_bytes().decode("ascii"))
    except FileNotFoundError:
        raise StateError(f"{path} does not exist; make the keys and the state with: spa-server init") from None
    except (OSError, UnicodeDecodeError, BadText) as error:
        raise StateError(f"{path} cannot be used: {error}") from error
    return ServerIdentity(seed, public_key(seed))
