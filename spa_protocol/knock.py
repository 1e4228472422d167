"""The knock: the request to open services for one source, for seconds, or to close them (docs/protocol.md, 5)."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from spa_protocol.body import Address, BodyReader, BodyWriter, MalformedBody, MessageType
from spa_protocol.delegation import MAX_DELEGATED, Certificate
from spa_protocol.keys import ChannelKeys
from spa_protocol.names import is_service_name
from spa_protocol.posture import Posture
from spa_protocol.seal import Domain, of_kind, seal
from spa_protocol.signature import Signer
from spa_protocol.tag import TagKind, TagPosition, compute_tag

MAX_SERVICES = 8
"""Most services that one knock names, and most that one answer lists."""


class Action(Enum):
    """What a knock asks for: its fourth byte."""

    OPEN = 0
    CLOSE = 1
    """Give back what this device has open for that source: close the door after me."""
    APPROVE = 2
    """Let somebody else have what they have asked for."""
    DENY = 3
    """Do not let them."""


@dataclass(frozen=True, slots=True)
class Knock:
    """What a device asks for.

    `time_ms`: the device's clock, UTC. `lease_s`: seconds wanted, 0 for each service's default. `source`: the one
    address to open, or None for the one the datagram comes from. `services`: names, none for all that are allowed, or
    open. `certificate`: what a delegate may have, and by whose leave; None where the device itself knocks. `posture`:
    the device's health, None where nothing is said of it. `code`: a one-time password as a second factor, 6 to 8
    digits, or "". `request`: whose wish is approved or denied, as its refusal named it; else 0. A delegate says none of
    these three.
    """

    time_ms: int
    services: tuple[str, ...] = ()
    lease_s: int = 0
    source: Address | None = None
    action: Action = Action.OPEN
    certificate: Certificate | None = None
    posture: Posture | None = None
    code: str = field(default="", repr=False)
    request: int = 0

    def body(self) -> bytes:
        """The 400-byte body; raises ValueError for what the protocol cannot say."""
        _check_services(self.services, self.certificate)
        self._check()
        writer = BodyWriter(MessageType.KNOCK)
        writer.number(self.action.value, 1)
        writer.number(self.time_ms, 8)
        writer.number(self.lease_s, 4)
        writer.address(self.source)
        writer.number(len(self.services), 1)
        for name in self.services:
            writer.text(name)
        if self.certificate is not None:
            writer.number(1, 1)
            self.certificate.write(writer)
        else:
            writer.number(0, 1)
        writer.number(int(self.posture is not None), 1)
        if self.posture is not None:
            self.posture.write(writer)
        writer.text(self.code)
        writer.number(self.request, 4)
        return writer.finish()

    @classmethod
    def parse(cls, body: bytes) -> Knock:
        """The knock in a body; raises MalformedBody."""
        reader = BodyReader(body, MessageType.KNOCK)
        action = _ACTIONS.get(reader.number(1))
        if action is None:
            raise MalformedBody("unknown action")
        time_ms, lease_s, source = reader.number(8), reader.number(4), reader.address()
        services = tuple(reader.text() for _ in range(reader.number(1)))
        delegated = reader.number(1)
        if delegated > 1:
            raise MalformedBody("more than one certificate")
        certificate = Certificate.read(reader) if delegated else None
        told = reader.number(1)
        if told > 1:
            raise MalformedBody("more than one posture")
        posture = Posture.read(reader) if told else None
        code, request = reader.text(), reader.number(4)
        reader.finish()
        _check_services(services, certificate)
        knock = cls(time_ms, services, lease_s, source, action, certificate, posture, code, request)
        knock._check()
        return knock

    def _check(self) -> None:
        deciding = self.action in (Action.APPROVE, Action.DENY)
        if self.lease_s and self.action in (Action.CLOSE, Action.DENY):
            raise MalformedBody("seconds wanted of what is to be closed or denied")
        if deciding != bool(self.request) or (deciding and (self.services or self.source is not None)):
            raise MalformedBody("a request is named to approve or deny it, and then nothing else")
        if self.code and not (6 <= len(self.code) <= 8 and self.code.isascii() and self.code.isdigit()):
            raise MalformedBody("a code of other than 6 to 8 digits")
        if self.certificate is not None and (self.posture is not None or self.code or deciding):
            raise MalformedBody("what only the device itself can say, from a delegate")


_ACTIONS = {action.value: action for action in Action}


def _check_services(services: tuple[str, ...], certificate: Certificate | None) -> None:
    if certificate is not None and len(services) > MAX_DELEGATED:
        raise MalformedBody(f"more than {MAX_DELEGATED} services for a delegate")
    if len(services) > MAX_SERVICES:
        raise MalformedBody(f"more than {MAX_SERVICES} services")
    if len(set(services)) != len(services):
        raise MalformedBody("a service named twice")
    for name in services:
        if not is_service_name(name):
            raise MalformedBody("a service name with other characters than a-z, 0-9 and -")


def seal_knock(
    knock: Knock,
    *,
    keys: ChannelKeys,
    signer: Signer,
    server_identity: bytes,
    slot: int,
    nonce: bytes,
    kind: TagKind = TagKind.KNOCK,
) -> bytes:
    """The datagram of a knock, under the tag of its own time's window and the given slot.

    `nonce`: 24 random bytes. Raises ValueError, and what the signer raises.
    """
    tag = compute_tag(keys, TagPosition(kind, kind.window(knock.time_ms), slot))
    return seal(
        seal_key=keys.request_seal,
        signer=signer,
        domain=Domain.KNOCK,
        server_identity=server_identity,
        tag=tag,
        nonce=nonce,
        body=of_kind(knock.body(), signer.key.kind),
    )
