"""The invite: all that a new device needs, in one line of text (docs/protocol.md, section 8.2)."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from ipaddress import ip_address

from spa_protocol.keys import KEY_SIZE
from spa_protocol.text import BadText, TextKind, decode, encode

INVITE_VERSION = 1
MAX_HOSTS = 4
_LABEL = r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9])?"
_HOST_NAME = re.compile(rf"(?=.{{1,253}}\Z)({_LABEL}\.)*{_LABEL}\Z")


@dataclass(frozen=True, slots=True)
class Invite:
    """What an invite's text holds.

    `secret`: the one-time gate secret of the enrolment. `server_identity`: the server's Ed25519 public key. `exchange`:
    the server's X25519 public value for this invite alone. `expires_s`: UTC seconds since 1970. `hosts`: one to four
    names or addresses of the server.
    """

    secret: bytes = field(repr=False)
    server_identity: bytes
    exchange: bytes
    expires_s: int
    knock_port: int
    hosts: tuple[str, ...]

    def text(self) -> str:
        """The invite's one line; raises ValueError for what it cannot say."""
        if not 1 <= len(self.hosts) <= MAX_HOSTS or not all(map(is_host, self.hosts)):
            raise ValueError(f"an invite names one to {MAX_HOSTS} host names or addresses")
        if {len(self.secret), len(self.server_identity), len(self.exchange)} != {KEY_SIZE}:
            raise ValueError(f"an invite holds three values of {KEY_SIZE} bytes")
        if not 0 < self.knock_port < 1 << 16 or not 0 <= self.expires_s < 1 << 64:
            raise ValueError("an invite holds a port from 1 to 65535 and a time of 64 bits")
        hosts = b"".join(bytes([len(host)]) + host.encode("ascii") for host in self.hosts)
        numbers = self.expires_s.to_bytes(8, "big") + self.knock_port.to_bytes(2, "big")
        head = bytes([INVITE_VERSION]) + self.secret + self.server_identity + self.exchange + numbers
        return encode(TextKind.INVITE, head + bytes([len(self.hosts)]) + hosts)

    @classmethod
    def parse(cls, text: str) -> Invite:
        """The invite in a text; raises BadText with a sentence for whoever pasted it."""
        data = decode(TextKind.INVITE, text.strip())
        fixed = 1 + 3 * KEY_SIZE + 8 + 2 + 1
        if not data or data[0] != INVITE_VERSION:
            raise BadText("the invite is of another version; upgrade spa-perimeter on the older side")
        if len(data) < fixed:
            raise BadText("the invite is too short")
        secret, identity, exchange = (data[1 + i * KEY_SIZE : 1 + (i + 1) * KEY_SIZE] for i in range(3))
        expires_s, port = int.from_bytes(data[97:105], "big"), int.from_bytes(data[105:107], "big")
        hosts = _read_hosts(data[fixed:], data[fixed - 1])
        if port == 0 or not 1 <= len(hosts) <= MAX_HOSTS or not all(map(is_host, hosts)):
            raise BadText("the invite names no usable server")
        return cls(secret, identity, exchange, expires_s, port, hosts)


def is_host(text: str) -> bool:
    """Whether a text is a host name or an IP address literal without a zone."""
    if _HOST_NAME.match(text) and not text.replace(".", "").isdigit():
        return True
    try:
        return "%" not in text and ip_address(text) is not None
    except ValueError:
        return False


def _read_hosts(data: bytes, count: int) -> tuple[str, ...]:
    hosts: list[str] = []
    while data:
        size = data[0]
        host = data[1 : 1 + size]
        if len(host) != size:
            raise BadText("the invite is too short")
        hosts.append(host.decode("ascii", "replace"))
        data = data[1 + size :]
    if len(hosts) != count:
        raise BadText("the invite's list of hosts is not as long as it says")
    return tuple(hosts)
