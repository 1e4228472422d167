"""Fields of a body, written and read in one strict way (docs/protocol.md, section 4.2).

Numbers are unsigned and big-endian; a text is a length byte and that many ASCII bytes; an address is a family byte
(0 none, 4, 6) and 16 bytes, an IPv4 address in the first 4. Fields end before the last 5 bytes, and all that is left of
the 400 is zero. Reading what was written gives the same values, and no other bytes give them.

The third byte, the signature kind, is the envelope's: it is written as that of a plain key, and whoever seals puts in
what the signer's key is (`seal`).
"""

from __future__ import annotations

from enum import Enum
from ipaddress import IPv4Address, IPv6Address

from spa_protocol.seal import BODY_SIZE
from spa_protocol.signature import PROOF_SIZE, SignatureKind

VERSION = 1
_ROOM = BODY_SIZE - PROOF_SIZE
_KIND = SignatureKind.ED25519.value

Address = IPv4Address | IPv6Address


class MessageType(Enum):
    """The second byte of every body."""

    KNOCK = 1
    ENROLMENT = 2
    ANSWER = 3


class MalformedBody(ValueError):
    """A body that breaks a rule; the message says which."""


def body_head(body: bytes) -> tuple[int, int, int]:
    """(version, message type, signature kind) of a body, unchecked."""
    return body[0], body[1], body[2]


class FieldWriter:
    """Collects fields."""

    def __init__(self, head: bytes = b"") -> None:
        self._bytes = bytearray(head)

    def number(self, value: int, size: int) -> None:
        """An unsigned number of `size` bytes; raises ValueError where it does not fit."""
        if not 0 <= value < 1 << 8 * size:
            raise ValueError(f"{value} does not fit in {size} bytes")
        self._bytes += value.to_bytes(size, "big")

    def raw(self, value: bytes) -> None:
        """Bytes whose length the reader knows."""
        self._bytes += value

    def text(self, value: str) -> None:
        """A length byte and ASCII text."""
        encoded = value.encode("ascii")
        self.number(len(encoded), 1)
        self._bytes += encoded

    def address(self, value: Address | None) -> None:
        """A family byte and 16 bytes; raises ValueError for a zone or an IPv4-mapped address, which have no form."""
        if isinstance(value, IPv6Address) and (value.scope_id is not None or value.ipv4_mapped is not None):
            raise ValueError(f"{value} cannot be said: no zone, and an IPv4 address as one")
        self.number(value.version if value else 0, 1)
        self._bytes += (value.packed if value else b"").ljust(16, b"\0")

    def written(self) -> bytes:
        """All that was written."""
        return bytes(self._bytes)


class BodyWriter(FieldWriter):
    """Collects a body's fields and pads them to the one size."""

    def __init__(self, message: MessageType) -> None:
        super().__init__(bytes((VERSION, message.value, _KIND)))

    def finish(self) -> bytes:
        """The padded body; raises ValueError when the fields do not fit."""
        if len(self._bytes) > _ROOM:
            raise ValueError(f"the fields take {len(self._bytes)} bytes of {_ROOM}")
        return bytes(self._bytes).ljust(BODY_SIZE, b"\0")


class FieldReader:
    """Reads fields in order, up to `end`; every rule broken raises MalformedBody."""

    def __init__(self, data: bytes, at: int, end: int) -> None:
        self._data = data
        self._at = at
        self._end = end

    def raw(self, size: int) -> bytes:
        """The next `size` bytes."""
        end = self._at + size
        if end > self._end:
            raise MalformedBody("a field runs past the end")
        value = self._data[self._at : end]
        self._at = end
        return value

    def number(self, size: int) -> int:
        """An unsigned number of `size` bytes."""
        return int.from_bytes(self.raw(size), "big")

    def text(self) -> str:
        """A length byte and ASCII text."""
        try:
            return self.raw(self.number(1)).decode("ascii")
        except UnicodeDecodeError:
            raise MalformedBody("text that is not ASCII") from None

    def address(self) -> Address | None:
        """A family byte and 16 bytes."""
        family, packed = self.number(1), self.raw(16)
        if family == 4 and not any(packed[4:]):
            return IPv4Address(packed[:4])
        if family == 6:
            address = IPv6Address(packed)
            if address.ipv4_mapped is not None:
                raise MalformedBody("an IPv4 address in IPv6 clothes")
            return address
        if family == 0 and not any(packed):
            return None
        raise MalformedBody("address")

    def rest(self) -> bytes:
        """All that is left."""
        return self.raw(self._end - self._at)


class BodyReader(FieldReader):
    """Reads a body's fields."""

    def __init__(self, body: bytes, message: MessageType) -> None:
        if len(body) != BODY_SIZE or body_head(body) != (VERSION, message.value, _KIND):
            raise MalformedBody("head")
        super().__init__(body, 3, _ROOM)

    def finish(self) -> None:
        """Check that only zeros are left."""
        if any(self._data[self._at :]):
            raise MalformedBody("padding that is not zero")
