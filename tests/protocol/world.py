"""One made-up world for tests and vectors: fixed keys, and the requests and answers made with them.

Every secret is the hash of its name, so that vectors can be made again bit by bit. It must not draw anything at random.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256, shake_256
from ipaddress import IPv4Address

from spa_protocol.answer import Answer, AnsweredService, seal_answer
from spa_protocol.enrolment import Enrolment, seal_enrolment
from spa_protocol.invite import Invite
from spa_protocol.keys import Channel, ChannelKeys, derive, exchange_public, public_key
from spa_protocol.knock import Knock, seal_knock
from spa_protocol.seal import HEAD_SIZE
from spa_protocol.signature import SeedSigner

TIME_MS = 1_767_225_600_123
"""2026-01-01 00:00:00.123 UTC."""


def made_up(name: str, size: int = 32) -> bytes:
    """Bytes that only their name decides."""
    return shake_256(f"spa-perimeter vectors: {name}".encode()).digest(size)


def nonce(name: str) -> bytes:
    """A nonce of 24 bytes for the datagram of that name."""
    return sha256(f"spa-perimeter vectors nonce: {name}".encode()).digest()[:24]


DEVICE_SEED = made_up("device seed")
DEVICE_KEY = public_key(DEVICE_SEED)
OTHER_DEVICE_SEED = made_up("other device seed")
SERVER_SEED = made_up("server seed")
SERVER_IDENTITY = public_key(SERVER_SEED)
OTHER_SERVER_SEED = made_up("other server seed")
OTHER_SERVER_IDENTITY = public_key(OTHER_SERVER_SEED)
GATE_SECRET = made_up("gate secret")
INVITE_SECRET = made_up("invite secret")
INVITE_EXCHANGE_SECRET = made_up("invite exchange secret")
DEVICE_EXCHANGE_SECRET = made_up("device exchange secret")
DEVICE_KEYS = derive(GATE_SECRET, Channel.DEVICE)
INVITE_KEYS = derive(INVITE_SECRET, Channel.INVITE)


@dataclass(frozen=True, slots=True)
class Sample:
    """A datagram and what opens it."""

    datagram: bytes
    seal_key: bytes
    context: bytes


def knock_datagram(
    knock: Knock | None = None, *, keys: ChannelKeys = DEVICE_KEYS, seed: bytes = DEVICE_SEED, slot: int = 0
) -> bytes:
    """A knock as the world's device sends it."""
    knock = knock or Knock(TIME_MS, ("web", "ssh"), 30, IPv4Address("192.0.2.7"))
    return seal_knock(
        knock,
        keys=keys,
        signer=SeedSigner(seed),
        server_identity=SERVER_IDENTITY,
        slot=slot,
        nonce=nonce(f"knock {knock} {slot}"),
    )


def enrolment() -> Enrolment:
    """What the world's device says to enrol."""
    return Enrolment(TIME_MS, DEVICE_KEY, exchange_public(DEVICE_EXCHANGE_SECRET), "alice-laptop")


def enrolment_datagram(message: Enrolment | None = None, *, slot: int = 0) -> bytes:
    """The same, sealed under the world's invite."""
    return seal_enrolment(
        message or enrolment(),
        keys=INVITE_KEYS,
        signer=SeedSigner(DEVICE_SEED),
        server_identity=SERVER_IDENTITY,
        slot=slot,
        nonce=nonce(f"enrolment {slot}"),
    )


def answer() -> Answer:
    """What the world's server says to the knock."""
    services = (AnsweredService("web", 30, 8443, 0, False), AnsweredService("ssh", 30, 22, 0, True))
    return Answer(None, TIME_MS + 40, IPv4Address("192.0.2.7"), 40_000, 16, "alice-laptop", services)


def answer_datagram(message: Answer | None = None) -> bytes:
    """The same, sealed as the answer to `knock_datagram()`."""
    return seal_answer(
        message or answer(),
        keys=DEVICE_KEYS,
        server_seed=SERVER_SEED,
        server_identity=SERVER_IDENTITY,
        request_head=knock_datagram()[:HEAD_SIZE],
        nonce=nonce("answer"),
    )


def invite(*hosts: str) -> Invite:
    """The world's invite."""
    return Invite(
        INVITE_SECRET,
        SERVER_IDENTITY,
        exchange_public(INVITE_EXCHANGE_SECRET),
        TIME_MS // 1000 + 3600,
        (62_201,),
        hosts or ("gate.example.org",),
    )
