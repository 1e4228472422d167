"""Ending in the kernel what a device or an address has open, and saying what was ended."""

from __future__ import annotations

import errno
from collections.abc import Collection

from spa_server.enforce.leases import Ended, revoke
from spa_server.enforce.netlink import KernelError
from spa_server.enforce.nftset import NftSocket
from spa_server.service import Address


def end_leases(label: str | None, sources: Collection[Address]) -> Ended:
    """End the leases of a label and of addresses, and the flows they let in; nothing where no perimeter stands."""
    try:
        with NftSocket() as nft:
            return revoke(nft, label=label, sources=sources)
    except KernelError as error:
        if error.errno == errno.ENOENT:
            return Ended((), 0)
        raise


def shut_out(label: str, sources: Collection[Address]) -> str:
    """End all of a device, and say what that was."""
    return told(end_leases(label, sources))


def told(ended: Ended) -> str:
    """What was ended, for people."""
    return f"{_counted(len(ended.leases), 'lease')} and {_counted(ended.flows, 'connection')} ended"


def _counted(number: int, what: str) -> str:
    return f"{number} {what}" + ("" if number == 1 else "s")
