"""vectors.json: made anew it is the same, the second reading finds every value, and both refuse all that must be."""

from __future__ import annotations

import json
from ipaddress import ip_address
from typing import Any

import pytest

from spa_protocol.delegation import Certificate
from spa_protocol.delegation_text import Delegation
from spa_protocol.invite import Invite
from spa_protocol.refusal import Refusal
from spa_protocol.text import TextKind, decode, decode_verifying_key
from spa_server.decide.decision import Delegated, DeviceStanding, Path, Refused
from spa_server.service import PortRange, Service
from tests.protocol import make_vectors, translation, world
from tests.protocol import second_reading as second
from tests.protocol import second_reading_delegation as second_delegation
from tests.protocol import second_reading_texts as second_texts
from tests.protocol.reading import read_knock
from tests.protocol.second_reading_body import Fields
from tests.protocol.second_reading_signature import Key, Signature, Signer, authenticated, public_key
from tests.server.decide.asked import decide_by_default

Entry = dict[str, Any]

VECTORS: dict[str, Any] = json.loads(make_vectors.PATH.read_text(encoding="ascii"))
SECRETS = {name: bytes.fromhex(value) for name, value in VECTORS["secrets"].items()}
IDENTITY = SECRETS["server_identity"]
APPLICATION = VECTORS["application"]
KEYS = {
    "device": second.derive(SECRETS["gate_secret"], "device"),
    "delegate": second.derive(SECRETS["delegate_secret"], "delegate"),
    "security-key": second.derive(SECRETS["security_key_gate_secret"], "device"),
    "security-key-delegate": second.derive(SECRETS["security_key_delegate_secret"], "delegate"),
    "invite": second.derive(SECRETS["invite_secret"], "invite"),
}
DEVICES = {
    "device": Key(SECRETS["device_key"]),
    "delegate": Key(SECRETS["device_key"]),
    "security-key": Key(SECRETS["security_key"], APPLICATION),
    "security-key-delegate": Key(SECRETS["security_key"], APPLICATION),
}


def entries(part: str) -> pytest.MarkDecorator:
    """One test for each entry of a part of the file."""
    names = [
        " ".join(str(entry[key]) for key in ("kind", "channel", "by", "name", "reason", "prefix") if key in entry)
        for entry in VECTORS[part]
    ]
    return pytest.mark.parametrize("entry", VECTORS[part], ids=names)


def hexed(entry: Entry, name: str) -> bytes:
    """A value of an entry as bytes."""
    return bytes.fromhex(entry[name])


def raw(entry: Entry, *names: str) -> tuple[bytes, ...]:
    """Several."""
    return tuple(hexed(entry, name) for name in names)


def signature_of(entry: Entry) -> Signature:
    """The signature of an entry."""
    return Signature(hexed(entry, "signature"), bytes([entry["flags"]]) + entry["counter"].to_bytes(4, "big"))


def security_key(entry: Entry, application: str = APPLICATION) -> Signer:
    """The security key that made the signature of an entry."""
    return Signer(SECRETS["security_key_seed"], application, entry["flags"], entry["counter"])


def signer_of(entry: Entry, channel: str) -> Signer:
    """Who signs a knock on a channel."""
    if channel == "security-key":
        return security_key(entry)
    return Signer(SECRETS["device_seed" if channel == "device" else "delegate_seed"])


def read_certificate(data: bytes) -> second_delegation.Certificate:
    """The certificate that is all of these bytes."""
    fields = Fields(data)
    certificate = second_delegation.read_certificate(fields)
    second.require(not fields.rest, "something after the certificate")
    return certificate


def open_knock(datagram: bytes, channel: str) -> second.Knock:
    """A knock as the document has a server read it, its tag included."""
    opens = second.open_delegated_knock if "delegate" in channel else second.open_knock
    return opens(datagram, KEYS[channel], DEVICES[channel], IDENTITY)


def test_the_file_is_what_the_program_makes() -> None:
    assert make_vectors.PATH.read_text(encoding="ascii") == make_vectors.rendered()


def test_every_refusal_and_every_kind_of_message_has_a_vector() -> None:
    assert {entry["outcome"] for entry in VECTORS["answers"]} == {0, *(refusal.code for refusal in Refusal)}
    assert {entry["channel"] for entry in VECTORS["knocks"]} == set(DEVICES)
    assert {entry["flags"] for entry in (*VECTORS["knocks"], *VECTORS["certificates"])} == {0, 1, 5}
    assert {entry["action"] for entry in VECTORS["knocks"]} == {0, 1, 2, 3}
    assert {(entry["kind"], entry.get("channel")) for entry in VECTORS["refused"]} >= {
        *(("knock", channel) for channel in DEVICES),
        ("enrolment", "invite"),
        ("answer", "device"),
        *((f"{message}-body", None) for message in ("knock", "enrolment", "answer")),
        *((kind, None) for kind in ("certificate", "invite", "delegation", "signature", "spa-device")),
    }


def test_no_negative_vector_is_there_twice() -> None:
    told = [json.dumps({**entry, "reason": ""}) for entry in VECTORS["refused"]]
    assert [entry["reason"] for entry, text in zip(VECTORS["refused"], told, strict=True) if told.count(text) > 1] == []


