"""What somebody holds open: whose it is, between which ends, and which service; many of them in one message.

Both processes import this, so it must import nothing else of `enforce`.

    family u8 | label length u8 | service u16 | source (16) | destination (16) | label (88)
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_address

from spa_server.service import Address

MAX_HELD = 512
"""Most in one request."""
_LABEL_LENGTH = 88
_ADDRESS_LENGTHS = {4: 4, 6: 16}

_held = struct.Struct("!BBH16s16s88s")


@dataclass(frozen=True, slots=True)
class Held:
    """One service, by its place in the configuration, that the label was given for this way."""

    label: str
    source: Address
    destination: Address
    service: int

    def pack(self) -> bytes:
        """Raises ValueError where the ends are of two families."""
        if self.source.version != self.destination.version:
            raise ValueError(f"nothing can lead from {self.source} to {self.destination}")
        label = self.label.encode("ascii")
        ends = self.source.packed, self.destination.packed
        return _held.pack(self.source.version, len(label), self.service, *ends, label)


def unpack_held(data: bytes, count: int) -> tuple[Held, ...]:
    """As many as `count` says, and nothing else; raises ValueError."""
    if count > MAX_HELD or len(data) != count * _held.size:
        raise ValueError("another length than the count says")
    return tuple(_unpacked(*fields) for fields in _held.iter_unpack(data))


def packed_held(held: Sequence[Held]) -> bytes:
    """The other way round; raises ValueError."""
    return b"".join(each.pack() for each in held)


def _unpacked(version: int, label_length: int, service: int, source: bytes, destination: bytes, label: bytes) -> Held:
    length = _ADDRESS_LENGTHS.get(version)
    if length is None or label_length > _LABEL_LENGTH or any(label[label_length:]):
        raise ValueError("a family or a label that there is not")
    if any(source[length:]) or any(destination[length:]):
        raise ValueError("an address longer than its family")
    text = label[:label_length].decode("ascii")  # UnicodeDecodeError is a ValueError
    return Held(text, ip_address(source[:length]), ip_address(destination[:length]), service)
