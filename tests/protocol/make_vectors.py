"""Make vectors.json: `python -m tests.protocol.make_vectors` writes it anew, the same bytes each time.

docs/protocol.md, section 12, says what it holds. The product writes it; tests check that the second reading agrees.
"""

from __future__ import annotations

import json
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

from nacl import bindings

from spa_protocol.answer import Answer, AnsweredService
from spa_protocol.body import Address
from spa_protocol.enrolment import Enrolment
from spa_protocol.invite import Invite
from spa_protocol.keys import ChannelKeys, agreed_gate_secret, exchange_public
from spa_protocol.knock import Knock
from spa_protocol.limits import MAX_SLOTS
from spa_protocol.refusal import GRANTED, Refusal
from spa_protocol.seal import HEAD_SIZE, Domain, answer_tag, seal, signed_bytes, unseal
from spa_protocol.signature import SeedSigner
from spa_protocol.tag import CLOCK_SLOTS, TagKind, TagPosition, compute_tag
from spa_protocol.text import TextKind, encode
from tests.protocol import bad_vectors, world

PATH = Path(__file__).with_name("vectors.json")

Entry = dict[str, object]

V4, V6 = IPv4Address("192.0.2.7"), IPv6Address("2001:db8::7")
KNOCKS = {
    "IPv4 source named": Knock(world.TIME_MS, ("web",), 30, V4),
    "IPv6 source named": Knock(world.TIME_MS, ("web", "ssh"), 300, V6),
    "as seen": Knock(world.TIME_MS, ("ssh",), 0, None),
    "no service": Knock(world.TIME_MS),
    "eight services with the longest names": Knock(
        world.TIME_MS, tuple(f"service-{i}-with-a-long-name"[:24] for i in range(8)), 86_400, V4
    ),
    "time 0": Knock(0, ("web",)),
    "the last of all times": Knock(2**64 - 1, ("web",), 2**32 - 1, IPv6Address(2**128 - 1)),
    "under a clock tag": Knock(world.TIME_MS, ("web",), 30, V4),
}
ENROLMENTS = {
    "usual": world.enrolment(),
    "shortest label": replace(world.enrolment(), label="a"),
    "longest label": replace(world.enrolment(), label="A9._-" * 12 + "end"),
    "under a clock tag": world.enrolment(),
}
GRANTS = {
    "granted": world.answer(),
    "granted, seen over IPv6": replace(world.answer(), seen=V6),
    "granted, the most slots": replace(world.answer(), slots=MAX_SLOTS),
    "eight services and the longest label": replace(
        world.answer(),
        about="a" * 63,
        services=tuple(
            AnsweredService(f"service-{i}-with-a-long-name"[:24], 2**32 - 1, 65_535, 65_535, True) for i in range(8)
        ),
    ),
}
INVITES = {
    "host name": world.invite("gate.example.org"),
    "IPv4 address": world.invite("192.0.2.1"),
    "IPv6 address": world.invite("2001:db8::1"),
    "four hosts": world.invite("gate.example.org", "_gate.example.net", "192.0.2.1", "2001:db8::1"),
    "extreme numbers": replace(world.invite("a"), expires_s=2**64 - 1, knock_ports=(1,)),
}


def vectors() -> dict[str, object]:
    """All that vectors.json holds."""
    return {
        "protocol": "spa-perimeter knock protocol, version 1: docs/protocol.md, section 12",
        "secrets": _secrets(),
        "derived": {"device": _keys(world.DEVICE_KEYS), "invite": _keys(world.INVITE_KEYS)},
        "tags": _tags(),
        "knocks": [_knock(name, slot, knock) for slot, (name, knock) in enumerate(KNOCKS.items())],
        "enrolments": [_enrolment(name, slot, message) for slot, (name, message) in enumerate(ENROLMENTS.items())],
        "answers": _answers(),
        "texts": _texts(),
        "invites": [_invite(name, invite) for name, invite in INVITES.items()],
        "refused": bad_vectors.refused(),
    }