def test_the_second_reading_derives_the_same_keys_and_public_values() -> None:
    for channel, keys in KEYS.items():
        assert {name: value.hex() for name, value in keys._asdict().items()} == VECTORS["derived"][channel]
    for seed, public in {
        "device_seed": "device_key",
        "security_key_seed": "security_key",
        "server_seed": "server_identity",
    }.items():
        assert public_key(SECRETS[seed]) == SECRETS[public]
    for own, delegates in {
        "gate_secret": "delegate_secret",
        "security_key_gate_secret": "security_key_delegate_secret",
    }.items():
        assert second_delegation.delegate_secret(SECRETS[own]) == SECRETS[delegates]
    for side in ("invite", "device"):
        assert second.exchange_public(SECRETS[f"{side}_exchange_secret"]) == SECRETS[f"{side}_exchange"]


def test_the_second_reading_computes_the_same_tags() -> None:
    for entry in VECTORS["tags"]:
        assert second.window_of(entry["kind"], entry["time_ms"]) == entry["window"]
        assert second.tag(KEYS[entry["channel"]], entry["kind"], entry["window"], entry["slot"]).hex() == entry["tag"]


def _posture(said: Entry | None) -> second.Posture | None:
    if said is None:
        return None
    names = ("disk_encrypted", "screen_lock", "firewall", "secure_boot")
    facts = tuple(("unknown", "no", "yes").index(said[name]) for name in names)
    return second.Posture(
        said["age_s"], said["source"], facts, said["patch_age_days"], said["uptime_s"], said["system"]
    )


@entries("knocks")
def test_the_second_reading_makes_and_reads_every_knock(entry: Entry) -> None:
    source = ip_address(entry["source"]) if entry["source"] else None
    certificate = read_certificate(hexed(entry, "certificate")) if entry["certificate"] else None
    knock = second.Knock(
        entry["time_ms"],
        tuple(entry["services"]),
        entry["lease_s"],
        source,
        entry["action"],
        certificate,
        _posture(entry["posture"]),
        entry["code"],
        entry["request"],
    )
    channel = entry["channel"]
    signer = signer_of(entry, channel)
    assert second.build_knock(knock, signer.key.kind).hex() == entry["body"]
    check_request("knock", entry, KEYS[channel], signer)
    assert open_knock(hexed(entry, "datagram"), channel) == knock


@entries("enrolments")
def test_the_second_reading_makes_and_reads_every_enrolment(entry: Entry) -> None:
    device_key, exchange = raw(entry, "device_key", "exchange")
    application = entry["application"]
    enrolment = second.Enrolment(entry["time_ms"], device_key, exchange, entry["label"], application)
    assert second.build_enrolment(enrolment).hex() == entry["body"]
    signer = security_key(entry, application) if application else Signer(SECRETS["device_seed"])
    check_request("enrolment", entry, KEYS["invite"], signer)
    assert second.open_enrolment(hexed(entry, "datagram"), KEYS["invite"], IDENTITY) == enrolment
    transcript = SECRETS["invite_exchange"] + exchange + device_key
    for own, peer in (("device_exchange_secret", "invite_exchange"), ("invite_exchange_secret", "device_exchange")):
        agreed = second.agree(SECRETS[own], SECRETS[peer], SECRETS["invite_secret"], transcript)
        assert (agreed.shared.hex(), agreed.gate_secret.hex()) == (entry["z"], entry["agreed_gate_secret"])


@entries("answers")
def test_the_second_reading_makes_and_reads_every_answer(entry: Entry) -> None:
    services = tuple(second.Service(*service) for service in entry["services"])
    head = bytes.fromhex(entry["request_head"])
    numbers = entry["outcome"], entry["time_ms"], ip_address(entry["seen"]), entry["seen_port"], entry["slots"]
    checkpoint = entry["checkpoint"] and (entry["checkpoint"][0], bytes.fromhex(entry["checkpoint"][1]))
    answer = second.Answer(*numbers, entry["about"], services, checkpoint)
    keys = KEYS[entry["channel"]]
    assert second.build_answer(answer).hex() == entry["body"]
    assert second.answer_tag(keys, head).hex() == entry["tag"]
    check_sealed("answer", entry, keys.answer_seal, Signer(SECRETS["server_seed"]), head)
    assert second.open_answer(hexed(entry, "datagram"), keys, IDENTITY, head) == answer


def check_request(message: str, entry: Entry, keys: second.Keys, signer: Signer) -> None:
    """The tag of an entry, and the rest of its datagram."""
    assert second.window_of(entry["kind"], entry["time_ms"]) == entry["window"]
    assert second.tag(keys, entry["kind"], entry["window"], entry["slot"]).hex() == entry["tag"]
    check_sealed(message, entry, keys.request_seal, signer)


