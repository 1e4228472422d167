"""Datagrams that must be refused: damaged, sealed or signed for something else, or by somebody else."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from spa_protocol.delegation import Certificate
from spa_protocol.keys import ChannelKeys
from spa_protocol.knock import Knock
from spa_protocol.seal import HEAD_SIZE, Domain, answer_tag, of_kind, seal
from spa_protocol.signature import SeedSigner, SignatureKind, Signer
from spa_protocol.tag import TagKind
from tests.protocol import bad_certificates, crafting, world
from tests.protocol.crafting import Envelope, ending, of_security_key, sealed
from tests.protocol.security_key import SecurityKey

DEVICE, OTHER_DEVICE = SeedSigner(world.DEVICE_SEED), SeedSigner(world.OTHER_DEVICE_SEED)
DELEGATE, SECURITY_KEY = SeedSigner(world.DELEGATE_SEED), world.SECURITY_KEY
RAW_SECURITY_KEY = SeedSigner(SECURITY_KEY.seed)
"""The same seed, signing as no authenticator does: the message itself."""
WRONG_FLAGS = (0x00, 0x02, 0x03, 0x04, 0x07, 0x09, 0x11, 0x21, 0x41, 0x81, 0xFF)
FOR_DELEGATION = bad_certificates.DOMAIN

Named = Iterator[tuple[str, bytes]]


def datagrams() -> Iterator[tuple[str, str, str, bytes]]:
    """(kind, channel that it comes on, reason, datagram)."""
    genuine = {
        **{("knock", name): world.knock_datagram(holder=holder) for name, holder in world.HOLDERS.items()},
        ("enrolment", "invite"): world.enrolment_datagram(),
        ("answer", "device"): world.answer_datagram(),
    }
    for (kind, channel), datagram in genuine.items():
        yield from ((kind, channel, *each) for each in _damaged(datagram))
    yield "enrolment", "invite", "a knock under a device's tag is no enrolment", genuine["knock", "device"]
    yield "knock", "device", "an enrolment under an invite's tag is no knock", genuine["enrolment", "invite"]
    makers: dict[str, Callable[[], Named]] = {
        "device": _of_a_device,
        "security-key": _of_a_security_key,
        "delegate": _of_a_delegate,
        "security-key-delegate": _of_its_delegate,
    }
    for channel, make in makers.items():
        yield from (("knock", channel, *each) for each in make())
    yield from (("enrolment", "invite", *each) for each in _enrolments())
    yield from (("enrolment", "invite", f"a security key: {reason}", each) for reason, each in _of_security_keys())
    yield from (("answer", "device", *each) for each in _answers())


def _damaged(datagram: bytes) -> Named:
    yield "one byte short", datagram[:-1]
    yield "one byte long", datagram + b"\0"
    yield "empty", b""
    parts = {"tag": 0, "nonce": 8, "body": 32, "last byte of the body": 431, "signature": 432, "authenticator": 511}
    for part, at in parts.items():
        yield f"a bit of the {part} flipped", datagram[:at] + bytes([datagram[at] ^ 1]) + datagram[at + 1 :]


def _of_a_device() -> Named:
    usual = Envelope(world.DEVICE_KEYS)
    knock = Knock(world.TIME_MS, ("web",))
    body, signs = knock.body(), DEVICE.sign
    for reason, envelope in _envelopes(usual):
        yield reason, sealed(envelope, signs, body)
    for reason, keys in {"invite's": world.INVITE_KEYS, "delegates'": world.DELEGATE_KEYS}.items():
        yield f"sealed under the {reason} request seal key", sealed(_under(usual, keys), signs, body)
    yield "signed by another device", sealed(usual, OTHER_DEVICE.sign, body)
    yield "signed by the device's delegate", sealed(usual, DELEGATE.sign, body)
    yield "not signed", sealed(usual, crafting.unsigned, body)
    yield "the signature's S has the group order added", _with_order_added(sealed(usual, signs, body), usual)
    yield "the signature's R has order 1", sealed(usual, crafting.with_neutral_r, body)
    delegated = world.usual_knock(world.HOLDERS["delegate"]).body()
    yield "a certificate on the device's own channel, signed by the delegate", sealed(usual, DELEGATE.sign, delegated)
    yield "a certificate on the device's own channel, signed by the device", sealed(usual, signs, delegated)
    as_security_key = SecurityKey(world.DEVICE_SEED).sign
    yield "signed by a security key", sealed(usual, SECURITY_KEY.sign, of_security_key(knock))
    yield "a plain key that signs as a security key does", sealed(usual, as_security_key, of_security_key(knock))
    yield "kind 2, signed as a plain key does", sealed(usual, signs, of_security_key(knock))
    yield "kind 1, signed as a security key does", sealed(usual, as_security_key, body)
    yield "the last 5 bytes are signed, and not zero", sealed(usual, signs, ending(body, 1, 41))
    yield "the last 5 bytes are signed as zeros, and are not", sealed(usual, signs, body, ending(body, 0, 1))


def _of_a_security_key() -> Named:
    usual = Envelope(world.HOLDERS["security-key"].keys)
    knock = Knock(world.TIME_MS, ("web",))
    body, plain, signs = of_security_key(knock), knock.body(), SECURITY_KEY.sign
    for reason, envelope in _envelopes(usual):
        yield reason, sealed(envelope, signs, body)
    yield from _wrongly_signed(usual, body)
    yield "another security key of the application", sealed(usual, SecurityKey(world.OTHER_DEVICE_SEED).sign, body)
    yield "signed as a plain key does, kind 1", sealed(usual, RAW_SECURITY_KEY.sign, plain)
    yield "kind 1, signed as a security key does", sealed(usual, signs, plain)
    yield "kind 1, signed as a security key does, flags sent", sealed(usual, signs, plain, ending(plain, 1, 41))
    of_kind_3 = body[:2] + b"\3" + body[3:]
    yield "kind 3", sealed(usual, signs, of_kind_3, ending(of_kind_3, 1, 41))
    delegated = of_security_key(replace(knock, certificate=world.certificate(SECURITY_KEY)))
    yield "a certificate on the device's own channel, signed by the device", sealed(usual, signs, delegated)
    yield "the signature's S has the group order added", _with_order_added(sealed(usual, signs, body), usual)


def _wrongly_signed(usual: Envelope, body: bytes) -> Named:
    """Bodies of kind 2 of the world's security key whose signature is not what it would make when touched."""
    for flags in WRONG_FLAGS:
        yield f"flags {flags:02x}", sealed(usual, replace(SECURITY_KEY, flags=flags).sign, body)
    signs = SECURITY_KEY.sign
    yield "another application", sealed(usual, crafting.for_application(b"ssh:other"), body)
    yield "another counter than was signed", sealed(usual, signs, body, ending(body, 1, 42))
    yield "other flags than were signed", sealed(usual, signs, body, ending(body, 5, 41))
    yield "neither flags nor counter", sealed(usual, signs, body, body)
    yield "flags and counter are signed in the body too", sealed(usual, signs, ending(body, 1, 41))
    yield "signed as a plain key does", sealed(usual, RAW_SECURITY_KEY.sign, body, ending(body, 1, 41))
    yield "the message is not hashed", sealed(usual, crafting.unhashed, body)


