"""The answer: what the server says to a verified request, and to nothing else (docs/protocol.md, section 7)."""

from __future__ import annotations

from dataclasses import dataclass

from spa_protocol.body import Address, BodyReader, BodyWriter, MalformedBody, MessageType
from spa_protocol.keys import ChannelKeys
from spa_protocol.knock import MAX_SERVICES
from spa_protocol.limits import MAX_SLOTS
from spa_protocol.names import is_service_name
from spa_protocol.refusal import GRANTED, Refusal
from spa_protocol.seal import Domain, answer_tag, seal, unseal
from spa_protocol.signature import SeedSigner, VerifyingKey
from spa_protocol.tag import FEWEST_SLOTS

MAX_ABOUT = 63
CHECKPOINT_HASH_SIZE = 16


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """How far the server's audit trail had come: the number of its newest record, and the first 16 bytes of its hash.

    Whoever keeps it can show later that a trail was cut short or written anew.
    """

    seq: int
    hash: bytes


@dataclass(frozen=True, slots=True)
class AnsweredService:
    """A service in an answer.

    `left_s`: seconds left on the lease; in the answer to an enrolment 0, since nothing was opened. `tcp_port` and
    `udp_port`: the first port of each protocol, or 0. `needs_signed_source`: whether the knock must name the address.
    """

    name: str
    left_s: int
    tcp_port: int
    udp_port: int
    needs_signed_source: bool


@dataclass(frozen=True, slots=True)
class Answer:
    """What the server says.

    `refusal`: None where granted. `time_ms`: the server's clock, UTC. `seen` and `seen_port`: where the request came
    from. `slots`: how many knock slots a minute the server arms for a device, or for all delegates of one. `about`:
    what a refusal concerns, or the device's label. `services`: those granted; after an enrolment, those that the device
    may open. `checkpoint`: of the audit trail, None where the server tells none.
    """

    refusal: Refusal | None
    time_ms: int
    seen: Address
    seen_port: int
    slots: int
    about: str = ""
    services: tuple[AnsweredService, ...] = ()
    checkpoint: Checkpoint | None = None

    def body(self) -> bytes:
        """The 400-byte body; raises ValueError for what the protocol cannot say."""
        if len(self.services) > MAX_SERVICES or len(self.about) > MAX_ABOUT:
            raise ValueError(f"an answer has room for {MAX_SERVICES} services and {MAX_ABOUT} characters")
        if not FEWEST_SLOTS <= self.slots <= MAX_SLOTS:
            raise ValueError(f"a server arms {FEWEST_SLOTS} to {MAX_SLOTS} slots, not {self.slots}")
        if not self.about.isprintable() or not all(is_service_name(service.name) for service in self.services):
            raise ValueError("an answer says printable characters and the names of services only")
        writer = BodyWriter(MessageType.ANSWER)
        writer.number(self.refusal.code if self.refusal else GRANTED, 1)
        writer.number(self.time_ms, 8)
        writer.address(self.seen)
        writer.number(self.seen_port, 2)
        writer.number(self.slots, 1)
        writer.text(self.about)
        writer.number(len(self.services), 1)
        for service in self.services:
            writer.text(service.name)
            writer.number(service.left_s, 4)
            writer.number(service.tcp_port, 2)
            writer.number(service.udp_port, 2)
            writer.number(int(service.needs_signed_source), 1)
        if self.checkpoint is not None:
            if not self.checkpoint.seq or len(self.checkpoint.hash) != CHECKPOINT_HASH_SIZE:
                raise ValueError(f"a checkpoint is a number from 1 on and {CHECKPOINT_HASH_SIZE} bytes")
            writer.number(self.checkpoint.seq, 8)
            writer.raw(self.checkpoint.hash)
        return writer.finish()

    @classmethod
    def parse(cls, body: bytes) -> Answer:
        """The answer in a body; raises MalformedBody."""
        reader = BodyReader(body, MessageType.ANSWER)
        outcome = reader.number(1)
        refusal = Refusal.of_code(outcome)
        if refusal is None and outcome != GRANTED:
            raise MalformedBody("outcome")
        time_ms, seen, seen_port = reader.number(8), reader.address(), reader.number(2)
        slots, about, count = reader.number(1), reader.text(), reader.number(1)
        if not FEWEST_SLOTS <= slots <= MAX_SLOTS:
            raise MalformedBody("slots")
        if seen is None or len(about) > MAX_ABOUT or not about.isprintable() or count > MAX_SERVICES:
            raise MalformedBody("answer")
        services = tuple(_read_service(reader) for _ in range(count))
        seq, hash_ = reader.number(8), reader.raw(CHECKPOINT_HASH_SIZE)
        if not seq and any(hash_):
            raise MalformedBody("checkpoint")
        reader.finish()
        checkpoint = Checkpoint(seq, hash_) if seq else None
        return cls(refusal, time_ms, seen, seen_port, slots, about, services, checkpoint)


def _read_service(reader: BodyReader) -> AnsweredService:
    name, left_s = reader.text(), reader.number(4)
    tcp_port, udp_port, flags = reader.number(2), reader.number(2), reader.number(1)
    if not is_service_name(name) or flags > 1:
        raise MalformedBody("service")
    return AnsweredService(name, left_s, tcp_port, udp_port, bool(flags))


def seal_answer(
    answer: Answer,
    *,
    keys: ChannelKeys,
    server_seed: bytes,
    server_identity: bytes,
    request_head: bytes,
    nonce: bytes,
) -> bytes:
    """The datagram that answers the request with that head (its tag and nonce). `nonce`: 24 random bytes."""
    return seal(
        seal_key=keys.answer_seal,
        signer=SeedSigner(server_seed),
        domain=Domain.ANSWER,
        server_identity=server_identity,
        tag=answer_tag(keys, request_head),
        nonce=nonce,
        body=answer.body(),
        context=request_head,
    )


def open_answer(datagram: bytes, *, keys: ChannelKeys, server_identity: bytes, request_head: bytes) -> Answer | None:
    """The answer to the request with that head, or None for anything else that arrived."""
    opened = unseal(datagram, keys.answer_seal, request_head)
    if opened is None or opened.tag != answer_tag(keys, request_head):
        return None
    if not opened.is_signed_by(VerifyingKey(server_identity), Domain.ANSWER, server_identity):
        return None
    try:
        return Answer.parse(opened.message)
    except MalformedBody:
        return None
