"""Fields and bodies (docs/protocol.md, 4.2 and 4.3), for the second reading. It imports no line of the project."""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv6Address

Address = IPv4Address | IPv6Address


class Refused(Exception):
    """The document says that this must be refused."""


def require(condition: object, reason: str) -> None:
    """Refuse unless the condition holds."""
    if not condition:
        raise Refused(reason)


class Fields:
    """Bytes read field by field."""

    def __init__(self, data: bytes) -> None:
        self.rest = data

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

    def services(self, fewest: int, most: int) -> tuple[str, ...]:
        """A number of services and their names, none twice."""
        count = self.number(1)
        require(fewest <= count <= most, "number of services")
        names = tuple(self.text() for _ in range(count))
        require(all(map(is_service, names)) and len(set(names)) == count, "service names")
        return names

    def address(self) -> Address | None:
        family, value = self.number(1), self.take(16)
        require(family in (0, 4, 6), "family")
        require(family != 4 or value[4:] == bytes(12), "IPv4 filler")
        require(family != 0 or value == bytes(16), "no address, yet bytes")
        require(family != 6 or value[:12] != bytes(10) + b"\xff\xff", "IPv4-mapped")
        if family == 6:
            return IPv6Address(value)
        return IPv4Address(value[:4]) if family == 4 else None

    def zeros(self) -> None:
        """Nothing but zeros is left."""
        require(self.rest == bytes(len(self.rest)), "padding")


def read_body(body: bytes, message_type: int, kind: int) -> Fields:
    """The fields of a body, as it was signed."""
    require(len(body) == 400 and body[:3] == bytes([1, message_type, kind]), "head")
    require(body[395:] == bytes(5), "the last 5 bytes")
    return Fields(body[3:395])


def is_service(name: str) -> bool:
    return re.fullmatch("[a-z][a-z0-9-]{0,23}", name) is not None


def is_label(name: str) -> bool:
    return re.fullmatch("[A-Za-z0-9][A-Za-z0-9._-]{0,62}", name) is not None


def is_delegate(name: str) -> bool:
    return re.fullmatch("[A-Za-z0-9][A-Za-z0-9._-]{0,23}", name) is not None


def write_text(value: str) -> bytes:
    return bytes([len(value)]) + value.encode("ascii")


def write_services(names: tuple[str, ...]) -> bytes:
    return bytes([len(names)]) + b"".join(map(write_text, names))


def write_address(value: Address | None) -> bytes:
    return bytes([value.version if value else 0]) + (value.packed if value else b"").ljust(16, b"\0")


def write_body(message_type: int, kind: int, fields: bytes) -> bytes:
    """A body as it is signed."""
    return (bytes([1, message_type, kind]) + fields).ljust(400, b"\0")
