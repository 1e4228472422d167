"""The addresses of this computer that a server once saw unchanged, so that naming them in a knock is right.

Kept so that the next knock for a service with signed sources needs one datagram, not two. Losing the list costs only
that. It must not know what a knock is.
"""

from __future__ import annotations

import contextlib
from ipaddress import ip_address
from pathlib import Path

from spa_protocol.body import Address

_KEPT = 8


class SignedSources:
    """The addresses remembered in a file; `None` remembers nothing."""

    def __init__(self, path: Path | None) -> None:
        self._path = path

    def read(self) -> tuple[Address, ...]:
        """What is remembered; nothing when the file cannot be read or is damaged."""
        if self._path is None:
            return ()
        try:
            return tuple(ip_address(line) for line in self._path.read_text("ascii").split())
        except (OSError, ValueError):
            return ()

    def add(self, address: Address) -> None:
        """Remember an address, if it can be written."""
        if self._path is None or address in (before := self.read()):
            return
        with contextlib.suppress(OSError):
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._path.write_text("".join(f"{each}\n" for each in (*before, address)[-_KEPT:]), "ascii")
