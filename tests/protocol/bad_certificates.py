"""Certificates that must be refused: in a wrong form though the device signed it, or in a right one that it did not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from spa_protocol.body import FieldWriter
from spa_protocol.delegation import Certificate
from spa_protocol.seal import Domain
from spa_protocol.signature import SeedSigner, Signature, Signer
from tests.protocol import crafting, world

DOMAIN = b"spa-perimeter v1 delegation signature\0"
ISSUED_S = world.TIME_MS // 1000 - 60
EXPIRES_S = ISSUED_S + 7260


def certificates() -> Iterator[tuple[str, str, bytes]]:
    """(whose device's it should be, reason, certificate)."""
    good = world.certificate()
    yield from (("device", reason, certificate) for reason, certificate in forms())
    yield from (("device", reason, each.to_bytes()) for reason, each in of_another())
    yield from (("security-key", reason, each.to_bytes()) for reason, each in of_another_security_key())
    data = good.to_bytes()
    yield "device", "one byte short", data[:-1]
    yield "device", "one byte long", data + b"\0"
    yield "device", "empty", b""
    for part, at in {"key": 0, "time of issue": 39, "expiry": 47, "name": 49, "service": 53, "signature": 62}.items():
        yield "device", f"a bit of the {part} flipped", data[:at] + bytes([data[at] ^ 2]) + data[at + 1 :]


def forms() -> Iterator[tuple[str, bytes]]:
    """Rightly signed by the device, and not what the document allows."""
    for reason, services in {
        "no service": (),
        "five services": (b"a", b"b", b"c", b"d", b"e"),
        "a service named twice": (b"web", b"ssh", b"web"),
        "empty service name": (b"",),
        "service name of 25 characters": (b"a" * 25,),
        "service name in upper case": (b"Web",),
        "service name that is not ASCII": ("wéb".encode(),),
    }.items():
        yield reason, raw(services=services)
    for reason, name in {
        "empty name": b"",
        "name of 25 characters": b"a" * 25,
        "name that starts with -": b"-ci",
        "name with +": b"alice+ci",
        "name with a space": b"c i",
        "name with a line feed": b"ci\n",
        "name that is not ASCII": "büro".encode(),
    }.items():
        yield reason, raw(name=name)
    yield "expiry at the time of issue", raw(issued_s=EXPIRES_S)
    yield "expiry before the time of issue", raw(issued_s=EXPIRES_S + 1)


def of_another() -> Iterator[tuple[str, Certificate]]:
    """In the right form, and not signed by the world's device for the world's server."""
    good = world.certificate()
    yield "signed by another device", world.certificate(SeedSigner(world.OTHER_DEVICE_SEED))
    yield "signed by the delegate itself", world.certificate(SeedSigner(world.DELEGATE_SEED))
    yield "signed by the server", world.certificate(SeedSigner(world.SERVER_SEED))
    yield "signed by a security key", world.certificate(world.SECURITY_KEY)
    yield "for another server", world.certificate(server_identity=world.OTHER_SERVER_IDENTITY)
    yield "not signed", replace(good, signature=Signature(bytes(64)))
    yield "flags of a plain key", replace(good, signature=replace(good.signature, flags=1))
    yield "counter of a plain key", replace(good, signature=replace(good.signature, counter=1))
    yield "for another key", replace(good, key=SeedSigner(world.OTHER_DEVICE_SEED).key.public)
    yield "runs for a second longer", replace(good, expires_s=good.expires_s + 1)
    yield "names one service more", replace(good, services=(*good.services, "db"))
    yield "names its services in another order", replace(good, services=good.services[::-1])
    yield "another name", replace(good, name="c1")
    message = good.signed_bytes(world.SERVER_IDENTITY)
    as_knock = Domain.KNOCK.value + message.removeprefix(DOMAIN)
    yield "signed as a knock", replace(good, signature=SeedSigner(world.DEVICE_SEED).sign(as_knock))
    yield "R of order 1, by the device", replace(good, signature=crafting.with_neutral_r(message))


def of_another_security_key() -> Iterator[tuple[str, Certificate]]:
    """The same where the device's key is a security key."""
    device = world.SECURITY_KEY
    good = world.certificate(device)
    for flags in (0x00, 0x04, 0x03, 0x09, 0x41, 0x81):
        yield f"flags {flags:02x}", world.certificate(replace(device, flags=flags))
    yield "another application", world.certificate(replace(device, application="ssh:other"))
    yield "another counter than was signed", replace(good, signature=replace(good.signature, counter=42))
    yield "other flags than were signed", replace(good, signature=replace(good.signature, flags=5))
    yield "signed by the same key as if it were plain", world.certificate(SeedSigner(device.seed))
    yield "signed by a plain key", world.certificate()


def raw(
    *,
    services: tuple[bytes, ...] = (b"web",),
    name: bytes = b"ci",
    issued_s: int = ISSUED_S,
    expires_s: int = EXPIRES_S,
    device: Signer = world.HOLDERS["device"].device,
    key: bytes = world.HOLDERS["delegate"].signer.key.public,
) -> bytes:
    """A certificate of any form, signed by the device."""
    writer = FieldWriter()
    writer.raw(key + issued_s.to_bytes(8, "big") + expires_s.to_bytes(8, "big"))
    writer.raw(bytes([len(name)]) + name + bytes([len(services)]))
    for service in services:
        writer.raw(bytes([len(service)]) + service)
    claims = writer.written()
    signature = device.sign(DOMAIN + world.SERVER_IDENTITY + claims)
    return claims + signature.value + signature.proof
