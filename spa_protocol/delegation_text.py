"""A delegation as text: all that a delegate needs, in one secret line (docs/protocol.md, section 8.3)."""

from __future__ import annotations

from dataclasses import dataclass, field

from spa_protocol.body import FieldReader, FieldWriter, MalformedBody
from spa_protocol.delegation import Certificate
from spa_protocol.keys import KEY_SIZE, public_key
from spa_protocol.names import is_label
from spa_protocol.place import Place
from spa_protocol.text import BadText, TextKind, decode, encode

DELEGATION_VERSION = 1


@dataclass(frozen=True, slots=True)
class Delegation:
    """What a delegation's text holds.

    `seed`: the delegate's Ed25519 seed. `gate_secret`: that of the device's delegates. `server_identity`: the server's
    Ed25519 public key. `label`: the device that delegates. `knock_ports` and `hosts`: see `Place`.
    """

    seed: bytes = field(repr=False)
    gate_secret: bytes = field(repr=False)
    server_identity: bytes
    certificate: Certificate
    label: str
    knock_ports: tuple[int, ...]
    hosts: tuple[str, ...]

    def text(self) -> str:
        """The one line; raises ValueError for what it cannot say."""
        if {len(self.seed), len(self.gate_secret), len(self.server_identity)} != {KEY_SIZE}:
            raise ValueError(f"a delegation holds three values of {KEY_SIZE} bytes")
        if public_key(self.seed) != self.certificate.key or not is_label(self.label):
            raise ValueError("a delegation holds the seed of its certificate's key, and a device's label")
        writer = FieldWriter(bytes([DELEGATION_VERSION]) + self.seed + self.gate_secret + self.server_identity)
        self.certificate.write(writer)
        writer.text(self.label)
        Place(self.knock_ports, self.hosts).write(writer)
        return encode(TextKind.DELEGATION, writer.written())

    @classmethod
    def parse(cls, text: str) -> Delegation:
        """The delegation in a text; raises BadText with a sentence for whoever pasted it."""
        data = decode(TextKind.DELEGATION, text.strip())
        if not data or data[0] != DELEGATION_VERSION:
            raise BadText("the delegation is of another version; upgrade spa-perimeter on the older side")
        reader = FieldReader(data, 1, len(data))
        try:
            seed, gate_secret, identity = (reader.raw(KEY_SIZE) for _ in range(3))
            certificate, label, place = Certificate.read(reader), reader.text(), Place.read(reader)
        except MalformedBody as error:
            raise BadText(f"the delegation cannot be used ({error})") from None
        if public_key(seed) != certificate.key or not is_label(label):
            raise BadText("the delegation's key is not the one that was delegated to")
        return cls(seed, gate_secret, identity, certificate, label, place.knock_ports, place.hosts)
