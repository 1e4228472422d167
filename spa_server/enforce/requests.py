"""What the network process may ask of the firewall process, as messages on a SOCK_SEQPACKET socket.

Fixed layouts, big-endian, one message a packet. Both processes import this, so it must import nothing else of
`enforce` but `held`: no kernel code reaches the process that reads packets from strangers.

    request   kind u8 | zero u8 | count u16 | sequence u32 | ...
      ARM       timeout_ms u32 | count x tag (8)
      DISARM    count x tag (8)
      OPEN      family u8 | label length u8 | not after ms u64 | digest (8) | source (16) | destination (16)
                | label (88) | count x (service u16 | seconds u32)
      CLOSE     the same; every seconds is 0
      RELOAD    digest (8)
      COUNTERS  nothing
      REVOKE    digest (8) | count x what is held (`held`)
      LOOK      final u8 | digest (8) | count x what is held
    answer    status u8 | zero u8 | count u16 | sequence u32 | count x number u64

A digest (`spa_server.digest`) says by which configuration the services are numbered. Requests have sequences from 1;
an answer of sequence 0 answers nothing: with status DISARMED it says that the kernel holds no tag any more.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from ipaddress import ip_address

from spa_server.digest import DIGEST_LENGTH
from spa_server.enforce.held import Held, packed_held, unpack_held
from spa_server.service import Address

MAX_TAGS = 4096
MAX_SERVICES = 32
TAG_LENGTH = 8
MAX_LABEL_LENGTH = 88
"""A device's label, '+' and a delegate's name."""
ADDRESS_LENGTHS = {4: 4, 6: 16}
MESSAGE_LARGEST = 65536
"""Bytes to read: no message is as long, so a longer one is cut and does not parse."""

_head = struct.Struct("!BBHI")
_timeout = struct.Struct("!I")
_open = struct.Struct("!BBQ8s16s16s88s")
_wanted = struct.Struct("!HI")
_number = struct.Struct("!Q")


class Malformed(ValueError):
    """Bytes that are no message of this format."""


class Kind(IntEnum):
    """What is asked."""

    ARM = 1
    DISARM = 2
    OPEN = 3
    RELOAD = 4
    COUNTERS = 5
    CLOSE = 6
    REVOKE = 7
    """One that is older than a kind refuses it, as it does everything that it does not know."""
    LOOK = 8


class Status(IntEnum):
    """How a request ended."""

    DONE = 0
    REFUSED = 1
    """The firewall process's own configuration does not allow it."""
    FAILED = 2
    """The kernel did not do it, or the configuration is not to be had; nothing was changed."""
    STALE = 3
    """The request's digest is not that of the firewall process's configuration."""
    DISARMED = 4
    """No answer but word by itself, with sequence 0: every tag is gone from the kernel and has to be armed again."""


@dataclass(frozen=True, slots=True)
class Arm:
    """Let each tag admit one datagram within `timeout_ms`."""

    sequence: int
    timeout_ms: int
    tags: tuple[bytes, ...]

    def pack(self) -> bytes:
        return (
            _packed_head(Kind.ARM, len(self.tags), self.sequence) + _timeout.pack(self.timeout_ms) + b"".join(self.tags)
        )


@dataclass(frozen=True, slots=True)
class Disarm:
    """Take tags back."""

    sequence: int
    tags: tuple[bytes, ...]

    def pack(self) -> bytes:
        return _packed_head(Kind.DISARM, len(self.tags), self.sequence) + b"".join(self.tags)


@dataclass(frozen=True, slots=True)
class Wanted:
    """One service, by its place in the configuration, and for how many seconds."""

    service: int
    seconds: int


@dataclass(frozen=True, slots=True)
class Open:
    """Open services to `source`; `destination` is the address that the knock came to.

    `not_after_ms`: time on CLOCK_MONOTONIC, which all processes share, after which it is too late: whoever asked has
    told the device by then that nothing was opened.
    """

    sequence: int
    not_after_ms: int
    digest: bytes
    source: Address
    destination: Address
    label: str
    wanted: tuple[Wanted, ...]

    def pack(self) -> bytes:
        return _packed_leases(Kind.OPEN, self, ((each.service, each.seconds) for each in self.wanted))