def rendered() -> str:
    """The file's text."""
    return json.dumps(vectors(), indent=1) + "\n"


def _secrets() -> Entry:
    named = {
        "device_seed": world.DEVICE_SEED,
        "device_key": world.DEVICE_KEY,
        "server_seed": world.SERVER_SEED,
        "server_identity": world.SERVER_IDENTITY,
        "other_server_identity": world.OTHER_SERVER_IDENTITY,
        "gate_secret": world.GATE_SECRET,
        "invite_secret": world.INVITE_SECRET,
        "invite_exchange_secret": world.INVITE_EXCHANGE_SECRET,
        "invite_exchange": exchange_public(world.INVITE_EXCHANGE_SECRET),
        "device_exchange_secret": world.DEVICE_EXCHANGE_SECRET,
        "device_exchange": exchange_public(world.DEVICE_EXCHANGE_SECRET),
    }
    return {name: value.hex() for name, value in named.items()}


def _keys(keys: ChannelKeys) -> Entry:
    names = ("tag", "clock_tag", "request_seal", "answer_tag", "answer_seal")
    return {name: getattr(keys, name).hex() for name in names}


def _tags() -> list[Entry]:
    channels = {"device": world.DEVICE_KEYS, "invite": world.INVITE_KEYS}
    return [
        {
            "channel": channel,
            "kind": kind.name.lower(),
            "time_ms": time_ms,
            "window": kind.window(time_ms),
            "slot": slot,
            "tag": compute_tag(keys, TagPosition(kind, kind.window(time_ms), slot)).hex(),
        }
        for channel, keys in channels.items()
        for kind in TagKind
        for time_ms in (0, 59_999, 60_000, world.TIME_MS, world.TIME_MS + 86_400_000, 2**63, 2**64 - 1)
        for slot in ((0, 1, 15, 63) if kind is TagKind.KNOCK else range(CLOCK_SLOTS))
    ]


def _datagram(domain: Domain, seed: bytes, seal_key: bytes, tag: bytes, body: bytes, context: bytes = b"") -> Entry:
    nonce = world.nonce(f"{domain.name} {tag.hex()} {body.hex()}")
    datagram = seal(
        seal_key=seal_key,
        signer=SeedSigner(seed),
        domain=domain,
        server_identity=world.SERVER_IDENTITY,
        tag=tag,
        nonce=nonce,
        body=body,
        context=context,
    )
    opened = unseal(datagram, seal_key, context)
    if opened is None:
        raise AssertionError("what was sealed opens")
    return {
        "tag": tag.hex(),
        "nonce": nonce.hex(),
        "body": body.hex(),
        "signed": signed_bytes(domain, world.SERVER_IDENTITY, tag, nonce, context, body).hex(),
        "signature": opened.signature.value.hex(),
        "additional_data": (tag + context).hex(),
        "ciphertext": datagram[HEAD_SIZE:].hex(),
        "datagram": datagram.hex(),
    }


def _position(name: str, time_ms: int, slot: int) -> TagPosition:
    kind = TagKind.CLOCK if "clock" in name else TagKind.KNOCK
    return TagPosition(kind, kind.window(time_ms), slot % CLOCK_SLOTS if kind is TagKind.CLOCK else slot)


def _where(position: TagPosition) -> Entry:
    return {"kind": position.kind.name.lower(), "window": position.window, "slot": position.slot}


def _knock(name: str, slot: int, knock: Knock) -> Entry:
    position = _position(name, knock.time_ms, slot)
    tag = compute_tag(world.DEVICE_KEYS, position)
    fields = {
        "time_ms": knock.time_ms,
        "lease_s": knock.lease_s,
        "source": _address(knock.source),
        "services": list(knock.services),
    }
    sealed = _datagram(Domain.KNOCK, world.DEVICE_SEED, world.DEVICE_KEYS.request_seal, tag, knock.body())
    return {"name": name, **_where(position), **fields, **sealed}


