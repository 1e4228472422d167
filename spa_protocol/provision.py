"""The provision: what a device needs whose key the server's operator was given, as one line of JSON (docs/clients.md).

Where an invite lets a device bring a key of its own, here the key was known before: `spa-server device add` writes the
line, `spa-client join -` reads it. Keys and secrets stand in it in their text forms, so damage is noticed.
It must not know how the line gets from one to the other; it holds a secret.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from spa_protocol.keys import KEY_SIZE
from spa_protocol.names import is_label
from spa_protocol.place import Place
from spa_protocol.signature import VerifyingKey
from spa_protocol.text import BadText, TextKind, decode_key, decode_verifying_key, encode


@dataclass(frozen=True, slots=True)
class Provision:
    """What the line holds.

    `label`: what the server calls the device. `key`: its public key; the private half is where it was before.
    `gate_secret`: 32 bytes, or None where whoever made it has not told it again. `server_identity`: the server's
    Ed25519 public key. `place`: where the server is.
    """

    label: str
    key: VerifyingKey
    gate_secret: bytes | None = field(repr=False)
    server_identity: bytes
    place: Place

    def text(self) -> str:
        """The one line; raises ValueError for what it cannot say."""
        self.key.check()
        if not is_label(self.label) or len(self.server_identity) != KEY_SIZE:
            raise ValueError("a provision names a device and its server")
        self.place.check()
        secret = None if self.gate_secret is None else encode(TextKind.GATE_SECRET, self.gate_secret)
        return json.dumps(
            {
                "label": self.label,
                "public_key": encode(TextKind.DEVICE, self.key.to_bytes()),
                "gate_secret": secret,
                "server_identity": encode(TextKind.SERVER, self.server_identity),
                "hosts": list(self.place.hosts),
                "knock_ports": list(self.place.knock_ports),
            }
        )

    @classmethod
    def parse(cls, text: str) -> Provision:
        """The provision in a text; raises BadText with a sentence for whoever handed it over."""
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            raise BadText("this is not the line of JSON that spa-server device add printed") from None
        if not isinstance(value, dict):
            raise BadText("this is not the line of JSON that spa-server device add printed")
        reader = _Reader(value)
        label = reader.text("label")
        if not is_label(label):
            raise BadText("its label is not a device's name")
        ports, hosts = reader.list_of("knock_ports", int), reader.list_of("hosts", str)
        place = Place(ports, hosts)
        try:
            place.check()
        except ValueError as error:
            raise BadText(f"it names no usable server ({error})") from None
        secret = None if value.get("gate_secret") is None else reader.key("gate_secret", TextKind.GATE_SECRET)
        return cls(
            label,
            decode_verifying_key(reader.text("public_key")),
            secret,
            reader.key("server_identity", TextKind.SERVER),
            place,
        )


class _Reader:
    """Takes typed values out of an object."""

    def __init__(self, value: dict[str, Any]) -> None:
        self._value = value

    def text(self, name: str) -> str:
        value = self._value.get(name)
        if not isinstance(value, str):
            raise BadText(f"there is no {name} in it; copy the whole line again")
        return value

    def key(self, name: str, kind: TextKind) -> bytes:
        return decode_key(kind, self.text(name))

    def list_of(self, name: str, kind: type) -> tuple[Any, ...]:
        value = self._value.get(name)
        if not isinstance(value, list) or not all(type(each) is kind for each in value):
            raise BadText(f"there is no list of {name} in it; copy the whole line again")
        return tuple(value)
