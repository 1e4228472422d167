"""Which live ssh sessions a perimeter would close the port of: so that nobody locks themself out unknowingly.

It must not know what is done about it.

Sources: sshd(8) for SSH_CONNECTION ("client port server port"); proc(5) for the environment of parents, which sudo
hides from its child.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

from spa_server.enforce.flows import connected_tcp
from spa_server.service import Address, Service

SSH_PORT = 22
MOST_PARENTS = 64


@dataclass(frozen=True, slots=True)
class Session:
    """A live connection to a port that a service has."""

    peer: Address
    port: int
    service: str
    own: bool
    """Whether this very command was started in it."""

    def __str__(self) -> str:
        whose = "this ssh session" if self.own else "a live ssh session"
        return f"{whose} from {self.peer} uses tcp/{self.port}, which service {self.service} closes to who has no lease"


def closed_by(services: Sequence[Service]) -> tuple[Session, ...]:
    """Live ssh sessions to ports that the services close, this command's own first."""
    own = frozenset(_own_connections())
    ports = {SSH_PORT, *(port for _, port in own)}
    found = {(peer, port): (peer, port) in own for peer, port in own}
    for peer, port in connected_tcp():
        if port in ports and not peer.is_loopback:
            found.setdefault((peer, port), False)
    closed = (
        Session(peer, port, service.name, is_own)
        for (peer, port), is_own in found.items()
        for service in services
        if ("tcp", port) in set(service.ports())
    )
    return tuple(sorted(set(closed), key=lambda each: (not each.own, str(each.peer), each.port)))


def _own_connections() -> Iterator[tuple[Address, int]]:
    """The client's address and the server's port of the ssh session that this process, or a parent, runs in."""
    for environment in (os.environ, *_environments_of_parents()):
        words = environment.get("SSH_CONNECTION", "").split()
        if len(words) == 4 and words[3].isascii() and words[3].isdigit():
            try:
                yield ip_address(words[0].partition("%")[0]), int(words[3])
            except ValueError:
                continue


def _environments_of_parents() -> Iterator[Mapping[str, str]]:
    pid = os.getppid()
    for _ in range(MOST_PARENTS):
        if pid <= 1:
            return
        try:
            raw = Path(f"/proc/{pid}/environ").read_bytes().decode(errors="replace")
            status = Path(f"/proc/{pid}/status").read_text()
        except OSError:
            return
        yield dict(word.partition("=")[::2] for word in raw.split("\0"))
        pid = int(next(line.split()[1] for line in status.splitlines() if line.startswith("PPid:")))