def check_sealed(message: str, entry: Entry, seal_key: bytes, signer: Signer, context: bytes = b"") -> None:
    """Every value between body and datagram."""
    tag, nonce, body, datagram = raw(entry, "tag", "nonce", "body", "datagram")
    assert len(datagram) == 512
    assert second.seal(message, seal_key, signer, IDENTITY, tag + nonce, body, context) == datagram
    assert second.signed_bytes(message, IDENTITY, tag + nonce, context, body).hex() == entry["signed"]
    check_signature(entry, signer)
    assert second.plaintext(body, signature_of(entry)).hex() == entry["plaintext"]
    assert second.unseal(datagram, seal_key, context)[1:] == (body, signature_of(entry))
    assert (entry["additional_data"], entry["ciphertext"]) == ((tag + context).hex(), datagram[32:].hex())


def check_signature(entry: Entry, signer: Signer) -> None:
    """The signature of what was signed, and what a security key signed in its place."""
    signed = hexed(entry, "signed")
    assert signer.sign(signed) == signature_of(entry)
    if signer.application:
        assert authenticated(signer.application, signature_of(entry).proof, signed).hex() == entry["authenticated"]
    else:
        assert "authenticated" not in entry


@entries("certificates")
def test_both_readings_agree_on_every_certificate(entry: Entry) -> None:
    said = second_delegation.Certificate(
        hexed(entry, "key"),
        entry["issued_s"],
        entry["expires_s"],
        entry["delegate"],
        tuple(entry["services"]),
        signature_of(entry),
    )
    signer = security_key(entry) if entry["by"] == "security-key" else Signer(SECRETS["device_seed"])
    check_signature(entry, signer)
    assert second_delegation.signed_bytes(said, IDENTITY).hex() == entry["signed"]
    assert second_delegation.build_certificate(said).hex() == entry["certificate"]
    assert read_certificate(hexed(entry, "certificate")) == said
    second_delegation.check_certificate(said, DEVICES[entry["by"]], IDENTITY)
    product = Certificate.from_bytes(hexed(entry, "certificate"))
    assert translation.of_certificate(product) == said
    assert product.is_signed_by(world.HOLDERS[entry["by"]].device.key, IDENTITY)


@entries("judged")
def test_both_readings_judge_every_certificate_alike(entry: Entry) -> None:
    datagram, channel = hexed(entry, "datagram"), entry["channel"]
    now_ms, skew_ms, longest_s = entry["now_ms"], entry["greatest_skew_ms"], entry["longest_delegation_s"]
    said = open_knock(datagram, channel)
    assert said.certificate is not None
    code = second_delegation.refusal_code(
        said.certificate, said.services, now_ms=now_ms, skew_ms=skew_ms, longest_s=longest_s
    )
    assert (code or 0) == entry["code"]
    knock = read_knock(datagram, world.HOLDERS[channel])
    assert knock is not None
    assert knock.certificate is not None
    names = ("web", "ssh", "db")
    services = tuple(Service(name, (PortRange(443, 443),), (), frozenset({"staff"})) for name in names)
    decision = decide_by_default(
        knock,
        Path(ip_address("192.0.2.7"), ip_address("192.0.2.1")),
        DeviceStanding("alice-laptop", frozenset({"staff"}), enabled=True, key_retired=False),
        services,
        Delegated(knock.certificate, False, now_ms, longest_s, skew_ms),
    )
    assert (decision.refusal.code if isinstance(decision, Refused) else 0) == entry["code"]


@entries("texts")
def test_both_readings_agree_on_every_text(entry: Entry) -> None:
    kind = next(kind for kind in TextKind if kind.prefix == entry["prefix"])
    data = bytes.fromhex(entry["data"])
    assert second_texts.write_text(entry["prefix"], data) == entry["text"]
    for text in (entry["text"], entry["also"]):
        assert decode(kind, text) == second_texts.read_text(entry["prefix"], text) == data
        if kind is TextKind.DEVICE:
            assert translation.of_key(decode_verifying_key(text)) == second_texts.read_device_key(text)


@entries("invites")
def test_both_readings_agree_on_every_invite(entry: Entry) -> None:
    said = second_texts.Invite(
        hexed(entry, "secret"),
        hexed(entry, "server_identity"),
        hexed(entry, "exchange"),
        entry["expires_s"],
        tuple(entry["knock_ports"]),
        tuple(entry["hosts"]),
    )
    assert second_texts.build_invite(said) == entry["text"]
    for text in (entry["text"], entry["also"]):
        assert second_texts.parse_invite(text) == said
        assert Invite.parse(text) == Invite(*said)


@entries("delegations")
def test_both_readings_agree_on_every_delegation(entry: Entry) -> None:
    seed, secret, identity, certificate = raw(entry, "seed", "delegate_secret", "server_identity", "certificate")
    ports, hosts = tuple(entry["knock_ports"]), tuple(entry["hosts"])
    said = second_texts.Delegation(seed, secret, identity, read_certificate(certificate), entry["label"], ports, hosts)
    assert second_texts.build_delegation(said) == entry["text"]
    for text in (entry["text"], entry["also"]):
        assert second_texts.parse_delegation(text) == said
        assert translation.of_delegation(Delegation.parse(text)) == said
    second_delegation.check_certificate(said.certificate, DEVICES[entry["by"]], identity)
