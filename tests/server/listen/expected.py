"""What the registry should hold, and the datagrams that were made: what the machine judges every delivery by."""

from __future__ import annotations

from dataclasses import dataclass, field

from tests.server.listen.world import InviteText, Keyring


@dataclass(slots=True, eq=False)
class Sent:
    """A datagram that was made once; it may be delivered at any time, any number of times."""

    datagram: bytes
    owner: Keyring | InviteText
    window: int
    slot: int
    genuine: bool = True
    grants: int = 0
    becomes: Keyring | None = None


@dataclass(slots=True)
class Known:
    """A device as the registry should have it: its gate secrets, each with the second from which it is dead."""

    enabled: bool = True
    keys: dict[bytes, float] = field(default_factory=dict)

    def take_over(self, key: bytes, others_end_s: int | None) -> None:
        """A new key; the others live on until that second, or not at all."""
        self.keys = {} if others_end_s is None else {old: min(end, others_end_s) for old, end in self.keys.items()}
        self.keys[key] = float("inf")


@dataclass(slots=True)
class Invited:
    """An invite as the registry should have it."""

    text: InviteText
    expires_s: int
    overlap_s: int
    used_by: bytes | None = None
