"""Where a server is: its knock ports and hosts, as invites and the like carry them (docs/protocol.md, 8.2)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import ip_address

from spa_protocol.body import FieldReader, FieldWriter, MalformedBody
from spa_protocol.limits import MAX_HOSTS, MAX_KNOCK_PORTS

_LABEL = r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9])?"
_HOST_NAME = re.compile(rf"(?=.{{1,253}}\Z)({_LABEL}\.)*{_LABEL}\Z")


@dataclass(frozen=True, slots=True)
class Place:
    """One to four UDP ports, the first the usual one, and one to four names or addresses of one server."""

    knock_ports: tuple[int, ...]
    hosts: tuple[str, ...]

    def check(self) -> None:
        """Raise ValueError for what cannot be said."""
        wrong = self._wrong()
        if wrong:
            raise ValueError(wrong)

    def write(self, writer: FieldWriter) -> None:
        """Its fields, up to the end of what is written; raises ValueError for what cannot be said."""
        self.check()
        writer.number(self.knock_ports[0], 2)
        writer.number(len(self.hosts), 1)
        for host in self.hosts:
            writer.text(host)
        for port in self.knock_ports[1:]:
            writer.number(port, 2)

    @classmethod
    def read(cls, reader: FieldReader) -> Place:
        """The place whose fields are all that is left; raises MalformedBody."""
        first = reader.number(2)
        hosts = tuple(reader.text() for _ in range(reader.number(1)))
        more = reader.rest()
        if len(more) % 2:
            raise MalformedBody("half a port after the hosts")
        further = (int.from_bytes(more[at : at + 2], "big") for at in range(0, len(more), 2))
        place = cls((first, *further), hosts)
        wrong = place._wrong()
        if wrong:
            raise MalformedBody(wrong)
        return place

    def _wrong(self) -> str:
        ports = self.knock_ports
        if not 1 <= len(self.hosts) <= MAX_HOSTS or not all(map(is_host, self.hosts)):
            return f"one to {MAX_HOSTS} host names or addresses are named"
        if not 1 <= len(ports) <= MAX_KNOCK_PORTS or len(set(ports)) != len(ports):
            return f"one to {MAX_KNOCK_PORTS} knock ports are named, each once"
        if not all(0 < port < 1 << 16 for port in ports):
            return "a knock port is a number from 1 to 65535"
        return ""


def is_host(text: str) -> bool:
    """Whether a text is a host name or an IP address literal without a zone."""
    if _HOST_NAME.match(text) and not text.replace(".", "").isdigit():
        return True
    try:
        return "%" not in text and ip_address(text) is not None
    except ValueError:
        return False
