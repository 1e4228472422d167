"""Texts that must be refused: keys, invites, delegations (docs/protocol.md, section 8)."""

from __future__ import annotations

from collections.abc import Iterator

from spa_protocol.keys import exchange_public
from spa_protocol.text import TextKind, encode
from tests.protocol import bad_certificates, world

PORT = b"\xf2\xf9"
GATE = b"\4gate"


def texts() -> Iterator[tuple[str, str, str]]:
    """(kind or prefix, reason, text)."""
    yield from _keys()
    yield from (("invite", reason, text) for reason, text in _invites())
    yield from (("delegation", reason, text) for reason, text in _delegations())


def _keys() -> Iterator[tuple[str, str, str]]:
    device = encode(TextKind.DEVICE, world.DEVICE_KEY)
    secret = encode(TextKind.GATE_SECRET, world.GATE_SECRET)
    yield "spa-device", "empty", ""
    yield "spa-device", "prefix alone", "spa-device1"
    yield "spa-device", "another prefix", encode(TextKind.SERVER, world.DEVICE_KEY)
    yield "spa-device", "last character lost", device[:-1]
    yield "spa-device", "mixed case", device.replace("s", "S", 1)
    yield "spa-device", "a character that is not of the set", device[:20] + "b" + device[21:]
    yield "spa-device", "two characters exchanged", device[:20] + device[21] + device[20] + device[22:]
    yield "spa-device", "the checksum of Bech32, not Bech32m", _with_checksum("spa-device", world.DEVICE_KEY, 1)
    yield "spa-device", "31 bytes", encode(TextKind.DEVICE, world.DEVICE_KEY[:31])
    yield "spa-device", "33 bytes", encode(TextKind.DEVICE, world.DEVICE_KEY + b"\0")
    for reason, application in {
        "application that starts with SSH:": b"SSH:",
        "application without ssh:": b"office",
        "application that is cut short": b"ssh",
        "application of 65 characters": b"ssh:" + b"a" * 61,
        "application with a control character": b"ssh:\n",
        "application with DEL": b"ssh:\x7f",
        "application with NUL": b"ssh:\0",
        "application that is not ASCII": "ssh:büro".encode(),
    }.items():
        yield "spa-device", reason, encode(TextKind.DEVICE, world.SECURITY_KEY.key.public + application)
    yield "spa-device", "left-over bits that are not zero", _with_checksum("spa-device", world.DEVICE_KEY, left_over=1)
    yield "spa-device", "six left-over bits", _with_checksum("spa-device", world.DEVICE_KEY, more=[0, 0])
    yield "spa-device", "more than 1000 characters", "spa-device1" + "q" * 990
    yield "spa-gate-secret", "a secret key is no gate secret", encode(TextKind.SECRET_KEY, world.DEVICE_SEED)
    yield "spa-gate-secret", "one letter in lower case", secret[:30] + secret[30:].replace("S", "s", 1)


def _with_checksum(
    prefix: str, data: bytes, constant: int = 0x2BC830A3, left_over: int = 0, more: list[int] | None = None
) -> str:
    """A text with a right checksum over data that no writer would write, or with another constant."""
    alphabet = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
    bits = int.from_bytes(data, "big") << (-len(data) * 8 % 5) | left_over
    values = [bits >> 5 * at & 31 for at in reversed(range((len(data) * 8 + 4) // 5))] + (more or [])
    state = 1
    for value in [*(ord(c) >> 5 for c in prefix), 0, *(ord(c) & 31 for c in prefix), *values, *[0] * 6]:
        top, state = state >> 25, (state & 0x1FFFFFF) << 5 ^ value
        for i, generator in enumerate((0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)):
            state ^= generator * (top >> i & 1)
    values += [(state ^ constant) >> shift & 31 for shift in (25, 20, 15, 10, 5, 0)]
    return f"{prefix}1{''.join(alphabet[value] for value in values)}"


def _invites() -> Iterator[tuple[str, str]]:
    fixed = (
        b"\1" + world.INVITE_SECRET + world.SERVER_IDENTITY + exchange_public(world.INVITE_EXCHANGE_SECRET) + bytes(8)
    )
    good = fixed + PORT + b"\1" + GATE
    text = encode(TextKind.INVITE, good)
    yield "last character lost", text[:-1]
    yield "one character changed", text[:40] + ("q" if text[40] != "q" else "p") + text[41:]
    for reason, data in {
        "empty": b"",
        "version 0": b"\0" + good[1:],
        "version 2": b"\2" + good[1:],
        "shorter than its fixed part": good[:107],
        **{reason: fixed + place for reason, place in _places()},
    }.items():
        yield reason, encode(TextKind.INVITE, data)


def _delegations() -> Iterator[tuple[str, str]]:
    head = b"\1" + world.DELEGATE_SEED + world.DELEGATE_SECRET + world.SERVER_IDENTITY
    certificate = world.certificate().to_bytes()
    label = b"\x0calice-laptop"
    fixed = head + certificate + label
    place = PORT + b"\1" + GATE
    good = fixed + place
    text = encode(TextKind.DELEGATION, good)
    another_seed = head[:1] + world.OTHER_DEVICE_SEED + head[33:]
    yield "last character lost", text[:-1]
    yield "one letter in lower case", text[:30] + text[30:].replace("S", "s", 1)
    yield "an invite's prefix", encode(TextKind.INVITE, good)
    for reason, data in {
        "empty": b"",
        "version 0": b"\0" + good[1:],
        "version 2": b"\2" + good[1:],
        "the seed is another key's than the certificate's": another_seed + certificate + label + place,
        "no label": head + certificate + b"\0" + place,
        "label of 64 characters": head + certificate + b"\x40" + b"a" * 64 + place,
        "label that starts with -": head + certificate + b"\2-a" + place,
        "label with +": head + certificate + b"\x08alice+ci" + place,
        "nothing after the certificate": head + certificate,
        "nothing after the label": fixed,
        "the certificate is cut short": head + certificate[:-1],
        **{f"certificate: {reason}": head + each + label + place for reason, each in bad_certificates.forms()},
        **{reason: fixed + place for reason, place in _places()},
    }.items():
        yield reason, encode(TextKind.DELEGATION, data)


def _places() -> Iterator[tuple[str, bytes]]:
    """Knock ports and hosts, as both kinds of text end with them."""
    good = PORT + b"\1" + GATE
    yield from {
        "no hosts": PORT + b"\0",
        "five hosts": PORT + b"\5" + GATE * 5,
        "fewer hosts than it holds": PORT + b"\1" + GATE * 2,
        "more hosts than it holds": PORT + b"\2" + GATE,
        "a host that runs past the end": PORT + b"\1" + b"\5gate",
        "knock port 0": bytes(2) + b"\1" + GATE,
        "half a further port": good + b"\1",
        "two and a half further ports": good + b"\0\1\0\2\0",
        "further port 0": good + bytes(2),
        "a further port that is the first": good + PORT,
        "a further port named twice": good + b"\0\1\0\1",
        "five ports": good + b"\0\1\0\2\0\3\0\4",
        "empty host": PORT + b"\1\0",
        "host with a trailing dot": PORT + b"\1\5gate.",
        "host that is not ASCII": PORT + b"\1\5b\xc3\xbcro",
        "address with a zone": PORT + b"\1\x09fe80::1%1",
        "address of five octets": PORT + b"\1\x091.2.3.4.5",
        "address with a port": PORT + b"\1\x0c192.0.2.1:44",
        "address in brackets": PORT + b"\1\5[::1]",
        "address with a leading zero": PORT + b"\1\x0a192.0.2.01",
    }.items()
