"""A key made for one perimeter: in a file of its own, in the same under a passphrase, or in the platform's key ring.

The file is FILE, the perimeter's device.key. A key in the key ring has FILE's name with .pub instead while a join is
under way, so that a second try finds it. It must not know of invites.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from spa_client.errors import BadConfiguration, SpaError
from spa_client.secret_file import read_file, read_secret, write_file
from spa_client.signing.place import OWN_FILE, KeyKind, KeyPlace
from spa_protocol.keys import KEY_SIZE, public_key
from spa_protocol.signature import SeedSigner, Signer, VerifyingKey
from spa_protocol.text import BadText, TextKind, decode_key, decode_verifying_key, encode


def make(kind: KeyKind, file: Path) -> tuple[KeyPlace, Signer]:
    """Make a key and keep it there; a passphrase is asked for here. Raises SpaError and OSError."""
    seed = os.urandom(KEY_SIZE)
    public = VerifyingKey(public_key(seed))
    if kind is KeyKind.OWN:
        write_file(file, encode(TextKind.SECRET_KEY, seed) + "\n")
        return OWN_FILE, SeedSigner(seed)
    if kind is KeyKind.PASSPHRASE:
        from spa_client.signing import person
        from spa_client.signing.openssh_file import locked_text

        write_file(file, locked_text(seed, person.new_passphrase("this device's key")))
    else:
        from spa_client.signing import key_ring

        key_ring.put(public, seed)
        write_file(_public_file(file), encode(TextKind.DEVICE, public.to_bytes()) + "\n")
    return KeyPlace(kind, public), SeedSigner(seed)


def made(kind: KeyKind, file: Path) -> KeyPlace | None:
    """The place of a key of that kind that was made there before; None where there is none. Raises SpaError."""
    if kind is KeyKind.KEYRING:
        file = _public_file(file)
        return KeyPlace(kind, _read_public(file)) if file.exists() else None
    if not file.exists():
        return None
    from spa_client.signing.key_file import KeyFile
    from spa_client.signing.openssh_file import is_openssh_file

    found = KeyFile.read(file)
    if is_openssh_file(found.text) != (kind is KeyKind.PASSPHRASE):
        return None
    return KeyPlace(kind, found.public()) if kind is KeyKind.PASSPHRASE else OWN_FILE


def read_plain(file: Path) -> bytes:
    """The seed in a file that is not locked. Raises BadConfiguration and NotPermitted."""
    try:
        return decode_key(TextKind.SECRET_KEY, read_secret(file))
    except BadText as error:
        raise BadConfiguration(f"{file} is damaged ({error}): join again with a new invite") from None


def clear(file: Path) -> None:
    """Remove a key that was made there. Raises OSError."""
    file.unlink(missing_ok=True)
    settle(file)


def settle(file: Path) -> None:
    """Remove what only an unfinished join needed. Raises OSError."""
    _public_file(file).unlink(missing_ok=True)


def discard(place: KeyPlace) -> None:
    """Delete the key in the key ring, where it can be."""
    if place.kind is KeyKind.KEYRING and place.public is not None:
        from spa_client.signing import key_ring

        with contextlib.suppress(SpaError):
            key_ring.remove(place.public)


def _public_file(file: Path) -> Path:
    return file.with_suffix(".pub")


def _read_public(file: Path) -> VerifyingKey:
    try:
        return decode_verifying_key(read_file(file))
    except BadText as error:
        raise BadConfiguration(f"{file} is damaged ({error}): remove {file.parent} and join again") from None
