"""What vectors.json says must be refused, both readings refuse."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from spa_protocol.answer import Answer, open_answer
from spa_protocol.body import MalformedBody
from spa_protocol.delegation import Certificate
from spa_protocol.delegation_text import Delegation
from spa_protocol.enrolment import Enrolment
from spa_protocol.invite import Invite
from spa_protocol.keys import ChannelKeys
from spa_protocol.knock import Knock
from spa_protocol.limits import MAX_SLOTS
from spa_protocol.seal import HEAD_SIZE, Domain, of_kind
from spa_protocol.signature import Signature as ProductSignature
from spa_protocol.signature import Signer, VerifyingKey
from spa_protocol.tag import TAG_SIZE, TagKind, TagPosition, compute_tag
from spa_protocol.text import BadText, TextKind, decode, decode_key, decode_verifying_key
from tests.protocol import bad_certificates, bad_datagrams, bad_texts, crafting, world
from tests.protocol import second_reading as second
from tests.protocol import second_reading_delegation as second_delegation
from tests.protocol import second_reading_texts as second_texts
from tests.protocol.crafting import Envelope
from tests.protocol.reading import read_enrolment, read_knock
from tests.protocol.second_reading_signature import Key, check
from tests.protocol.test_vectors import (
    DEVICES,
    IDENTITY,
    KEYS,
    Entry,
    entries,
    hexed,
    open_knock,
    read_certificate,
    signature_of,
)

REQUEST_HEAD = world.knock_datagram()[:HEAD_SIZE]
BODIES: dict[str, Callable[[bytes], object]] = {
    "knock-body": Knock.parse,
    "enrolment-body": Enrolment.parse,
    "answer-body": Answer.parse,
}
SECOND_BODIES: dict[str, Callable[[bytes], object]] = {
    "knock-body": second.parse_knock,
    "enrolment-body": second.parse_enrolment,
    "answer-body": second.parse_answer,
}


@entries("refused")
def test_the_product_refuses_every_negative_vector(entry: Entry) -> None:
    try:
        read = product_reads(entry)
    except (BadText, MalformedBody):
        return
    assert not read


@entries("refused")
def test_the_second_reading_refuses_every_negative_vector(entry: Entry) -> None:
    with pytest.raises(second.Refused):
        second_reads(entry)


CRAFTED: dict[str, tuple[Signer, bytes]] = {
    "device": (bad_datagrams.DEVICE, Knock(world.TIME_MS, ("web",)).body()),
    "security-key": (bad_datagrams.SECURITY_KEY, crafting.of_security_key(Knock(world.TIME_MS, ("web",)))),
    **{
        name: (bad_datagrams.DELEGATE, world.usual_knock(world.HOLDERS[name]).body())
        for name in ("delegate", "security-key-delegate")
    },
}


@pytest.mark.parametrize("channel", CRAFTED)
def test_what_the_refused_knocks_were_made_of_is_good(channel: str) -> None:
    signer, body = CRAFTED[channel]
    datagram = crafting.sealed(Envelope(world.HOLDERS[channel].keys), signer.sign, body)
    assert _product_reads_datagram("knock", channel, datagram)
    _second_reads_datagram("knock", channel, datagram)


@pytest.mark.parametrize("signer", [bad_datagrams.DEVICE, bad_datagrams.SECURITY_KEY], ids=["plain", "security key"])
def test_what_the_refused_enrolments_were_made_of_is_good(signer: Signer) -> None:
    body = of_kind(world.enrolment(signer.key).body(), signer.key.kind)
    datagram = crafting.sealed(Envelope(world.INVITE_KEYS, Domain.ENROLMENT.value), signer.sign, body)
    assert _product_reads_datagram("enrolment", "invite", datagram)
    _second_reads_datagram("enrolment", "invite", datagram)


def test_what_the_refused_certificates_and_texts_were_made_of_is_good() -> None:
    raw = bad_certificates.raw()
    assert Certificate.from_bytes(raw).is_signed_by(bad_datagrams.DEVICE.key, IDENTITY)
    second_delegation.check_certificate(read_certificate(raw), DEVICES["device"], IDENTITY)
    invite = decode(TextKind.INVITE, world.invite("gate").text())
    delegation = decode(TextKind.DELEGATION, replace(world.delegation("gate"), knock_ports=(62_201,)).text())
    for data in (invite, delegation):
        assert data.endswith(bad_texts.PORT + b"\1" + bad_texts.GATE)


def product_reads(entry: Entry) -> object:
    """What the product makes of a negative vector; nothing, or BadText or MalformedBody, where it refuses it."""
    kind = entry["kind"]
    if kind == "signature":
        key = VerifyingKey(hexed(entry, "public"), entry["application"])
        return key.verify(
            hexed(entry, "message"), ProductSignature(hexed(entry, "signature"), entry["flags"], entry["counter"])
        )
    if kind in ("invite", "delegation"):
        return (Invite if kind == "invite" else Delegation).parse(entry["input"])
    if kind.startswith("spa-"):
        text_kind = next(each for each in TextKind if each.prefix == kind)
        decoded: object = (
            decode_verifying_key(entry["input"])
            if text_kind is TextKind.DEVICE
            else decode_key(text_kind, entry["input"])
        )
        return decoded
    data = hexed(entry, "input")
    if kind == "certificate":
        return Certificate.from_bytes(data).is_signed_by(world.HOLDERS[entry["by"]].device.key, IDENTITY)
    return BODIES[kind](data) if kind in BODIES else _product_reads_datagram(kind, entry["channel"], data)


def _product_reads_datagram(kind: str, channel: str, data: bytes) -> bool:
    if kind == "answer":
        answer = open_answer(data, keys=world.DEVICE_KEYS, server_identity=IDENTITY, request_head=REQUEST_HEAD)
        return answer is not None
    if kind == "enrolment":
        enrolment = read_enrolment(data)
        return enrolment is not None and _is_timely(data, world.INVITE_KEYS, enrolment.time_ms)
    holder = world.HOLDERS[channel]
    knock = read_knock(data, holder)
    return knock is not None and _is_timely(data, holder.keys, knock.time_ms)


def _is_timely(data: bytes, keys: ChannelKeys, time_ms: int) -> bool:
    """Whether the tag is a knock tag of the window that holds the time."""
    window = TagKind.KNOCK.window(time_ms)
    return data[:TAG_SIZE] in {compute_tag(keys, TagPosition(TagKind.KNOCK, window, slot)) for slot in range(MAX_SLOTS)}


def second_reads(entry: Entry) -> None:
    """Read a negative vector as the document says; raises Refused."""
    kind = entry["kind"]
    if kind == "signature":
        check(Key(hexed(entry, "public"), entry["application"]), hexed(entry, "message"), signature_of(entry))
    elif kind in ("invite", "delegation"):
        (second_texts.parse_invite if kind == "invite" else second_texts.parse_delegation)(entry["input"])
    elif kind == "spa-device":
        second_texts.read_device_key(entry["input"])
    elif kind.startswith("spa-"):
        second.require(len(second_texts.read_text(kind, entry["input"])) == 32, "size of a key")
    elif kind == "certificate":
        certificate = read_certificate(hexed(entry, "input"))
        second_delegation.check_certificate(certificate, DEVICES[entry["by"]], IDENTITY)
    elif kind in SECOND_BODIES:
        SECOND_BODIES[kind](hexed(entry, "input"))
    else:
        _second_reads_datagram(kind, entry["channel"], hexed(entry, "input"))


def _second_reads_datagram(kind: str, channel: str, data: bytes) -> None:
    if kind == "answer":
        second.open_answer(data, KEYS["device"], IDENTITY, REQUEST_HEAD)
    elif kind == "enrolment":
        _check_window(data, KEYS["invite"], second.open_enrolment(data, KEYS["invite"], IDENTITY).time_ms)
    else:
        _check_window(data, KEYS[channel], open_knock(data, channel).time_ms)


def _check_window(data: bytes, keys: second.Keys, time_ms: int) -> None:
    window = second.window_of("knock", time_ms)
    tags = [second.tag(keys, "knock", window, slot) for slot in range(64)]
    second.require(data[:TAG_SIZE] in tags, "the tag's window is not that of the time")
