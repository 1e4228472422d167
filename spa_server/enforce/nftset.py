"""Elements of nftables sets, added, deleted and listed over netlink, many in one transaction.

It knows sets and keys, not what they mean: leases are in `leases`, tags in `tags`. The ruleset itself is loaded by
`perimeter`.

Source: the kernel's include/uapi/linux/netfilter/nf_tables.h and nfnetlink.h; the userdata layout is libnftnl's
include/libnftnl/udata.h, so that `nft list set` shows the comment.
"""

from __future__ import annotations

import errno
import socket
import struct
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Self

from spa_server.enforce.netlink import (
    DUMP_ATTEMPTS,
    NLA_LARGEST,
    NLM_F_ACK,
    NLM_F_REQUEST,
    KernelError,
    NetlinkSocket,
    attribute,
    attributes,
    each_attribute,
    message,
    nested,
)

NETLINK_NETFILTER = 12
NFNL_MSG_BATCH_BEGIN, NFNL_MSG_BATCH_END = 0x10, 0x11
NFNL_SUBSYS_NFTABLES = 10
NFT_MSG_NEWSETELEM, NFT_MSG_GETSETELEM, NFT_MSG_DELSETELEM = (NFNL_SUBSYS_NFTABLES << 8 | kind for kind in (12, 13, 14))
NLM_F_CREATE = 0x400
NFPROTO_INET = 1

NFTA_SET_ELEM_LIST_TABLE, NFTA_SET_ELEM_LIST_SET, NFTA_SET_ELEM_LIST_ELEMENTS = 1, 2, 3
NFTA_LIST_ELEM = 1
NFTA_SET_ELEM_KEY = 1
NFTA_SET_ELEM_TIMEOUT, NFTA_SET_ELEM_EXPIRATION, NFTA_SET_ELEM_USERDATA = 4, 5, 6
NFTA_DATA_VALUE = 1

UDATA_COMMENT = 0
UDATA_SERVICE = 0x53
"""A userdata type of our own; `nft` 1.0.6 passes over types it does not know."""

ELEMENTS_LARGEST = NLA_LARGEST - 1024
"""Bytes of packed elements in one message, well below what an attribute can hold."""

RESIZE_PAUSE_S = 0.2

_milliseconds = struct.Struct("!Q")


@dataclass(frozen=True, slots=True)
class Element:
    """One element. Fields of a concatenated key are each padded to 4 bytes (`key_of`)."""

    key: bytes
    timeout_ms: int = 0
    """How long the kernel keeps it from now; 0 for a listed element without a timeout."""
    comment: str = ""
    service: str = ""
    left_ms: int = 0
    """What is left of the timeout, in a listed element."""


@dataclass(frozen=True, slots=True)
class Add:
    """Put an element into a set; one that is there already stays as it is (on Linux 6.12+ it gets the timeout)."""

    set_name: str
    element: Element


@dataclass(frozen=True, slots=True)
class Delete:
    """Take an element out of a set; one that is not there fails the transaction, so add it first if in doubt."""

    set_name: str
    key: bytes


Operation = Add | Delete


def key_of(*fields: bytes) -> bytes:
    """A key of several fields, as the kernel keeps it: each in a whole number of 32-bit registers."""
    return b"".join(field + bytes(-len(field) % 4) for field in fields)


