"""Section 8 of docs/protocol.md read a second time: text forms and the invite. It imports no line of the project."""

from __future__ import annotations

import re
import struct
from ipaddress import IPv6Address, ip_address
from typing import NamedTuple

from tests.protocol.second_reading_body import Refused, require

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
    hosts = b"".join(bytes([len(host)]) + host.encode() for host in invite.hosts)
    numbers = struct.pack(">QHB", invite.expires_s, invite.knock_ports[0], len(invite.hosts))
    further = b"".join(port.to_bytes(2, "big") for port in invite.knock_ports[1:])
    return write_text("spa-invite", b"\1" + b"".join(invite[:3]) + numbers + hosts + further)


def parse_invite(text: str) -> Invite:
    """The invite in a text."""
    data = read_text("spa-invite", text)
    require(len(data) >= 108 and data[0] == 1, "version or length")
    expires_s, port, count = struct.unpack(">QHB", data[97:108])
    hosts, rest = [], data[108:]
    for _ in range(count):
        require(rest and len(rest) > rest[0], "host past the end")
        hosts.append(rest[1 : 1 + rest[0]])
        rest = rest[1 + rest[0] :]
    require(1 <= count <= 4 and all(map(_is_host, hosts)), "hosts")
    require(len(rest) in (0, 2, 4, 6), "further ports")
    ports = (port, *(int.from_bytes(rest[at : at + 2], "big") for at in range(0, len(rest), 2)))
    require(all(ports) and len(set(ports)) == len(ports), "ports")
    names = tuple(host.decode("ascii") for host in hosts)
    return Invite(data[1:33], data[33:65], data[65:97], expires_s, ports, names)


def _is_host(host: bytes) -> bool:
    if not host.isascii():
        return False
    text = host.decode("ascii")
    try:
        address = ip_address(text)
    except ValueError:
        labels = text.split(".")
        fine = all(re.fullmatch("[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9])?", label) for label in labels)
        return fine and len(text) <= 253 and re.fullmatch("[0-9.]+", text) is None
    return not (isinstance(address, IPv6Address) and address.scope_id)
