"""One made-up world for tests and vectors: fixed keys, and the requests and answers made with them.

Every secret is the hash of its name, so that vectors can be made again bit by bit. It must not draw anything at random.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256, shake_256
from ipaddress import IPv4Address

from spa_protocol.answer import Answer, AnsweredService, seal_answer
from spa_protocol.delegation import Certificate, delegate_secret, issue
from spa_protocol.delegation_text import Delegation
from spa_protocol.enrolment import Enrolment, seal_enrolment
from spa_protocol.invite import Invite
from spa_protocol.keys import Channel, ChannelKeys, derive, exchange_public, public_key
from spa_protocol.knock import Knock, seal_knock
from spa_protocol.seal import HEAD_SIZE
from spa_protocol.signature import SeedSigner, Signer, VerifyingKey
from tests.protocol.security_key import SecurityKey

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
SECURITY_KEY = SecurityKey(made_up("security key seed"), "ssh:", counter=41)
SECURITY_KEY_GATE_SECRET = made_up("security key's gate secret")
DELEGATE_SEED = made_up("delegate seed")
DELEGATE_SECRET = delegate_secret(GATE_SECRET)
DEVICE_KEYS = derive(GATE_SECRET, Channel.DEVICE)
INVITE_KEYS = derive(INVITE_SECRET, Channel.INVITE)
DELEGATE_KEYS = derive(DELEGATE_SECRET, Channel.DELEGATE)


@dataclass(frozen=True, slots=True)
class Holder:
    """Who knocks: `device` is the signer whose key the server knows; `signer` signs the knock, a delegate's where
    `delegated`.
    """

    keys: ChannelKeys
    device: Signer
    signer: Signer
    delegated: bool = False


HOLDERS = {
    "device": Holder(DEVICE_KEYS, SeedSigner(DEVICE_SEED), SeedSigner(DEVICE_SEED)),
    "delegate": Holder(DELEGATE_KEYS, SeedSigner(DEVICE_SEED), SeedSigner(DELEGATE_SEED), delegated=True),
    "security-key": Holder(derive(SECURITY_KEY_GATE_SECRET, Channel.DEVICE), SECURITY_KEY, SECURITY_KEY),
    "security-key-delegate": Holder(
        derive(delegate_secret(SECURITY_KEY_GATE_SECRET), Channel.DELEGATE),
        SECURITY_KEY,
        SeedSigner(DELEGATE_SEED),
        delegated=True,
    ),
}


def certificate(
    signer: Signer = HOLDERS["device"].device,
    server_identity: bytes = SERVER_IDENTITY,
    *,
    name: str = "ci",
    services: tuple[str, ...] = ("web", "ssh"),
    issued_s: int = TIME_MS // 1000 - 60,
    expires_s: int = TIME_MS // 1000 + 7200,
) -> Certificate:
    """What the world's device, or another signer, lets the delegate have."""
    return issue(
        signer,
        server_identity,
        key=public_key(DELEGATE_SEED),
        name=name,
        services=services,
        issued_s=issued_s,
        expires_s=expires_s,
    )


def delegation(*hosts: str, by: Certificate | None = None) -> Delegation:
    """The same as it is handed over."""
    return Delegation(
        DELEGATE_SEED,
        DELEGATE_SECRET,
        SERVER_IDENTITY,
        by or certificate(),
        "alice-laptop",
        (62_201, 443),
        hosts or ("gate.example.org",),
    )


def usual_knock(holder: Holder = HOLDERS["device"]) -> Knock:
    """What each of them asks for."""
    by = certificate(holder.device) if holder.delegated else None
    return Knock(TIME_MS, ("web", "ssh"), 30, IPv4Address("192.0.2.7"), certificate=by)


def knock_datagram(
    knock: Knock | None = None, holder: Holder = HOLDERS["device"], *, signer: Signer | None = None, slot: int = 0
) -> bytes:
    """A knock as the holder sends it; `signer` signs it in its place."""
    knock = knock or usual_knock(holder)
    return seal_knock(
        knock,
        keys=holder.keys,
        signer=signer or holder.signer,
        server_identity=SERVER_IDENTITY,
        slot=slot,
        nonce=nonce(f"knock {knock} {slot}"),
    )


def enrolment(key: VerifyingKey = HOLDERS["device"].device.key) -> Enrolment:
    """What the world's device, or another key's holder, says to enrol."""
    exchange = exchange_public(DEVICE_EXCHANGE_SECRET)
    return Enrolment(TIME_MS, key.public, exchange, "alice-laptop", key.application)


def enrolment_datagram(
    message: Enrolment | None = None, *, signer: Signer = HOLDERS["device"].device, slot: int = 0
) -> bytes:
    """The same, sealed under the world's invite."""
    return seal_enrolment(
        message or enrolment(signer.key),
        keys=INVITE_KEYS,
        signer=signer,
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


def invite(*hosts: str, knock_ports: tuple[int, ...] = (62_201,)) -> Invite:
    """The world's invite."""
    return Invite(
        INVITE_SECRET,
        SERVER_IDENTITY,
        exchange_public(INVITE_EXCHANGE_SECRET),
        TIME_MS // 1000 + 3600,
        knock_ports,
        hosts or ("gate.example.org",),
    )
