"""Every lease that the kernel is given, counted from its own notifications, so that none can come and go unseen.

It reads the nftables multicast group of a namespace (include/uapi/linux/netfilter/nfnetlink.h) by itself and must not
know the product's netlink code: what is counted should not be counted by what is tested.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from types import TracebackType

from tests.lab import Host

_NETLINK_NETFILTER = 12
_GROUP_NFTABLES = 1 << (7 - 1)
_SUBSYSTEM_NFTABLES = 10
_NEW_ELEMENTS, _NEW_GENERATION = 12, 15
_ATTRIBUTE_SET = 2
_SO_RCVBUFFORCE = 33
_head = struct.Struct("=IHHII")
_attribute = struct.Struct("=HH")


class GrantWatch:
    """Counts transactions that put elements into a lease set; `with GrantWatch(host) as watch`.

    A transaction's notifications are queued before whoever committed it goes on, so once a process is dead all that it
    did is here to be counted.
    """

    def __init__(self, host: Host) -> None:
        self._socket = host.new_socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER)
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, 64 << 20)
        self._socket.setblocking(False)
        self._socket.bind((0, _GROUP_NFTABLES))
        self._open = False
        self.total = 0

    def __enter__(self) -> GrantWatch:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()

    def new(self) -> int:
        """How many grants there were since last asked. Raises OSError (ENOBUFS) should any have been missed."""
        before = self.total
        while True:
            try:
                data = self._socket.recv(1 << 20)
            except BlockingIOError:
                return self.total - before
            for kind, payload in _messages(data):
                if kind == _NEW_ELEMENTS and _set_name(payload).startswith(b"leases"):
                    self._open = True
                elif kind == _NEW_GENERATION:  # the end of a transaction
                    self.total += self._open
                    self._open = False


def _messages(data: bytes) -> Iterator[tuple[int, bytes]]:
    """(kind, payload behind the nfgenmsg) of each nftables message."""
    at = 0
    while at + _head.size <= len(data):
        length, kind, *_ = _head.unpack_from(data, at)
        if kind >> 8 == _SUBSYSTEM_NFTABLES:
            yield kind & 0xFF, data[at + _head.size + 4 : at + length]
        at += (length + 3) & ~3


def _set_name(payload: bytes) -> bytes:
    at = 0
    while at + _attribute.size <= len(payload):
        length, kind = _attribute.unpack_from(payload, at)
        if kind & 0x3FFF == _ATTRIBUTE_SET:
            return payload[at + _attribute.size : at + length].rstrip(b"\0")
        at += (max(length, _attribute.size) + 3) & ~3
    return b""