@dataclass(frozen=True, slots=True)
class Close:
    """Take back the leases on these services, by their place in the configuration, that the label has at the source.

    `not_after_ms` as in an Open: a device that was told that nothing was closed may have opened anew by then.
    """

    sequence: int
    not_after_ms: int
    digest: bytes
    source: Address
    destination: Address
    label: str
    services: tuple[int, ...]

    def pack(self) -> bytes:
        return _packed_leases(Kind.CLOSE, self, ((service, 0) for service in self.services))


@dataclass(frozen=True, slots=True)
class Reload:
    """Read the configuration anew and, if its digest is this one, apply it: live leases stay."""

    sequence: int
    digest: bytes

    def pack(self) -> bytes:
        return _packed_head(Kind.RELOAD, 0, self.sequence) + self.digest


@dataclass(frozen=True, slots=True)
class Counters:
    """What has the perimeter counted.

    Answered with the datagrams that the knock ports admitted and dropped, then for each service in the order of the
    configuration the packets admitted, the packets dropped, and how many (device, source) hold a lease on it now.
    """

    sequence: int

    def pack(self) -> bytes:
        return _packed_head(Kind.COUNTERS, 0, self.sequence)


@dataclass(frozen=True, slots=True)
class Revoke:
    """Take from each label what it holds, at once and whatever its time: the lease, and every flow it let in.

    It bears no time after which it is too late: taking away late is taking away.
    """

    sequence: int
    digest: bytes
    held: tuple[Held, ...]

    def pack(self) -> bytes:
        return _packed_head(Kind.REVOKE, len(self.held), self.sequence) + self.digest + packed_held(self.held)


@dataclass(frozen=True, slots=True)
class Look:
    """What is left of what each label holds, and what went through. `final`: of this it is not asked again."""

    sequence: int
    digest: bytes
    held: tuple[Held, ...]
    final: bool

    def pack(self) -> bytes:
        head = _packed_head(Kind.LOOK, len(self.held), self.sequence)
        return head + bytes([self.final]) + self.digest + packed_held(self.held)


