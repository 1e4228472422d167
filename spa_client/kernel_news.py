"""What Linux says of changes to this computer's addresses, routes and links (rtnetlink(7)).

Only whether there was news, and which addresses were taken away; what that means for anybody is not known here. Other
systems have nothing of the kind in Python's own library.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_address

from spa_protocol.body import Address

# linux/rtnetlink.h: the multicast groups of links, addresses and routes of both families.
_GROUPS = 0x1 | 0x10 | 0x40 | 0x100 | 0x400
_RTM_DELADDR = 21
_MESSAGE_HEAD = struct.Struct("=IHHII")
_ADDRESS_HEAD_SIZE = 8
_ATTRIBUTE_HEAD = struct.Struct("=HH")
_IFA_ADDRESS, _IFA_LOCAL = 1, 2
_MOST_READ_AT_ONCE = 256


@dataclass(frozen=True, slots=True)
class News:
    """Whether anything changed, and the addresses that this computer had and has no longer, if only for a moment."""

    any: bool
    gone: frozenset[Address]


def subscribe() -> socket.socket | None:
    """A socket that becomes readable when something changes; None where there is no such thing. Close it yourself."""
    if sys.platform != "linux":
        return None
    # A sandbox may forbid this family; whoever asks then looks for himself.
    with contextlib.suppress(OSError):
        news = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
        try:
            news.setblocking(False)
            news.bind((0, _GROUPS))
        except OSError:
            news.close()
            raise
        return news
    return None


def read(news: socket.socket) -> News:
    """All that has been said since the last time."""
    any_news, gone = False, set[Address]()
    for _ in range(_MOST_READ_AT_ONCE):
        try:
            datagram, (sender, _) = news.recvfrom(65536)
        except BlockingIOError:
            break
        except OSError:
            # ENOBUFS: more was said than the socket holds, so something has changed.
            any_news = True
            continue
        if sender == 0:  # the kernel, and not another process
            any_news = True
            gone.update(_removed(datagram))
    return News(any_news, frozenset(gone))


def _removed(datagram: bytes) -> Iterator[Address]:
    for kind, body in _messages(datagram):
        if kind == _RTM_DELADDR:
            for attribute, value in _attributes(body[_ADDRESS_HEAD_SIZE:]):
                if attribute in (_IFA_ADDRESS, _IFA_LOCAL) and len(value) in (4, 16):
                    yield ip_address(value)


def _messages(datagram: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at + _MESSAGE_HEAD.size <= len(datagram):
        length, kind, *_ = _MESSAGE_HEAD.unpack_from(datagram, at)
        if length < _MESSAGE_HEAD.size:
            return
        yield kind, datagram[at + _MESSAGE_HEAD.size : at + length]
        at += _aligned(length)


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at + _ATTRIBUTE_HEAD.size <= len(data):
        length, kind = _ATTRIBUTE_HEAD.unpack_from(data, at)
        if length < _ATTRIBUTE_HEAD.size:
            return
        yield kind, data[at + _ATTRIBUTE_HEAD.size : at + length]
        at += _aligned(length)


def _aligned(length: int) -> int:
    return (length + 3) & ~3
