"""Enrolment: the request, sealed under an invite, to become a known device (docs/protocol.md, section 6)."""

from __future__ import annotations

from dataclasses import dataclass

from spa_protocol.body import BodyReader, BodyWriter, MalformedBody, MessageType
from spa_protocol.keys import KEY_SIZE, ChannelKeys
from spa_protocol.names import is_label
from spa_protocol.seal import Domain, of_kind, seal
from spa_protocol.signature import Signer, VerifyingKey, is_application
from spa_protocol.tag import TagKind, TagPosition, compute_tag


@dataclass(frozen=True, slots=True)
class Enrolment:
    """What a new device says of itself.

    `time_ms`: the device's clock, UTC. `device_key`: its Ed25519 public key, which also signs this message.
    `exchange`: its X25519 public value, made for this enrolment only. `label`: what the computer calls itself; the name
    in the registry is the invite's. `application`: what a security key was made for; "" for a plain key.
    """

    time_ms: int
    device_key: bytes
    exchange: bytes
    label: str
    application: str = ""

    @property
    def key(self) -> VerifyingKey:
        """The device's public key, with its kind."""
        return VerifyingKey(self.device_key, self.application)

    def body(self) -> bytes:
        """The 400-byte body; raises ValueError for what the protocol cannot say."""
        if len(self.device_key) != KEY_SIZE or len(self.exchange) != KEY_SIZE or not is_label(self.label):
            raise ValueError("two keys of 32 bytes and a label of letters, digits, '.', '_' and '-' are needed")
        self.key.check()
        writer = BodyWriter(MessageType.ENROLMENT)
        writer.number(0, 1)
        writer.number(self.time_ms, 8)
        writer.raw(self.device_key)
        writer.raw(self.exchange)
        writer.text(self.label)
        writer.text(self.application)
        return writer.finish()

    @classmethod
    def parse(cls, body: bytes) -> Enrolment:
        """The enrolment in a body; raises MalformedBody."""
        reader = BodyReader(body, MessageType.ENROLMENT)
        if reader.number(1) != 0:
            raise MalformedBody("unknown flags")
        time_ms, device_key, exchange = reader.number(8), reader.raw(KEY_SIZE), reader.raw(KEY_SIZE)
        enrolment = cls(time_ms, device_key, exchange, reader.text(), reader.text())
        reader.finish()
        if not is_label(enrolment.label):
            raise MalformedBody("label")
        if enrolment.application and not is_application(enrolment.application):
            raise MalformedBody("application")
        return enrolment


def seal_enrolment(
    enrolment: Enrolment,
    *,
    keys: ChannelKeys,
    signer: Signer,
    server_identity: bytes,
    slot: int,
    nonce: bytes,
    kind: TagKind = TagKind.KNOCK,
) -> bytes:
    """The datagram of an enrolment, under the invite's tag of its own time's window and the given slot.

    `nonce`: 24 random bytes. Raises ValueError, and what the signer raises.
    """
    tag = compute_tag(keys, TagPosition(kind, kind.window(enrolment.time_ms), slot))
    return seal(
        seal_key=keys.request_seal,
        signer=signer,
        domain=Domain.ENROLMENT,
        server_identity=server_identity,
        tag=tag,
        nonce=nonce,
        body=of_kind(enrolment.body(), signer.key.kind),
    )
