"""What a new table takes over from the one it replaces: live leases with what is left of them, and counters.

It must not know why a table is replaced, nor how.
"""

from __future__ import annotations

import errno
import logging
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from spa_protocol.names import is_label
from spa_server.enforce.leases import SETS, Lease, close_leases, list_leases, put_back
from spa_server.enforce.netlink import KernelError
from spa_server.enforce.nftset import NftSocket
from spa_server.enforce.table import TableSocket
from spa_server.service import Service

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Carried:
    """Leases as they stood at `taken_ms` on the monotonic clock, and what the counters said."""

    leases: tuple[Lease, ...]
    taken_ms: int
    counted: dict[str, tuple[int, int]]

    def element_lines(self, table: str) -> str:
        """Lines for nft that add the leases, each for what is left of it by now."""
        return "".join(_line("add", table, lease) for lease in self._after(_now_ms() - self.taken_ms))

    def settle(self, nft: NftSocket) -> None:
        """Give each lease exactly what is left of it by now, however long loading took, and its service's name.

        nft counts from when it loaded, so a lease whose time was over by then is taken out again.
        """
        passed_ms = _now_ms() - self.taken_ms
        put_back(nft, self._after(passed_ms))
        close_leases(nft, (lease for lease in self.leases if lease.left_ms <= passed_ms))

    def _after(self, passed_ms: int) -> list[Lease]:
        return [replace(lease, left_ms=lease.left_ms - passed_ms) for lease in self.leases if lease.left_ms > passed_ms]


def take(tables: Iterable[str], services: Sequence[Service]) -> Carried:
    """What the first of the tables that has leases at all has, and the services still go by."""
    for table in tables:
        with TableSocket(table) as nft:
            if nft.sets().issuperset(SETS.values()):
                taken_ms = _now_ms()
                kept = tuple(lease for lease in _standing(nft) if is_served(lease, services))
                return Carried(kept, taken_ms, nft.counters())
    return Carried((), 0, {})


def take_out_lines(table: str, services: Sequence[Service]) -> str:
    """Lines for nft that take those leases out of a standing table which the services do not go by."""
    with TableSocket(table) as nft:
        gone = [lease for lease in _standing(nft) if not is_served(lease, services)]
    # Added first: deleting one that has ended meanwhile would fail the whole.
    return "".join(_line(verb, table, replace(lease, left_ms=1000)) for lease in gone for verb in ("add", "delete"))


def is_served(lease: Lease, services: Iterable[Service]) -> bool:
    """Whether a lease has an end, and leads to the service that it was given for.

    One without a service was put in by hand: any service at that port and host will do.
    """
    return lease.left_ms > 0 and any(
        (lease.protocol, lease.port) in set(service.ports())
        for service in services
        if lease.service in ("", service.name) and (not service.hosts or lease.destination in service.hosts)
    )


def _standing(nft: TableSocket) -> tuple[Lease, ...]:
    if not nft.sets().issuperset(SETS.values()):
        return ()
    try:
        leases = list_leases(nft)
    except KernelError as error:
        if error.errno == errno.ENOENT:  # taken down since it was listed
            return ()
        raise
    endless = sum(lease.left_ms == 0 for lease in leases)
    if endless:
        _log.warning("%d leases without an end, put in by hand, are taken out", endless)
    return leases


def _line(verb: str, table: str, lease: Lease) -> str:
    key = f"{lease.source} . {lease.destination} . {lease.protocol} . {lease.port}"
    rest = ""
    if verb == "add":
        comment = f' comment "{lease.label}"' if is_label(lease.label) else ""
        rest = f" timeout {lease.left_ms}ms{comment}"
    return f"{verb} element inet {table} {SETS[lease.source.version]} {{ {key}{rest} }}\n"


def _now_ms() -> int:
    return time.monotonic_ns() // 1_000_000
