"""A datagram as it came, with all that is known of its coming. It must not know what the datagram says."""

from __future__ import annotations

from dataclasses import dataclass

from spa_protocol.tag import TAG_SIZE
from spa_server.decide.decision import Path
from spa_server.listen.clock import Instant


@dataclass(frozen=True, slots=True)
class Arrival:
    """A datagram as the socket gave it."""

    datagram: bytes
    path: Path
    source_port: int
    at: Instant

    @property
    def session(self) -> str:
        """What links all that is told of it: its tag, by which it is found in a capture of packets, too."""
        return self.datagram[:TAG_SIZE].hex()
