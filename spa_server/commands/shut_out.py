"""Ending in the kernel what a device or an address has open, and saying what was ended."""

from __future__ import annotations

from collections.abc import Collection

from spa_server.commands.recording import Edit, recorded
from spa_server.config import ServerConfig
from spa_server.enforce.leases import Ended
from spa_server.keeper.owner import revoke
from spa_server.service import Address
from spa_server.tell.event_types import REVOKED


def end_leases(config: ServerConfig, label: str | None, sources: Collection[Address]) -> Ended:
    """End the leases of a label and of addresses, and the flows they let in; nothing where no perimeter stands."""
    return revoke(config.perimeter_folder, label=label, sources=sources)


def shut_out(config: ServerConfig, label: str, sources: Collection[Address], because: Edit) -> str:
    """End, on record, all of the device or delegate that is kept out, and say what that was."""
    edit = Edit(REVOKED, f"end what {label} has open", gives=False, device=label, reason=because.type.name)
    with recorded(config, edit):
        return told(end_leases(config, label, sources))


def told(ended: Ended) -> str:
    """What was ended, for people."""
    return f"{_counted(len(ended.leases), 'lease')} and {_counted(ended.flows, 'connection')} ended"


def _counted(number: int, what: str) -> str:
    return f"{number} {what}" + ("" if number == 1 else "s")