def _of_a_delegate() -> Named:
    usual = Envelope(world.DELEGATE_KEYS)
    good = world.usual_knock(world.HOLDERS["delegate"])
    body, bare, signs = good.body(), replace(good, certificate=None).body(), DELEGATE.sign
    for reason, envelope in _envelopes(usual):
        yield reason, sealed(envelope, signs, body)
    yield "under a clock tag", sealed(replace(usual, tag_kind=TagKind.CLOCK), signs, body)
    yield "sealed under the device's request seal key", sealed(_under(usual, world.DEVICE_KEYS), signs, body)
    yield "no certificate, signed by the device", sealed(usual, DEVICE.sign, bare)
    yield "no certificate, signed by the delegate", sealed(usual, signs, bare)
    yield "signed by the device", sealed(usual, DEVICE.sign, body)
    yield "signed by another device", sealed(usual, OTHER_DEVICE.sign, body)
    yield "not signed", sealed(usual, crafting.unsigned, body)
    as_security_key = SecurityKey(world.DELEGATE_SEED).sign
    yield "signed as a security key does, kind 2", sealed(usual, as_security_key, of_security_key(good))
    yield "signed as a plain key does, kind 2", sealed(usual, signs, of_security_key(good))
    closing = body[:3] + b"\1" + body[4:]
    yield "close with a lease", sealed(usual, signs, closing)
    for reason, certificate in bad_certificates.of_another():
        yield f"certificate: {reason}", _delegated(usual, certificate)
    before = bare.rstrip(b"\0")
    nobodys = bad_certificates.raw(key=crafting.NEUTRAL_POINT)
    yield "the delegate's key has order 1", sealed(usual, crafting.by_nobody, before + b"\1" + nobodys)
    another = bad_certificates.raw(key=OTHER_DEVICE.key.public)
    two = world.certificate().to_bytes() + another
    for announced in (1, 2):
        for whose, each in {"first": DELEGATE, "second": OTHER_DEVICE}.items():
            reason = f"two certificates, {announced} announced, signed by the {whose}'s key"
            yield reason, sealed(usual, each.sign, before + bytes([announced]) + two)


def _of_its_delegate() -> Named:
    usual = Envelope(world.HOLDERS["security-key-delegate"].keys)
    for reason, certificate in bad_certificates.of_another_security_key():
        yield f"certificate: {reason}", _delegated(usual, certificate)
    good = world.usual_knock(world.HOLDERS["security-key-delegate"])
    yield "signed by the security key itself", sealed(usual, SECURITY_KEY.sign, of_security_key(good))


