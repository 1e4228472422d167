"""Bodies field by field (docs/protocol.md, 4.2), for the second reading. It imports no line of the project."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

Address = IPv4Address | IPv6Address


class Refused(Exception):
    """The document says that this must be refused."""


def require(condition: object, reason: str) -> None:
    """Refuse unless the condition holds."""
    if not condition:
        raise Refused(reason)


class Fields:
    """A body read field by field (4.2)."""

    def __init__(self, body: bytes, message_type: int) -> None:
        require(len(body) == 400 and body[:3] == bytes([1, message_type, 1]), "head")
        self.rest = body[3:]

    def take(self, size: int) -> bytes:
        require(size <= len(self.rest), "past the end")
        value, self.rest = self.rest[:size], self.rest[size:]
        return value

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "big")

    def text(self) -> str:
        value = self.take(self.number(1))
        require(value.isascii(), "not ASCII")
        return value.decode("ascii")

    def address(self) -> Address | None:
        family, value = self.number(1), self.take(16)
        require(family in (0, 4, 6), "family")
        require(family != 4 or value[4:] == bytes(12), "IPv4 filler")
        require(family != 0 or value == bytes(16), "no address, yet bytes")
        require(family != 6 or value[:12] != bytes(10) + b"\xff\xff", "IPv4-mapped")
        if family == 6:
            return IPv6Address(value)
        return IPv4Address(value[:4]) if family == 4 else None

    def end(self) -> None:
        require(self.rest == bytes(len(self.rest)), "padding")


def write_text(value: str) -> bytes:
    return bytes([len(value)]) + value.encode("ascii")


def write_address(value: Address | None) -> bytes:
    return bytes([value.version if value else 0]) + (value.packed if value else b"").ljust(16, b"\0")


def write_body(message_type: int, fields: bytes) -> bytes:
    return (bytes([1, message_type, 1]) + fields).ljust(400, b"\0")
