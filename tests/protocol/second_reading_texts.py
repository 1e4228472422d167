"""Section 8 of docs/protocol.md read a second time: text forms, invites and delegations.

It imports no line of the project.
"""

from __future__ import annotations

import re
from ipaddress import IPv6Address, ip_address
from typing import NamedTuple

from tests.protocol.second_reading_body import Fields, Refused, is_label, require
from tests.protocol.second_reading_body import write_text as body_text
from tests.protocol.second_reading_delegation import Certificate, build_certificate, read_certificate
from tests.protocol.second_reading_signature import Key, is_application, public_key

ALPHABET = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
GENERATOR = [0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3]
SECRET = ("spa-secret-key", "spa-gate-secret", "spa-delegation")


def _checksum(prefix: str, values: list[int]) -> int:
    state = 1
    for value in [*(ord(c) >> 5 for c in prefix), 0, *(ord(c) & 31 for c in prefix), *values]:
        top, state = state >> 25, (state & 0x1FFFFFF) << 5 ^ value
        for i in range(5):
            state ^= GENERATOR[i] * (top >> i & 1)
    return state


def write_text(prefix: str, data: bytes) -> str:
    """8.1, from bytes: by way of one long string of bits."""
    bits = "".join(f"{byte:08b}" for byte in data)
    bits += "0" * (-len(bits) % 5)
    values = [int(bits[i : i + 5], 2) for i in range(0, len(bits), 5)]
    check = _checksum(prefix, [*values, 0, 0, 0, 0, 0, 0]) ^ 0x2BC830A3
    values += [check >> shift & 31 for shift in (25, 20, 15, 10, 5, 0)]
    text = f"{prefix}1{''.join(ALPHABET[value] for value in values)}"
    return text.upper() if prefix in SECRET else text


def read_text(prefix: str, text: str) -> bytes:
    """8.1, to bytes."""
    text = text.strip()
    require(len(text) <= 1000 and text.isascii() and text in (text.lower(), text.upper()), "length or case")
    match = re.fullmatch(rf"{prefix}1([{ALPHABET}]{{6,}})", text.lower())
    if match is None:
        raise Refused("prefix or characters")
    values = [ALPHABET.index(character) for character in match[1]]
    require(_checksum(prefix, values) == 0x2BC830A3, "checksum")
    bits = "".join(f"{value:05b}" for value in values[:-6])
    whole = len(bits) // 8 * 8
    require(len(bits) - whole < 5 and "1" not in bits[whole:], "left-over bits")
    return bytes(int(bits[i : i + 8], 2) for i in range(0, whole, 8))


def write_device_key(key: Key) -> str:
    """The text of a device's public key."""
    return write_text("spa-device", key.public + key.application.encode("ascii"))


def read_device_key(text: str) -> Key:
    """The public key in a text."""
    data = read_text("spa-device", text)
    require(len(data) >= 32 and data[32:].isascii(), "size, or an application that is not ASCII")
    key = Key(data[:32], data[32:].decode("ascii"))
    require(not key.application or is_application(key.application), "application")
    return key


class Invite(NamedTuple):
    """8.2."""

    secret: bytes
    server_identity: bytes
    exchange: bytes
    expires_s: int
    knock_ports: tuple[int, ...]
    hosts: tuple[str, ...]


def build_invite(invite: Invite) -> str:
    """The text of an invite."""
    head = b"\1" + b"".join(invite[:3]) + invite.expires_s.to_bytes(8, "big")
    return write_text("spa-invite", head + _write_place(invite.knock_ports, invite.hosts))


def parse_invite(text: str) -> Invite:
    """The invite in a text."""
    fields = Fields(read_text("spa-invite", text))
    require(fields.number(1) == 1, "version")
    secret, identity, exchange, expires_s = fields.take(32), fields.take(32), fields.take(32), fields.number(8)
    return Invite(secret, identity, exchange, expires_s, *_read_place(fields))


class Delegation(NamedTuple):
    """8.3."""

    seed: bytes
    delegate_secret: bytes
    server_identity: bytes
    certificate: Certificate
    label: str
    knock_ports: tuple[int, ...]
    hosts: tuple[str, ...]


def build_delegation(delegation: Delegation) -> str:
    """The text of a delegation."""
    head = b"\1" + b"".join(delegation[:3]) + build_certificate(delegation.certificate)
    place = _write_place(delegation.knock_ports, delegation.hosts)
    return write_text("spa-delegation", head + body_text(delegation.label) + place)


def parse_delegation(text: str) -> Delegation:
    """The delegation in a text."""
    fields = Fields(read_text("spa-delegation", text))
    require(fields.number(1) == 1, "version")
    seed, secret, identity = fields.take(32), fields.take(32), fields.take(32)
    certificate, label = read_certificate(fields), fields.text()
    require(public_key(seed) == certificate.key and is_label(label), "seed of another key, or label")
    return Delegation(seed, secret, identity, certificate, label, *_read_place(fields))


def _write_place(ports: tuple[int, ...], hosts: tuple[str, ...]) -> bytes:
    first, *further = (port.to_bytes(2, "big") for port in ports)
    return first + bytes([len(hosts)]) + b"".join(map(body_text, hosts)) + b"".join(further)


def _read_place(fields: Fields) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """Knock ports and hosts, which go on to the end."""
    ports, count = [fields.number(2)], fields.number(1)
    require(1 <= count <= 4, "number of hosts")
    hosts = tuple(fields.text() for _ in range(count))
    require(all(map(_is_host, hosts)), "hosts")
    while fields.rest:
        ports.append(fields.number(2))
    require(all(ports) and len(set(ports)) == len(ports) <= 4, "ports")
    return tuple(ports), hosts


def _is_host(text: str) -> bool:
    try:
        address = ip_address(text)
    except ValueError:
        labels = text.split(".")
        fine = all(re.fullmatch("[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9])?", label) for label in labels)
        return fine and len(text) <= 253 and re.fullmatch("[0-9.]+", text) is None
    return not (isinstance(address, IPv6Address) and address.scope_id)