def _enrolments() -> Named:
    usual = Envelope(world.INVITE_KEYS, Domain.ENROLMENT.value)
    body, signs = world.enrolment().body(), DEVICE.sign
    for reason, envelope in _envelopes(usual):
        yield reason, sealed(envelope, signs, body)
    yield "signed by another key than it names", sealed(usual, OTHER_DEVICE.sign, body)
    yield "the last 5 bytes are signed, and not zero", sealed(usual, signs, ending(body, 1, 41))
    nobodys = replace(world.enrolment(), device_key=crafting.NEUTRAL_POINT).body()
    yield "the device's key has order 1", sealed(usual, crafting.by_nobody, nobodys)


def _of_security_keys() -> Named:
    usual = Envelope(world.INVITE_KEYS, Domain.ENROLMENT.value)
    body = of_kind(world.enrolment(SECURITY_KEY.key).body(), SignatureKind.SK_ED25519)
    yield from _wrongly_signed(usual, body)
    yield "signed by another", sealed(usual, SecurityKey(world.OTHER_DEVICE_SEED).sign, body)
    plain = of_kind(body, SignatureKind.ED25519)
    yield "kind 1, signed as a plain key does", sealed(usual, RAW_SECURITY_KEY.sign, plain)
    yield "kind 1, signed as a security key does", sealed(usual, SECURITY_KEY.sign, plain, ending(plain, 1, 41))
    bare = of_kind(world.enrolment(RAW_SECURITY_KEY.key).body(), SignatureKind.SK_ED25519)
    yield "no application", sealed(usual, crafting.for_application(b""), bare)
    yield "no application, signed as a plain key does", sealed(usual, RAW_SECURITY_KEY.sign, bare)
    before = body[: 77 + len("alice-laptop")]
    for reason, application in {
        "without ssh:": b"office",
        "of 65 characters": b"ssh:" + b"a" * 61,
        "with a control character": b"ssh:\n",
        "with DEL": b"ssh:\x7f",
        "that is not ASCII": "ssh:büro".encode(),
    }.items():
        named = before + bytes([len(application)]) + application
        yield f"application {reason}", sealed(usual, crafting.for_application(application), named)


def _answers() -> Named:
    head, other_head = world.knock_datagram()[:HEAD_SIZE], world.knock_datagram(slot=1)[:HEAD_SIZE]
    server = SeedSigner(world.SERVER_SEED)
    yield "answers another request", _answer_to(other_head, server)
    yield "signed by another server", _answer_to(head, SeedSigner(world.OTHER_SERVER_SEED))
    yield "signed by the device", _answer_to(head, DEVICE)
    yield "signed as a security key does, with the server's seed", _answer_to(head, SecurityKey(world.SERVER_SEED))
    yield "sealed on the delegates' channel", _answer_to(head, server, world.DELEGATE_KEYS)


def _answer_to(head: bytes, signer: Signer, keys: ChannelKeys = world.DEVICE_KEYS) -> bytes:
    return seal(
        seal_key=keys.answer_seal,
        signer=signer,
        domain=Domain.ANSWER,
        server_identity=world.SERVER_IDENTITY,
        tag=answer_tag(keys, head),
        nonce=world.nonce("bad answer"),
        body=of_kind(world.answer().body(), signer.key.kind),
        context=head,
    )


def _envelopes(usual: Envelope) -> Iterator[tuple[str, Envelope]]:
    """Whatever is wrong about a request besides its body and its signer."""
    domains = {**{domain.name.lower(): domain.value for domain in Domain}, "delegation": FOR_DELEGATION}
    for name, domain in domains.items():
        if domain != usual.domain:
            yield f"signed as {name}", replace(usual, domain=domain)
    yield "signed without a domain", replace(usual, domain=b"")
    yield "signed for another server", replace(usual, identity=world.OTHER_SERVER_IDENTITY)
    yield "sealed under the answer seal key", replace(usual, seal_key=usual.keys.answer_seal)
    for reason, later in (("after", 1), ("before", -1)):
        wrong = f"the tag is that of the window {reason} the time in the body"
        yield wrong, replace(usual, windows_later=later)


def _under(usual: Envelope, other: ChannelKeys) -> Envelope:
    return replace(usual, seal_key=other.request_seal)


def _delegated(usual: Envelope, certificate: Certificate) -> bytes:
    body = Knock(world.TIME_MS, ("web",), certificate=certificate).body()
    signs = OTHER_DEVICE.sign if certificate.key == OTHER_DEVICE.key.public else DELEGATE.sign
    return sealed(usual, signs, body)


def _with_order_added(datagram: bytes, usual: Envelope) -> bytes:
    return crafting.with_order_added(datagram, usual.keys.request_seal)
