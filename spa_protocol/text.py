"""Keys and invites as text: a readable prefix, the data, a checksum (docs/protocol.md, section 8.1).

The form is Bech32m (BIP 350) without its limit of 90 characters, as age uses Bech32: lower case, or wholly upper case,
which secrets are shown in and which makes QR codes small. Well-kept libraries enforce the 90 characters, so the 40
lines are here. Its checksum finds any error in up to three characters of texts this long.
"""

from __future__ import annotations

from enum import Enum

from spa_protocol.signature import VerifyingKey

_CHARSET = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
_VALUES = {character: value for value, character in enumerate(_CHARSET)}
_GENERATOR = (0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)
_BECH32M = 0x2BC830A3
_CHECKSUM_SIZE = 6
MAX_TEXT = 1000


class TextKind(Enum):
    """The prefix of a text, which says what it holds, and whether it is a secret (shown in upper case)."""

    DEVICE = "spa-device", False
    SERVER = "spa-server", False
    INVITE = "spa-invite", False
    SECRET_KEY = "spa-secret-key", True
    GATE_SECRET = "spa-gate-secret", True
    DELEGATION = "spa-delegation", True

    def __init__(self, prefix: str, secret: bool) -> None:
        self.prefix = prefix
        self.secret = secret


class BadText(ValueError):
    """A text that is not what it should be; the message says what is wrong, never what a secret text held."""


def encode(kind: TextKind, data: bytes) -> str:
    """The text of some bytes; raises ValueError where it would be too long to be read back."""
    values = _regroup(data, 8, 5, pad=True)
    if values is None:
        raise AssertionError("padding always fits")
    polymod = _polymod(_expand(kind.prefix) + values + [0] * _CHECKSUM_SIZE) ^ _BECH32M
    checksum = [polymod >> 5 * (_CHECKSUM_SIZE - 1 - i) & 31 for i in range(_CHECKSUM_SIZE)]
    text = kind.prefix + "1" + "".join(_CHARSET[value] for value in values + checksum)
    if len(text) > MAX_TEXT:
        raise ValueError(f"it takes {len(text)} characters; a text has at most {MAX_TEXT}")
    return text.upper() if kind.secret else text


def decode(kind: TextKind, text: str) -> bytes:
    """The bytes of a text of that kind; raises BadText for any other text."""
    expected = f"a text that starts with {kind.prefix}1"
    if len(text) > MAX_TEXT or not text.isascii() or (text != text.lower() and text != text.upper()):
        raise BadText(f"this is not {expected}: it is too long, or mixes upper and lower case")
    prefix, separator, data = text.lower().rpartition("1")
    if not separator or prefix != kind.prefix:
        raise BadText(f"this is not {expected}")
    try:
        values = [_VALUES[character] for character in data]
    except KeyError as error:
        raise BadText(f"the character {error.args[0]!r} does not belong in it; copy the whole text again") from None
    if len(values) < _CHECKSUM_SIZE or _polymod(_expand(prefix) + values) != _BECH32M:
        raise BadText("its checksum is wrong: some of it was lost or changed; copy the whole text again")
    decoded = _regroup(bytes(values[:-_CHECKSUM_SIZE]), 5, 8, pad=False)
    if decoded is None:
        raise BadText("its length is wrong; copy the whole text again")
    return bytes(decoded)


def decode_key(kind: TextKind, text: str) -> bytes:
    """The 32 bytes of a key's text; raises BadText."""
    data = decode(kind, text.strip())
    if len(data) != 32:
        raise BadText(f"a {kind.prefix} text holds 32 bytes, this one {len(data)}")
    return data


def decode_verifying_key(text: str) -> VerifyingKey:
    """The public key of a device's text; raises BadText."""
    try:
        return VerifyingKey.from_bytes(decode(TextKind.DEVICE, text.strip()))
    except BadText:
        raise
    except ValueError as error:
        raise BadText(f"a {TextKind.DEVICE.prefix} text holds a public key: {error}") from None


def _expand(prefix: str) -> list[int]:
    codes = prefix.encode("ascii")
    return [code >> 5 for code in codes] + [0] + [code & 31 for code in codes]


def _polymod(values: list[int]) -> int:
    checksum = 1
    for value in values:
        top = checksum >> 25
        checksum = (checksum & 0x1FFFFFF) << 5 ^ value
        for bit, generator in enumerate(_GENERATOR):
            if top >> bit & 1:
                checksum ^= generator
    return checksum


def _regroup(data: bytes, from_bits: int, to_bits: int, *, pad: bool) -> list[int] | None:
    """Bits in other groups; None when left-over bits are more than padding or not zero."""
    accumulator = bits = 0
    groups: list[int] = []
    for value in data:
        accumulator = (accumulator << from_bits | value) & 0xFFF
        bits += from_bits
        while bits >= to_bits:
            bits -= to_bits
            groups.append(accumulator >> bits & (1 << to_bits) - 1)
    rest = accumulator & (1 << bits) - 1
    if pad:
        return [*groups, rest << to_bits - bits] if bits else groups
    return None if bits >= from_bits or rest else groups
