"""The invite: all that a new device needs, in one line of text (docs/protocol.md, section 8.2)."""

from __future__ import annotations

from dataclasses import dataclass, field

from spa_protocol.body import FieldReader, FieldWriter, MalformedBody
from spa_protocol.keys import KEY_SIZE
from spa_protocol.place import Place
from spa_protocol.text import BadText, TextKind, decode, encode

INVITE_VERSION = 1


@dataclass(frozen=True, slots=True)
class Invite:
    """What an invite's text holds.

    `secret`: the one-time gate secret of the enrolment. `server_identity`: the server's Ed25519 public key. `exchange`:
    the server's X25519 public value for this invite alone. `expires_s`: UTC seconds since 1970. `knock_ports` and
    `hosts`: see `Place`.
    """

    secret: bytes = field(repr=False)
    server_identity: bytes
    exchange: bytes
    expires_s: int
    knock_ports: tuple[int, ...]
    hosts: tuple[str, ...]

    def text(self) -> str:
        """The invite's one line; raises ValueError for what it cannot say."""
        if {len(self.secret), len(self.server_identity), len(self.exchange)} != {KEY_SIZE}:
            raise ValueError(f"an invite holds three values of {KEY_SIZE} bytes")
        writer = FieldWriter(bytes([INVITE_VERSION]) + self.secret + self.server_identity + self.exchange)
        writer.number(self.expires_s, 8)
        Place(self.knock_ports, self.hosts).write(writer)
        return encode(TextKind.INVITE, writer.written())

    @classmethod
    def parse(cls, text: str) -> Invite:
        """The invite in a text; raises BadText with a sentence for whoever pasted it."""
        data = decode(TextKind.INVITE, text.strip())
        if not data or data[0] != INVITE_VERSION:
            raise BadText("the invite is of another version; upgrade spa-perimeter on the older side")
        reader = FieldReader(data, 1, len(data))
        try:
            secret, identity, exchange = (reader.raw(KEY_SIZE) for _ in range(3))
            expires_s, place = reader.number(8), Place.read(reader)
        except MalformedBody as error:
            raise BadText(f"the invite names no usable server ({error})") from None
        return cls(secret, identity, exchange, expires_s, place.knock_ports, place.hosts)