class NftSocket:
    """The sets of one table. Errors are `KernelError`; ENOENT mostly means that the perimeter is not up."""

    def __init__(self, table: str = "spa", time_limit_s: float = 5.0, existing: socket.socket | None = None) -> None:
        self.table = table
        self.netlink = NetlinkSocket(NETLINK_NETFILTER, time_limit_s, existing)

    def close(self) -> None:
        self.netlink.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def commit(self, operations: Iterable[Operation]) -> None:
        """Do all operations in their order in one transaction: all of them or, with KernelError, none."""
        bodies = list(self._bodies(operations))
        if bodies:
            self.transact(bodies)

    def transact(self, bodies: Sequence[tuple[int, int, bytes]]) -> None:
        """Send messages, each a (type, flags, payload), as one transaction."""
        first = self.netlink.sequences(len(bodies) + 2)
        last = first + len(bodies)
        parts = [message(NFNL_MSG_BATCH_BEGIN, NLM_F_REQUEST, first, nfgenmsg(0, NFNL_SUBSYS_NFTABLES))]
        for sequence, (kind, flags, body) in enumerate(bodies, first + 1):
            # One acknowledgement is enough: the kernel reports every failed message, asked or not.
            wanted = NLM_F_ACK if sequence == last else 0
            parts.append(message(kind, NLM_F_REQUEST | flags | wanted, sequence, body))
        parts.append(message(NFNL_MSG_BATCH_END, NLM_F_REQUEST, last + 1, nfgenmsg(0, NFNL_SUBSYS_NFTABLES)))
        self.netlink.send_batch(b"".join(parts), first, last, f"changing table inet {self.table}")

    def get(self, set_name: str, key: bytes) -> Element | None:
        """The element as it is now, or None when there is none or its time is over."""
        request = self._head(set_name) + nested(NFTA_SET_ELEM_LIST_ELEMENTS, _packed(Element(key)))
        try:
            replies = self.netlink.ask(NFT_MSG_GETSETELEM, request, f"looking into set {set_name}")
        except KernelError as error:
            # The same ENOENT says that the table is missing; whoever then adds an element hears of it.
            if error.errno == errno.ENOENT:
                return None
            raise
        for reply in replies:
            for element in elements_in(reply.payload):
                return element
        return None

    def dump(self, set_name: str) -> tuple[Element, ...]:
        """Every live element of a set.

        While the kernel is resizing the set's hash table a listing of many messages names some elements twice and
        leaves others out (seen on Linux 6.18 within a second after 100,000 were added), so it is then made again.
        """
        for _ in range(DUMP_ATTEMPTS):
            elements = self._dump_once(set_name)
            if len({element.key for element in elements}) == len(elements):
                return elements
            time.sleep(RESIZE_PAUSE_S)
        raise KernelError(errno.EAGAIN, f"listing set {set_name}")

    def flush(self, set_name: str) -> None:
        """Delete every element of a set (a DELSETELEM that names none)."""
        self.transact([(NFT_MSG_DELSETELEM, 0, self._head(set_name))])

    def _dump_once(self, set_name: str) -> tuple[Element, ...]:
        replies = self.netlink.dump(NFT_MSG_GETSETELEM, self._head(set_name), f"listing set {set_name}")
        return tuple(
            element for reply in replies if reply.type == NFT_MSG_NEWSETELEM for element in elements_in(reply.payload)
        )

    def _bodies(self, operations: Iterable[Operation]) -> Iterator[tuple[int, int, bytes]]:
        """(message type, flags, payload): runs of the same kind share a message as far as it holds them."""
        for (kind, set_name), run in groupby(operations, lambda operation: (type(operation), operation.set_name)):
            packed = (_packed(each.element if isinstance(each, Add) else Element(each.key)) for each in run)
            for part in _parts(packed):
                body = self._head(set_name) + nested(NFTA_SET_ELEM_LIST_ELEMENTS, part)
                yield (NFT_MSG_NEWSETELEM, NLM_F_CREATE, body) if kind is Add else (NFT_MSG_DELSETELEM, 0, body)

    def _head(self, set_name: str) -> bytes:
        return b"".join(
            (
                nfgenmsg(NFPROTO_INET, 0),
                attribute(NFTA_SET_ELEM_LIST_TABLE, self.table.encode() + b"\0"),
                attribute(NFTA_SET_ELEM_LIST_SET, set_name.encode() + b"\0"),
            )
        )


def nfgenmsg(family: int, resource: int = 0) -> bytes:
    """The head of every nfnetlink message's payload."""
    return struct.pack("!BBH", family, 0, resource)


def _parts(packed: Iterable[bytes]) -> Iterator[bytes]:
    part = bytearray()
    for element in packed:
        if len(part) + len(element) > ELEMENTS_LARGEST:
            yield bytes(part)
            part.clear()
        part += element
    if part:
        yield bytes(part)


def _packed(element: Element) -> bytes:
    parts = [nested(NFTA_SET_ELEM_KEY, attribute(NFTA_DATA_VALUE, element.key))]
    if element.timeout_ms:
        parts.append(attribute(NFTA_SET_ELEM_TIMEOUT, _milliseconds.pack(element.timeout_ms)))
    texts = ((UDATA_COMMENT, element.comment), (UDATA_SERVICE, element.service))
    userdata = b"".join(_text(kind, text) for kind, text in texts if text)
    if userdata:
        parts.append(attribute(NFTA_SET_ELEM_USERDATA, userdata))
    return nested(NFTA_LIST_ELEM, *parts)


def _text(kind: int, text: str) -> bytes:
    value = text.encode() + b"\0"
    return struct.pack("BB", kind, len(value)) + value


def elements_in(payload: bytes) -> Iterator[Element]:
    """The elements in a NEWSETELEM's payload, which starts with the 4 bytes of nfgenmsg."""
    listed = attributes(payload[4:]).get(NFTA_SET_ELEM_LIST_ELEMENTS, b"")
    for _, packed in each_attribute(listed):
        found = attributes(packed)
        texts = dict(_userdata(found.get(NFTA_SET_ELEM_USERDATA, b"")))
        yield Element(
            key=attributes(found.get(NFTA_SET_ELEM_KEY, b"")).get(NFTA_DATA_VALUE, b""),
            timeout_ms=_number(found.get(NFTA_SET_ELEM_TIMEOUT)),
            comment=texts.get(UDATA_COMMENT, ""),
            service=texts.get(UDATA_SERVICE, ""),
            left_ms=_number(found.get(NFTA_SET_ELEM_EXPIRATION)),
        )


def _number(value: bytes | None) -> int:
    number: int = _milliseconds.unpack(value)[0] if value else 0
    return number


def _userdata(data: bytes) -> Iterator[tuple[int, str]]:
    at = 0
    while at + 2 <= len(data):
        kind, length = data[at], data[at + 1]
        yield kind, data[at + 2 : at + 2 + length].rstrip(b"\0").decode(errors="replace")
        at += 2 + length
