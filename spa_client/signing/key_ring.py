"""A seed in the platform's key ring: Keychain, Credential Locker, Secret Service or whatever `keyring` finds.

An entry is named after the public key, so that it stays right whatever the perimeter is called. The library is loaded
only here.
"""

from __future__ import annotations

from types import ModuleType

from spa_client.errors import BadConfiguration, BadSurroundings
from spa_protocol.signature import VerifyingKey
from spa_protocol.text import BadText, TextKind, decode_key, encode

_SERVICE = "spa-perimeter"


def put(key: VerifyingKey, seed: bytes) -> None:
    """Keep the seed of that key. Raises BadSurroundings."""
    ring, errors = _library()
    try:
        ring.set_password(_SERVICE, _entry(key), encode(TextKind.SECRET_KEY, seed))
    except errors.KeyringError as error:
        raise _refused(error) from None


def take(key: VerifyingKey) -> bytes:
    """The seed of that key. Raises BadConfiguration where it is not there, and BadSurroundings."""
    ring, errors = _library()
    try:
        text = ring.get_password(_SERVICE, _entry(key))
    except errors.KeyringError as error:
        raise _refused(error) from None
    if text is None:
        raise BadConfiguration("the key ring holds no key for this perimeter any more: join again with a new invite")
    try:
        return decode_key(TextKind.SECRET_KEY, str(text))
    except BadText as error:
        raise BadConfiguration(f"the key in the key ring is damaged ({error}): join again with a new invite") from None


def remove(key: VerifyingKey) -> None:
    """Delete the seed of that key, if it is there. Raises BadSurroundings."""
    ring, errors = _library()
    try:
        if ring.get_password(_SERVICE, _entry(key)) is not None:
            ring.delete_password(_SERVICE, _entry(key))
    except errors.KeyringError as error:
        raise _refused(error) from None


def _entry(key: VerifyingKey) -> str:
    return encode(TextKind.DEVICE, key.to_bytes())


def _library() -> tuple[ModuleType, ModuleType]:
    try:
        import keyring
        import keyring.errors
    except ImportError:
        raise BadSurroundings("the key ring needs a library: pip install 'spa-perimeter[keyring]'") from None
    return keyring, keyring.errors


def _refused(error: Exception) -> BadSurroundings:
    reason = " ".join(str(error).split()) or type(error).__name__
    return BadSurroundings(f"the key ring cannot be used: {reason}")
