"""Delegations: what the device signed, for that server, key, name, services and time, and nothing else."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spa_protocol.body import MalformedBody
from spa_protocol.delegation import MAX_DELEGATED, Certificate, delegate_secret, issue
from spa_protocol.delegation_text import Delegation
from spa_protocol.keys import Channel, derive
from spa_protocol.knock import Knock
from spa_protocol.seal import Domain
from spa_protocol.signature import Signature, Signer
from spa_protocol.text import BadText, TextKind, decode, encode
from spa_server.decide.decision import Delegated, DeviceStanding, Path, Refused
from spa_server.service import PortRange, Service
from tests.protocol import second_reading_delegation as second
from tests.protocol import translation, world
from tests.protocol.reading import read_knock
from tests.protocol.strategies import certificates, delegations, signers
from tests.server.decide.asked import decide_by_default

CERTIFICATE = world.certificate()
TEXT = world.delegation("gate.example.org", "192.0.2.1").text()
_names = ("a", "b", "c", "d")


@given(certificates)
def test_a_certificate_reads_back_as_what_was_written(certificate: Certificate) -> None:
    assert Certificate.from_bytes(certificate.to_bytes()) == certificate


@given(delegations)
def test_a_delegation_reads_back_as_what_was_written(delegation: Delegation) -> None:
    text = delegation.text()
    assert text == text.upper()
    assert Delegation.parse(text) == Delegation.parse(f" {text.lower()}\n") == delegation


@pytest.mark.parametrize("device", [world.HOLDERS["device"].device, world.SECURITY_KEY], ids=["plain", "security key"])
def test_every_flip_of_a_bit_of_a_certificate_voids_it(device: Signer) -> None:
    data = world.certificate(device).to_bytes()
    assert Certificate.from_bytes(data).is_signed_by(device.key, world.SERVER_IDENTITY)
    for at in range(len(data)):
        for bit in range(8):
            try:
                read = Certificate.from_bytes(data[:at] + bytes([data[at] ^ 1 << bit]) + data[at + 1 :])
            except MalformedBody:
                continue
            assert not read.is_signed_by(device.key, world.SERVER_IDENTITY)


def test_a_certificate_is_cut_nowhere_and_nothing_may_follow_it() -> None:
    data = CERTIFICATE.to_bytes()
    for size in range(len(data)):
        with pytest.raises(MalformedBody):
            Certificate.from_bytes(data[:size])
    with pytest.raises(MalformedBody):
        Certificate.from_bytes(data + b"\0")


@given(certificates, signers, signers)
def test_a_certificate_is_its_own_devices_alone(certificate: Certificate, device: Signer, other: Signer) -> None:
    signed = _issued(certificate, device)
    assert signed.is_signed_by(device.key, world.SERVER_IDENTITY)
    assert not signed.is_signed_by(device.key, world.OTHER_SERVER_IDENTITY)
    if other.key != device.key:
        assert not signed.is_signed_by(other.key, world.SERVER_IDENTITY)


@given(certificates, certificates)
def test_a_signature_is_for_one_certificate(one: Certificate, other: Certificate) -> None:
    device = world.HOLDERS["device"].device
    signature = _issued(one, device).signature
    moved = replace(other, signature=signature)
    if replace(one, signature=signature) != moved:
        assert not moved.is_signed_by(device.key, world.SERVER_IDENTITY)


def test_what_is_signed_to_delegate_is_nothing_that_is_signed_to_knock_enrol_or_answer() -> None:
    signed = CERTIFICATE.signed_bytes(world.SERVER_IDENTITY)
    assert signed.startswith(second.DOMAIN)
    domains = [second.DOMAIN, *(domain.value for domain in Domain)]
    for one in domains:
        assert one.endswith(b"\0")
        assert one.count(b"\0") == 1
        assert not any(other.startswith(one) for other in domains if other != one)


def test_the_delegates_secret_is_neither_the_devices_nor_a_key_of_it() -> None:
    secret = delegate_secret(world.GATE_SECRET)
    assert secret == second.delegate_secret(world.GATE_SECRET)
    channels = [derive(world.GATE_SECRET, channel) for channel in Channel]
    of_device = {getattr(keys, name) for keys in channels for name in keys.__slots__}
    assert secret not in of_device | {world.GATE_SECRET}
    of_delegates = {getattr(derive(secret, Channel.DELEGATE), name) for name in channels[0].__slots__}
    assert not of_device & of_delegates


def test_a_delegate_cannot_delegate() -> None:
    delegate = world.HOLDERS["delegate"].signer
    by_the_delegate = world.certificate(delegate)
    knock = replace(world.usual_knock(world.HOLDERS["delegate"]), certificate=by_the_delegate)
    assert read_knock(world.knock_datagram(knock, world.HOLDERS["delegate"]), world.HOLDERS["delegate"]) is None


def test_a_certificate_of_one_device_is_void_on_the_channel_of_another() -> None:
    for own, other in (("delegate", "security-key-delegate"), ("security-key-delegate", "delegate")):
        knock = world.usual_knock(world.HOLDERS[own])
        assert read_knock(world.knock_datagram(knock, world.HOLDERS[own]), world.HOLDERS[own]) == knock
        assert read_knock(world.knock_datagram(knock, world.HOLDERS[other]), world.HOLDERS[other]) is None


_near_s = st.integers(-200, 200)
_some_names = st.lists(st.sampled_from(_names), max_size=MAX_DELEGATED, unique=True).map(tuple)


@given(_near_s, st.integers(1, 300), _some_names.filter(bool), _some_names, st.integers(0, 999), st.integers(1, 250))
def test_both_readings_judge_the_time_and_the_services_of_a_certificate_alike(
    begins_s: int, runs_s: int, named: tuple[str, ...], wanted: tuple[str, ...], ms: int, longest_s: int
) -> None:
    issued_s = world.TIME_MS // 1000 + begins_s
    by = replace(CERTIFICATE, services=named, issued_s=issued_s, expires_s=issued_s + runs_s)
    now_ms = world.TIME_MS // 1000 * 1000 + ms
    services = tuple(Service(name, (PortRange(443, 443),), (), frozenset({"staff"})) for name in _names)
    decision = decide_by_default(
        Knock(now_ms, wanted, 300, ip_address("192.0.2.7"), certificate=by),
        Path(ip_address("192.0.2.7"), ip_address("192.0.2.1")),
        DeviceStanding("alice-laptop", frozenset({"staff"}), enabled=True, key_retired=False),
        services,
        Delegated(by, False, now_ms, longest_s, 60_000),
    )
    said = translation.of_certificate(by)
    code = second.refusal_code(said, wanted, now_ms=now_ms, skew_ms=60_000, longest_s=longest_s)
    if isinstance(decision, Refused):
        assert decision.refusal.code == code
    else:
        assert code is None
        assert {each.service.name for each in decision.services} == set(wanted or named)
        assert all(now_ms + each.lease_s * 1000 <= by.expires_s * 1000 for each in decision.services)


def test_every_flip_of_a_bit_of_a_delegations_text_is_refused() -> None:
    for at, character in enumerate(TEXT):
        for bit in range(8):
            with pytest.raises(BadText):
                Delegation.parse(TEXT[:at] + chr(ord(character) ^ 1 << bit) + TEXT[at + 1 :])


def test_every_truncation_of_a_delegations_text_is_refused_from_either_end() -> None:
    for at in range(len(TEXT)):
        for cut in (TEXT[:at], TEXT[at + 1 :]):
            with pytest.raises(BadText):
                Delegation.parse(cut)


def test_a_delegations_seed_is_that_of_its_certificates_key() -> None:
    data = bytearray(decode(TextKind.DELEGATION, TEXT))
    for at in range(1, 33):
        other = bytes([*data[:at], data[at] ^ 1, *data[at + 1 :]])
        with pytest.raises(BadText, match="key is not the one"):
            Delegation.parse(encode(TextKind.DELEGATION, other))


def test_what_a_delegations_text_held_is_in_no_error() -> None:
    for bad in (TEXT[:-1], TEXT + "Q", TEXT.replace("G", "g", 1), TEXT[:-3] + "QQQ", TEXT * 3):
        with pytest.raises(BadText) as caught:
            Delegation.parse(bad)
        assert TEXT[20:40] not in str(caught.value).upper()


def test_a_delegation_shows_no_secret_where_it_is_printed() -> None:
    shown = repr(world.delegation())
    for secret in (world.DELEGATE_SEED, world.DELEGATE_SECRET):
        assert repr(secret)[2:-1] not in shown


@pytest.mark.parametrize(
    "delegation",
    [
        replace(world.delegation(), seed=world.OTHER_DEVICE_SEED),
        replace(world.delegation(), seed=b"short"),
        replace(world.delegation(), gate_secret=b"short"),
        replace(world.delegation(), server_identity=b""),
        replace(world.delegation(), label=""),
        replace(world.delegation(), label="alice+ci"),
        replace(world.delegation(), knock_ports=()),
        replace(world.delegation(), knock_ports=(1, 1)),
        replace(world.delegation(), knock_ports=(1, 2, 3, 4, 5)),
        replace(world.delegation(), knock_ports=(0,)),
        replace(world.delegation(), knock_ports=(1, 65_536)),
        replace(world.delegation(), hosts=()),
        replace(world.delegation(), hosts=("gate.",)),
        replace(world.delegation(), hosts=("a" * 60 + "." + "b" * 60,) * 4),
    ],
)
def test_a_delegation_says_nothing_that_would_not_be_read_back(delegation: Delegation) -> None:
    with pytest.raises(ValueError, match=r".+"):
        delegation.text()


@pytest.mark.parametrize("wrong", [{"services": ()}, {"name": ""}, {"expires_s": 0}, {"key": b""}], ids=str)
def test_nothing_is_signed_that_no_server_would_read(wrong: dict[str, object]) -> None:
    fields = {"key": CERTIFICATE.key, "name": "ci", "services": ("web",), "issued_s": 0, "expires_s": 1, **wrong}
    with pytest.raises(ValueError, match=r".+"):
        issue(_Untouchable(), world.SERVER_IDENTITY, **fields)  # type: ignore[arg-type] # the wrong ones among them


class _Untouchable:
    """A signer that nobody may ask."""

    key = world.HOLDERS["device"].device.key
    every_time = True

    def sign(self, _: bytes) -> Signature:
        raise AssertionError("it was asked to sign")


def _issued(certificate: Certificate, device: Signer) -> Certificate:
    return issue(
        device,
        world.SERVER_IDENTITY,
        key=certificate.key,
        name=certificate.name,
        services=certificate.services,
        issued_s=certificate.issued_s,
        expires_s=certificate.expires_s,
    )