def _enrolment(name: str, slot: int, message: Enrolment) -> Entry:
    position = _position(name, message.time_ms, slot)
    tag = compute_tag(world.INVITE_KEYS, position)
    invite_exchange = exchange_public(world.INVITE_EXCHANGE_SECRET)
    agreed = agreed_gate_secret(
        own_secret=world.DEVICE_EXCHANGE_SECRET,
        peer_public=invite_exchange,
        invite_secret=world.INVITE_SECRET,
        invite_exchange=invite_exchange,
        device_exchange=message.exchange,
        device_key=message.device_key,
    )
    if agreed is None:
        raise AssertionError("both exchange values are sound")
    fields = {
        "time_ms": message.time_ms,
        "device_key": message.device_key.hex(),
        "exchange": message.exchange.hex(),
        "label": message.label,
        "z": bindings.crypto_scalarmult(world.DEVICE_EXCHANGE_SECRET, invite_exchange).hex(),
        "agreed_gate_secret": agreed.hex(),
    }
    sealed = _datagram(Domain.ENROLMENT, world.DEVICE_SEED, world.INVITE_KEYS.request_seal, tag, message.body())
    return {"name": name, **_where(position), **fields, **sealed}


def _answers() -> list[Entry]:
    knock_head = world.knock_datagram()[:HEAD_SIZE]
    enrolment_head = world.enrolment_datagram()[:HEAD_SIZE]
    enrolled = replace(world.answer(), services=tuple(replace(each, left_s=0) for each in world.answer().services))
    refused = {
        refusal.name: Answer(refusal, world.TIME_MS + 40, V4, 40_000, 16, "web" if "SERVICE" in refusal.name else "")
        for refusal in Refusal
    }
    return [
        *(_answer(name, "device", knock_head, answer) for name, answer in (GRANTS | refused).items()),
        _answer("enrolled", "invite", enrolment_head, enrolled),
        _answer("invite used", "invite", enrolment_head, refused["INVITE_USED"]),
    ]


def _answer(name: str, channel: str, request_head: bytes, answer: Answer) -> Entry:
    keys = {"device": world.DEVICE_KEYS, "invite": world.INVITE_KEYS}[channel]
    fields = {
        "outcome": answer.refusal.code if answer.refusal else GRANTED,
        "time_ms": answer.time_ms,
        "seen": _address(answer.seen),
        "seen_port": answer.seen_port,
        "slots": answer.slots,
        "about": answer.about,
        "services": [
            [each.name, each.left_s, each.tcp_port, each.udp_port, each.needs_signed_source] for each in answer.services
        ],
    }
    tag = answer_tag(keys, request_head)
    sealed = _datagram(Domain.ANSWER, world.SERVER_SEED, keys.answer_seal, tag, answer.body(), request_head)
    return {"name": name, "channel": channel, "request_head": request_head.hex(), **fields, **sealed}


def _texts() -> list[Entry]:
    held = {
        TextKind.DEVICE: world.DEVICE_KEY,
        TextKind.SERVER: world.SERVER_IDENTITY,
        TextKind.SECRET_KEY: world.DEVICE_SEED,
        TextKind.GATE_SECRET: world.GATE_SECRET,
    }
    return [
        {"prefix": kind.prefix, "data": data.hex(), "text": text, "also": text.swapcase()}
        for kind, data in held.items()
        for text in [encode(kind, data)]
    ]


def _invite(name: str, invite: Invite) -> Entry:
    text = invite.text()
    return {
        "name": name,
        "secret": invite.secret.hex(),
        "server_identity": invite.server_identity.hex(),
        "exchange": invite.exchange.hex(),
        "expires_s": invite.expires_s,
        "knock_ports": list(invite.knock_ports),
        "hosts": list(invite.hosts),
        "text": text,
        "also": text.upper(),
    }


def _address(address: Address | None) -> str | None:
    return str(address) if address is not None else None


def main() -> None:
    """Write the file."""
    PATH.write_text(rendered(), encoding="ascii")


if __name__ == "__main__":
    main()
