"""A perimeter that this device has joined: where its server is, and the secrets that open it.

Plain values. It must not know where they are stored.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from spa_client.posture.telling import Telling
from spa_client.signing.place import OWN_FILE, KeyPlace
from spa_protocol.answer import AnsweredService
from spa_protocol.delegation import Certificate
from spa_protocol.limits import MIN_SLOTS
from spa_protocol.signature import Signer
from spa_protocol.text import TextKind, encode

USUAL_SLOTS = MIN_SLOTS
"""Slots used of each window until the server has said how many it arms."""
SEEN = "seen"
"""Source: open for the address that the server sees the knock come from."""
LOCAL = "local"
"""Source: name this computer's own address in the signed knock."""

NAME_RULE = "small letters, digits, '_' and '-', at most 63 characters"
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}\Z")


def is_perimeter_name(text: str) -> bool:
    """Whether a text can name a perimeter: small letters, digits, '_' and '-'; it is also a folder's name."""
    return _NAME.match(text) is not None


@dataclass(frozen=True, slots=True)
class KnownService:
    """A service as the server last described it; a port is 0 where the protocol is not served."""

    name: str
    tcp_port: int
    udp_port: int
    needs_signed_source: bool

    @classmethod
    def told(cls, service: AnsweredService) -> KnownService:
        """The lasting part of what an answer says of a service."""
        return cls(service.name, service.tcp_port, service.udp_port, service.needs_signed_source)


@dataclass(frozen=True, slots=True)
class Perimeter:
    """What the device knows of one server.

    `hosts`: names or addresses. `knock_ports`: UDP ports, the usual one first. `server_identity`: the server's Ed25519
    public key. `label`: what the server calls this device. `signer` and `gate_secret`: the device's secrets. `source`:
    SEEN, LOCAL or an address. `answers`: whether the server answers knocks. `slots`: how many knocks a minute it takes,
    as it last said. `services`: those it told of. `certificate`: by whose leave a delegate knocks, with the delegates'
    gate secret; None for a device of its own. `place`: where the signer's key is kept.
    `posture`: what the server is told of this device's health.
    """

    name: str
    hosts: tuple[str, ...]
    knock_ports: tuple[int, ...]
    server_identity: bytes
    label: str
    signer: Signer = field(repr=False)
    gate_secret: bytes = field(repr=False)
    source: str = SEEN
    answers: bool = True
    slots: int = USUAL_SLOTS
    services: tuple[KnownService, ...] = ()
    certificate: Certificate | None = None
    place: KeyPlace = OWN_FILE
    posture: Telling = Telling.ON

    @property
    def knock_port(self) -> int:
        """The UDP port that is tried first."""
        return self.knock_ports[0]

    @property
    def device_text(self) -> str:
        """The device's public identity as text."""
        return encode(TextKind.DEVICE, self.signer.key.to_bytes())

    @property
    def server_text(self) -> str:
        """The server's public identity as text."""
        return encode(TextKind.SERVER, self.server_identity)

    def known(self, names: tuple[str, ...]) -> tuple[KnownService, ...]:
        """What is known of the named services, or of all where none is named."""
        return tuple(service for service in self.services if not names or service.name in names)
