"""Seeing what others do to a table that nobody owns: the kernel's own notices of every change, over netlink.

For kernels without lasting ownership. It must not know what is to be done about a change.

Source: the kernel's include/uapi/linux/netfilter/nf_tables.h. Notices come after the transaction took effect, closed by
one (NEWGEN) that names the process which made it; elements that expire, and tags that a datagram uses up, make none.
"""

from __future__ import annotations

import contextlib
import errno
import socket
from collections.abc import Iterator
from dataclasses import dataclass

from spa_server.enforce.netlink import HEADER, attributes
from spa_server.enforce.nftset import (
    NETLINK_NETFILTER,
    NFNL_SUBSYS_NFTABLES,
    NFPROTO_INET,
    NFT_MSG_DELSETELEM,
    NFT_MSG_NEWSETELEM,
    NFTA_SET_ELEM_LIST_SET,
    elements_in,
)
from spa_server.enforce.table import NFT_MSG_DELTABLE, NFTA_TABLE_NAME

NFNLGRP_NFTABLES = 7
NFT_MSG_NEWGEN = NFNL_SUBSYS_NFTABLES << 8 | 15
NFTA_GEN_PROC_PID, NFTA_GEN_PROC_NAME = 2, 3
SOL_NETLINK, NETLINK_ADD_MEMBERSHIP = 270, 1
SO_RCVBUFFORCE = 33
BUFFER = 32 << 20
"""Bytes. Arming tags is noticed too, tag by tag; what does not fit is known to be lost (ENOBUFS)."""
READ_SIZE = 1 << 18


@dataclass(frozen=True, slots=True)
class Seen:
    """What others did to the table since it was last asked."""

    removed: bool = False
    changed: bool = False
    """Its chains, rules, sets or counters."""
    elements: tuple[tuple[str, bytes], ...] = ()
    """Set and key of elements that were put in."""
    taken_out: bool = False
    """Elements were."""
    lost: bool = False
    """Not everything could be seen: look for yourself."""
    who: str = ""
    """The process that did it, as far as the kernel tells."""

    def __bool__(self) -> bool:
        return self.removed or self.changed or bool(self.elements) or self.taken_out or self.lost


class Watcher:
    """Notices about one table, in the namespace of the thread that makes it."""

    def __init__(self, table: str) -> None:
        self._table = table.encode() + b"\0"
        self.socket = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK, NETLINK_NETFILTER
        )
        with contextlib.suppress(PermissionError):
            self.socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER)
        self.socket.bind((0, 0))
        self.socket.setsockopt(SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, NFNLGRP_NFTABLES)

    def close(self) -> None:
        self.socket.close()

    def take(self, own_port: int) -> Seen:
        """What has been done, but for what was done through the netlink socket of that port."""
        removed = changed = taken_out = lost = False
        elements: list[tuple[str, bytes]] = []
        who = ""
        table_in_transaction = False
        for notice in self._notices():
            if notice is None:
                lost = True
                continue
            kind, port, payload = notice
            found = attributes(payload[4:])
            if kind == NFT_MSG_NEWGEN:
                if table_in_transaction:
                    who = _process(found)
                table_in_transaction = False
                continue
            if port == own_port or payload[:1] != bytes([NFPROTO_INET]) or found.get(NFTA_TABLE_NAME) != self._table:
                continue
            table_in_transaction = True
            if kind == NFT_MSG_DELTABLE:
                removed = True
            elif kind == NFT_MSG_NEWSETELEM:
                name = found.get(NFTA_SET_ELEM_LIST_SET, b"").rstrip(b"\0").decode(errors="replace")
                elements += ((name, element.key) for element in elements_in(payload))
            elif kind == NFT_MSG_DELSETELEM:
                taken_out = True
            else:
                changed = True
        return Seen(removed, changed, tuple(elements), taken_out, lost, who)

    def discard(self) -> None:
        """Forget what has been done until now."""
        for _ in self._notices():
            pass

    def _notices(self) -> Iterator[tuple[int, int, bytes] | None]:
        """Type, sender's port and payload of each notice that waits; None where some were lost."""
        while True:
            try:
                data = self.socket.recv(READ_SIZE)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                yield None
                continue
            at = 0
            while at + HEADER.size <= len(data):
                length, kind, _, _, port = HEADER.unpack_from(data, at)
                if length < HEADER.size:
                    break
                yield kind, port, data[at + HEADER.size : at + length]
                at += (length + 3) & ~3


def _process(found: dict[int, bytes]) -> str:
    pid = int.from_bytes(found.get(NFTA_GEN_PROC_PID, b""), "big")
    name = found.get(NFTA_GEN_PROC_NAME, b"").rstrip(b"\0").decode(errors="replace")
    return f"{name} (pid {pid})" if pid else ""
