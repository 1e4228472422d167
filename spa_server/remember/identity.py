"""The server's own signing key: with it the server proves its answers; it opens nothing.

It is a file that root alone can read, beside the configuration. As a service the network process, which is not root,
gets it from the service manager as a credential (systemd.exec(5), LoadCredential); servers made by the first version
have it in the state folder.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from spa_protocol.keys import public_key
from spa_protocol.text import BadText, TextKind, decode_key, encode
from spa_server.remember.store import StateError

FILE_NAME = "server.key"
CREDENTIALS = "CREDENTIALS_DIRECTORY"


@dataclass(frozen=True, slots=True)
class ServerIdentity:
    """The Ed25519 seed and public key of this server; the public key is what devices know it by."""

    seed: bytes = field(repr=False)
    public: bytes

    @property
    def text(self) -> str:
        """The public key as people see it."""
        return encode(TextKind.SERVER, self.public)


def create_identity(path: Path, seed: bytes) -> ServerIdentity:
    """Write a new key. Raises StateError where there is one already."""
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


def identity_path(config_path: Path, state_folder: Path) -> Path:
    """Where the key is: the first that is there of a credential, a file beside the configuration and one in the state.

    Where there is none: beside the configuration, where it belongs.
    """
    credentials = os.environ.get(CREDENTIALS)
    beside = config_path.parent / FILE_NAME
    places = [*([Path(credentials, FILE_NAME)] if credentials else []), beside, state_folder / FILE_NAME]
    return next((path for path in places if os.path.lexists(path)), beside)


def read_identity(path: Path) -> ServerIdentity:
    """The key in that file. Raises StateError that says what to do."""
    try:
        # A credential is kept from others by its folder, and its mode may show an access control list's mask instead.
        if path.stat().st_mode & 0o077 and str(path.parent) != os.environ.get(CREDENTIALS):
            raise StateError(f"{path} can be read by others: chmod 600 {path}")
        seed = decode_key(TextKind.SECRET_KEY, path.read_bytes().decode("ascii"))
    except FileNotFoundError:
        raise StateError(f"{path} does not exist; make the keys and the state with: spa-server init") from None
    except (OSError, UnicodeDecodeError, BadText) as error:
        raise StateError(f"{path} cannot be used: {error}") from error
    return ServerIdentity(seed, public_key(seed))