Request = Arm | Disarm | Open | Close | Reload | Counters | Revoke | Look


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to the request of the same sequence.

    `numbers` of an OPEN: the whole seconds left of each service, in the order asked; of a CLOSE: how many leases of
    each were ended; of COUNTERS: as said there; of a REVOKE: how many leases of each were taken from its label, in the
    order named, and at last how many flows and sockets were ended in all; of a LOOK: first whether the kernel counts
    (1 or 0), then of each the ms left of the label's own lease, the flows there are, and the packets and bytes in and
    the packets and bytes out.
    """

    sequence: int
    status: Status
    numbers: tuple[int, ...] = ()

    def pack(self) -> bytes:
        head = _packed_head(self.status, len(self.numbers), self.sequence)
        return head + b"".join(map(_number.pack, self.numbers))

    @staticmethod
    def unpack(data: bytes) -> Answer:
        """Raises Malformed."""
        kind, count, sequence, rest = _split(data)
        if kind not in Status.__members__.values() or len(rest) != count * _number.size:
            raise Malformed("not an answer")
        return Answer(sequence, Status(kind), tuple(number for (number,) in _number.iter_unpack(rest)))


def unpack_request(data: bytes) -> Request:
    """The request that `data` is; raises Malformed."""
    kind, count, sequence, rest = _split(data)
    if kind == Kind.ARM:
        if len(rest) < _timeout.size:
            raise Malformed("an ARM without its timeout")
        (timeout_ms,) = _timeout.unpack_from(rest)
        return Arm(sequence, timeout_ms, _tags(rest[_timeout.size :], count))
    if kind == Kind.DISARM:
        return Disarm(sequence, _tags(rest, count))
    if kind == Kind.OPEN:
        return _unpack_open(sequence, count, rest)
    if kind == Kind.CLOSE:
        return _unpack_close(sequence, count, rest)
    if kind == Kind.RELOAD:
        if count or len(rest) != DIGEST_LENGTH:
            raise Malformed("a RELOAD of another length than a digest")
        return Reload(sequence, rest)
    if kind == Kind.COUNTERS:
        if count or rest:
            raise Malformed("COUNTERS with more than a head")
        return Counters(sequence)
    if kind == Kind.REVOKE:
        return Revoke(sequence, *_digest_and_held(rest, count))
    if kind == Kind.LOOK:
        if rest[:1] not in (b"\0", b"\1"):
            raise Malformed("a LOOK that is neither final nor not")
        return Look(sequence, *_digest_and_held(rest[1:], count), rest[0] == 1)
    raise Malformed(f"request of unknown kind {kind}")


def sequence_of(data: bytes) -> int:
    """The sequence of a message, 0 if it is too short to have one: for answering what does not parse."""
    return int.from_bytes(data[4:8], "big") if len(data) >= _head.size else 0


def _unpack_open(sequence: int, count: int, rest: bytes) -> Open:
    if count > MAX_SERVICES or len(rest) != _open.size + count * _wanted.size:
        raise Malformed("an OPEN of another length than its count says")
    version, label_length, not_after_ms, digest, source, destination, label = _open.unpack_from(rest)
    if version not in ADDRESS_LENGTHS or label_length > MAX_LABEL_LENGTH or any(label[label_length:]):
        raise Malformed("an OPEN with a family or label that there is not")
    try:
        text = label[:label_length].decode("ascii")
    except UnicodeDecodeError as error:
        raise Malformed("a label that is not ASCII") from error
    wanted = tuple(Wanted(service, seconds) for service, seconds in _wanted.iter_unpack(rest[_open.size :]))
    ends = _address(version, source), _address(version, destination)
    return Open(sequence, not_after_ms, digest, *ends, text, wanted)


def _unpack_close(sequence: int, count: int, rest: bytes) -> Close:
    asked = _unpack_open(sequence, count, rest)
    if any(each.seconds for each in asked.wanted):
        raise Malformed("a CLOSE with seconds")
    services = tuple(each.service for each in asked.wanted)
    return Close(sequence, asked.not_after_ms, asked.digest, asked.source, asked.destination, asked.label, services)


def _digest_and_held(rest: bytes, count: int) -> tuple[bytes, tuple[Held, ...]]:
    if len(rest) < DIGEST_LENGTH:
        raise Malformed("what is held, without a digest")
    try:
        return rest[:DIGEST_LENGTH], unpack_held(rest[DIGEST_LENGTH:], count)
    except ValueError as error:
        raise Malformed(f"what is held: {error}") from error


def _packed_leases(kind: Kind, asked: Open | Close, items: Iterable[tuple[int, int]]) -> bytes:
    label, wanted = asked.label.encode("ascii"), [_wanted.pack(*each) for each in items]
    fixed = _open.pack(
        asked.source.version,
        len(label),
        asked.not_after_ms,
        asked.digest,
        asked.source.packed,
        asked.destination.packed,
        label,
    )
    return _packed_head(kind, len(wanted), asked.sequence) + fixed + b"".join(wanted)


def _address(version: int, packed: bytes) -> Address:
    length = ADDRESS_LENGTHS[version]
    if any(packed[length:]):
        raise Malformed("an address longer than its family")
    return ip_address(packed[:length])


def _tags(data: bytes, count: int) -> tuple[bytes, ...]:
    if count > MAX_TAGS or len(data) != count * TAG_LENGTH:
        raise Malformed("tags of another length than their count says")
    return tuple(data[at : at + TAG_LENGTH] for at in range(0, len(data), TAG_LENGTH))


def _packed_head(kind: int, count: int, sequence: int) -> bytes:
    return _head.pack(kind, 0, count, sequence)


def _split(data: bytes) -> tuple[int, int, int, bytes]:
    if len(data) < _head.size:
        raise Malformed("shorter than a message's head")
    kind, zero, count, sequence = _head.unpack_from(data)
    if zero:
        raise Malformed("a reserved byte is not zero")
    return kind, count, sequence, data[_head.size :]
