"""What went through each leased tuple: of flows that have ended, and of those that go on.

The kernel tells of each tracked connection that ends, with what it counted of it (nf_conntrack_acct); a connection that
goes on is asked for when its account is. Kept are sums for addresses that had a lease, no more than MOST_SUMS, and lost
with the process. It must not know whose a tuple is.

Sources: the kernel's include/uapi/linux/netfilter/nfnetlink_conntrack.h, nfnetlink.h (NFNLGRP_CONNTRACK_DESTROY).
"""

from __future__ import annotations

import contextlib
import errno
import logging
import socket
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spa_server.enforce.flows import Flow, Target, flow_in, flows_of
from spa_server.enforce.netlink import HEADER, READ_SIZE, NetlinkSocket
from spa_server.seldom import Seldom
from spa_server.service import Address
from spa_server.traffic import Traffic

_log = logging.getLogger(__name__)

COUNTS = Path("/proc/sys/net/netfilter/nf_conntrack_acct")
"""Whether the kernel counts what goes through connections that begin from now on."""

MOST_SUMS = 20_000
"""Tuples and connections of which something is remembered; of more, the oldest are given up."""
MOST_SOURCES = 100_000
MOST_READ = 256
"""Messages that are read in one go: others wait, too."""

NETLINK_NETFILTER = 12
SOL_NETLINK, NETLINK_ADD_MEMBERSHIP = 270, 1
NFNLGRP_CONNTRACK_DESTROY = 3
_NFGENMSG = 4
_SOURCE_AT = HEADER.size + _NFGENMSG + 3 * 4
"""After the heads of three attributes: the original tuple, its addresses, the first of those (seen on Linux 6.18)."""
_SOURCE_LENGTHS: Mapping[int, int] = {socket.AF_INET: 4, socket.AF_INET6: 16}


@dataclass(frozen=True, slots=True)
class Account:
    """Of one tuple: how many flows there are, and what has gone through it since its account was begun."""

    flows: int
    traffic: Traffic


class Accounts:
    """The sums, and the socket on which the kernel tells of flows that have ended."""

    def __init__(self) -> None:
        """In the network namespace of the thread that makes it."""
        self._ended: dict[Target, Traffic] = {}
        self._told: dict[bytes, Traffic] = {}
        self._sources: dict[bytes, Address] = {}
        self._amiss = Seldom(_log)
        self._news = NetlinkSocket(NETLINK_NETFILTER)
        with contextlib.suppress(OSError):  # a kernel without conntrack's messages: of ended flows nothing is known
            self.socket.setsockopt(SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, NFNLGRP_CONNTRACK_DESTROY)

    @property
    def socket(self) -> socket.socket:
        """To select on: there is something to `take`."""
        return self._news.socket

    def close(self) -> None:
        """Hear of no more."""
        self._news.close()

    def watch(self, source: Address) -> None:
        """Keep the account of this address from now on."""
        self._sources.pop(source.packed, None)
        self._sources[source.packed] = source
        _bound(self._sources, MOST_SOURCES)

    def take(self) -> None:
        """Read what the kernel has told of flows that ended."""
        for _ in range(MOST_READ):
            try:
                data = self.socket.recv(READ_SIZE, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno == errno.ENOBUFS:
                    self._amiss.warn("more connections ended at once than could be heard of: some are not counted")
                    continue
                raise
            self._note(data)

    def of(self, targets: Collection[Target], *, final: bool) -> Mapping[Target, Account]:
        """The accounts of these tuples. `final`: they begin anew; what a flow has told by now is not told again."""
        self.take()
        live: dict[Target, list[Flow]] = {target: [] for target in targets}
        for flow in flows_of({target.source for target in targets}):
            if (target := flow.original.target()) in live:
                live[target].append(flow)
        return {target: self._account(target, flows, final=final) for target, flows in live.items()}

    def _account(self, target: Target, flows: Collection[Flow], *, final: bool) -> Account:
        self.watch(target.source)
        traffic = self._ended.get(target, Traffic())
        for flow in flows:
            traffic += flow.traffic - self._told.get(flow.handle, Traffic())
        if final:
            self._ended.pop(target, None)
            for flow in flows:
                self._told.pop(flow.handle, None)
                self._told[flow.handle] = flow.traffic
            _bound(self._told, MOST_SUMS)
        return Account(len(flows), traffic)

    def _note(self, data: bytes) -> None:
        # One message each, and the source stands at the same place in all: on a busy host nearly all are others'
        # connections, and taking those apart would cost ten times as much.
        family = data[HEADER.size] if len(data) > HEADER.size else 0
        source = self._sources.get(data[_SOURCE_AT : _SOURCE_AT + _SOURCE_LENGTHS.get(family, 0)])
        if source is None:
            return
        flow = flow_in(data[HEADER.size + _NFGENMSG :], {source})
        if flow is not None:
            target = flow.original.target()
            told = self._told.pop(flow.handle, Traffic())
            self._ended[target] = self._ended.get(target, Traffic()) + (flow.traffic - told)
            _bound(self._ended, MOST_SUMS)


def is_counting() -> bool:
    """Whether the kernel counts, in the network namespace of this thread's process."""
    try:
        return COUNTS.read_text().strip() == "1"
    except OSError:
        return False


def count() -> bool:
    """Have the kernel count, if this process may; whether it does."""
    if not is_counting():
        with contextlib.suppress(OSError):
            COUNTS.write_text("1")
    return is_counting()


def _bound(kept: dict[Any, Any], most: int) -> None:
    while len(kept) > most:
        kept.pop(next(iter(kept)))
