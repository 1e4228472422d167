"""What ties each record of the audit trail to the one before it: a chain of hashes, and signatures over it.

A record's `hash` is the SHA-256, in hexadecimal, of the record without it in canonical JSON (RFC 8785), and its `prev`
is the hash of the record before. So nothing can be changed, taken out or put in without another hash in every record
after it; what was signed, or told to a client, then says which chain was there first. It must not know files or clocks.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple, TypeGuard

from spa_protocol.keys import verify
from spa_server.tell import ecs

NO_HASH = "0" * 64
"""`prev` of the very first record."""
_CHECKPOINT = b"spa-perimeter v1 audit checkpoint\0"
_HASH = re.compile(r"[0-9a-f]{64}")
_MEMBER = b',"hash":"'
_EMPTY = _MEMBER + b'"'
_MEMBER_SIZE = len(_MEMBER) + 64 + 1

Signer = Callable[[bytes], bytes]
"""Makes the Ed25519 signature of a message."""


class Link(NamedTuple):
    """A line of the trail, read.

    `hash`: what it says its own is; None in a record from before there was a chain. `is_intact`: whether it is.
    """

    seq: int
    hash: str | None
    prev: str
    is_intact: bool
    told: dict[str, object]

    @property
    def action(self) -> str:
        """What kind of event it tells."""
        event = self.told.get("event")
        return str(event.get("action", "")) if isinstance(event, dict) else ""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """That the trail had come to this record at that time, signed by the server."""

    seq: int
    hash: str
    time_ms: int
    signature: bytes

    @classmethod
    def signed(cls, seq: int, hash_: str, time_ms: int, signer: Signer) -> Checkpoint:
        """The checkpoint, under its signature."""
        return cls(seq, hash_, time_ms, signer(_message(seq, hash_, time_ms)))

    @classmethod
    def of(cls, told: Mapping[str, object]) -> Checkpoint | None:
        """What a record says; None where it says none."""
        own = told.get("spa")
        said = own.get("checkpoint") if isinstance(own, dict) else None
        if not isinstance(said, dict):
            return None
        seq, hash_, time_ms, signature = (said.get(name) for name in ("seq", "hash", "time_ms", "signature"))
        if not isinstance(hash_, str) or not isinstance(signature, str) or not _HASH.fullmatch(hash_):
            return None
        if not _is_number(seq) or not _is_number(time_ms):
            return None
        try:
            return cls(seq, hash_, time_ms, bytes.fromhex(signature))
        except ValueError:
            return None

    def told(self) -> dict[str, object]:
        """As a record says it."""
        return {"hash": self.hash, "seq": self.seq, "signature": self.signature.hex(), "time_ms": self.time_ms}

    def is_signed_by(self, key: bytes) -> bool:
        """Whether the holder of that Ed25519 key signed it."""
        return len(self.signature) == 64 and verify(key, _message(self.seq, self.hash, self.time_ms), self.signature)


def sealed(told: Mapping[str, object], seq: int, prev: str) -> tuple[bytes, str]:
    """The line that says it as record `seq` after the one of hash `prev`, its end included; and its own hash."""
    text = ecs.canonical({**told, "hash": "", "prev": prev, "seq": seq})
    # Quotes within texts are escaped, and nothing that sorts before it has a member of that name: it is the first.
    before, _, after = text.partition(_EMPTY)
    digest = hashlib.sha256(before + after).hexdigest()
    return b'%b%b%b"%b\n' % (before, _MEMBER, digest.encode(), after), digest


def link(line: bytes) -> Link | None:
    """What a line, without its end, says; None for what is no record."""
    try:
        told = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(told, dict):
        return None
    seq, hash_, prev = told.get("seq"), told.get("hash"), told.get("prev")
    if not _is_number(seq):
        return None
    if not isinstance(hash_, str) or not isinstance(prev, str) or not _HASH.fullmatch(hash_):
        return Link(seq, None, "", False, told)
    start = line.find(_MEMBER)
    rest = line[:start] + line[start + _MEMBER_SIZE :]
    is_intact = line.startswith(hash_.encode(), start + len(_MEMBER)) and hashlib.sha256(rest).hexdigest() == hash_
    return Link(seq, hash_, prev, start >= 0 and is_intact, told)


def digest(line: bytes) -> str:
    """The hash of a line from before there was a chain."""
    return hashlib.sha256(line).hexdigest()


def _message(seq: int, hash_: str, time_ms: int) -> bytes:
    return _CHECKPOINT + seq.to_bytes(8, "big") + bytes.fromhex(hash_) + max(0, time_ms).to_bytes(8, "big")


def _is_number(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 53
