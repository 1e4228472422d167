"""The knock: the request to open services for one source, for seconds (docs/protocol.md, section 5)."""

from __future__ import annotations

from dataclasses import dataclass

from spa_protocol.body import Address, BodyReader, BodyWriter, MalformedBody, MessageType
from spa_protocol.keys import ChannelKeys
from spa_protocol.names import is_service_name
from spa_protocol.seal import Domain, seal
from spa_protocol.tag import TagKind, TagPosition, compute_tag

MAX_SERVICES = 8
"""Most services that one knock names, and most that one answer lists."""


@dataclass(frozen=True, slots=True)
class Knock:
    """What a device asks for.

    `time_ms`: the device's clock, UTC. `lease_s`: seconds wanted, 0 for each service's default. `source`: the one
    address to open, or None for the one the datagram comes from. `services`: names, none for all that are allowed.
    """

    time_ms: int
    services: tuple[str, ...] = ()
    lease_s: int = 0
    source: Address | None = None

    def body(self) -> bytes:
        """The 400-byte body; raises ValueError for what the protocol cannot say."""
        _check_services(self.services)
        writer = BodyWriter(MessageType.KNOCK)
        writer.number(0, 1)
        writer.number(self.time_ms, 8)
        writer.number(self.lease_s, 4)
        writer.address(self.source)
        writer.number(len(self.services), 1)
        for name in self.services:
            writer.text(name)
        return writer.finish()

    @classmethod
    def parse(cls, body: bytes) -> Knock:
        """The knock in a body; raises MalformedBody."""
        reader = BodyReader(body, MessageType.KNOCK)
        if reader.number(1) != 0:
            raise MalformedBody("unknown flags")
        time_ms, lease_s, source = reader.number(8), reader.number(4), reader.address()
        services = tuple(reader.text() for _ in range(reader.number(1)))
        reader.finish()
        _check_services(services)
        return cls(time_ms, services, lease_s, source)


def _check_services(services: tuple[str, ...]) -> None:
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
    seed: bytes,
    server_identity: bytes,
    slot: int,
    nonce: bytes,
    kind: TagKind = TagKind.KNOCK,
) -> bytes:
    """The datagram of a knock, under the tag of its own time's window and the given slot.

    `nonce`: 24 random bytes. Raises ValueError.
    """
    tag = compute_tag(keys, TagPosition(kind, kind.window(knock.time_ms), slot))
    return seal(
        seal_key=keys.request_seal,
        seed=seed,
        domain=Domain.KNOCK,
        server_identity=server_identity,
        tag=tag,
        nonce=nonce,
        body=knock.body(),
    )
