"""Netlink messages and attributes, and one socket that asks and waits for the answer.

It holds what every netlink family shares: framing, acknowledgements, dumps, time limits. It must not know what is
said: set elements are in `nftset`, connections and sockets in `flows`.

Sources: the kernel's include/uapi/linux/netlink.h and Documentation/userspace-api/netlink/intro.rst. Packed by hand
because it is on the path of every knock: one element and its acknowledgement take some 10 µs this way and 340 µs with
pyroute2's message classes (0.9.7), whose import alone costs 240 ms and 32 MB.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass

NLM_F_REQUEST, NLM_F_ACK, NLM_F_DUMP_INTR = 0x1, 0x4, 0x10
NLM_F_DUMP = 0x300
NLMSG_ERROR, NLMSG_DONE = 2, 3

NLA_F_NESTED = 0x8000
NLA_TYPE_MASK = 0x3FFF
NLA_LARGEST = 0xFFFF
"""An attribute's length, its 4-byte head included, is a 16-bit number."""

HEADER = struct.Struct("=IHHII")
"""nlmsghdr: length, type, flags, sequence, port id; in host byte order."""
ATTRIBUTE = struct.Struct("=HH")

SEND_BUFFER = 16 << 20
"""Bytes; a message larger than the socket's send buffer is refused with EMSGSIZE. Nothing is reserved for it."""
RECEIVE_BUFFER = 1 << 20
READ_SIZE = 1 << 16
DUMP_ATTEMPTS = 10
ANSWER_S = 1.0
"""The kernel answers before `send` returns, and a dump goes on with each `recv`: what is not there soon was lost."""


class KernelError(OSError):
    """The kernel refused a request, or did not answer it; `errno` says why."""

    def __init__(self, number: int, doing: str) -> None:
        super().__init__(number, f"{doing}: {os.strerror(number)}")


class AnswerLost(KernelError):
    """There was no answer, or none could be read: what was asked may or may not have been done."""


@dataclass(frozen=True, slots=True)
class Message:
    """One answer: its type, and what follows the netlink header."""

    type: int
    payload: bytes


def attribute(kind: int, value: bytes) -> bytes:
    """One attribute, padded to 4 bytes."""
    return ATTRIBUTE.pack(len(value) + 4, kind) + value + bytes(-len(value) % 4)


def nested(kind: int, *values: bytes) -> bytes:
    """One attribute that holds others."""
    return attribute(kind | NLA_F_NESTED, b"".join(values))


def attributes(data: bytes) -> dict[int, bytes]:
    """The attributes in `data` by type; of several of one type the last."""
    return dict(each_attribute(data))


def each_attribute(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Every (type, value) in `data`; it stops at the first that does not fit."""
    at = 0
    while at + 4 <= len(data):
        length, kind = ATTRIBUTE.unpack_from(data, at)
        if length < 4 or at + length > len(data):
            return
        yield kind & NLA_TYPE_MASK, data[at + 4 : at + length]
        at += (length + 3) & ~3


def message(kind: int, flags: int, sequence: int, payload: bytes) -> bytes:
    """One netlink message; payloads are made of padded parts, so it needs no padding itself."""
    return HEADER.pack(HEADER.size + len(payload), kind, flags, sequence, 0) + payload


class NetlinkSocket:
    """One socket of one netlink family, in the network namespace of the thread that makes it. Not thread-safe."""

    def __init__(self, protocol: int, time_limit_s: float = 5.0, existing: socket.socket | None = None) -> None:
        """`existing`: a socket of that family that another process made; what it has not read is thrown away."""
        self._time_limit_s = time_limit_s
        self._sequence = 0
        if existing is not None:
            self._socket = existing
            self._drain()
            return
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
        for forced, plain, size in (
            (32, socket.SO_SNDBUF, SEND_BUFFER),  # SO_SNDBUFFORCE, not in Python's socket module
            (33, socket.SO_RCVBUF, RECEIVE_BUFFER),  # SO_RCVBUFFORCE
        ):
            try:
                self._socket.setsockopt(socket.SOL_SOCKET, forced, size)
            except PermissionError:  # no CAP_NET_ADMIN over the namespace's owner: the ordinary limit has to do
                self._socket.setsockopt(socket.SOL_SOCKET, plain, size)
        self._socket.bind((0, 0))

    @property
    def socket(self) -> socket.socket:
        """The socket itself: to be watched, or kept by the service manager."""
        return self._socket

    @property
    def port(self) -> int:
        """The address by which the kernel knows this socket."""
        port: int = self._socket.getsockname()[0]
        return port

    def close(self) -> None:
        self._socket.close()

    def __enter__(self) -> NetlinkSocket:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def sequences(self, count: int) -> int:
        """Reserve `count` sequence numbers that follow one another; returns the first."""
        first = self._sequence + 1 if self._sequence + count < 1 << 31 else 1
        self._sequence = first + count - 1
        return first

    def send_batch(self, data: bytes, first: int, last: int, doing: str) -> None:
        """Send messages numbered `first` to `last`, the last asking for an acknowledgement, and wait for it.

        Any error answering any of them is raised; the kernel then has done none of a transaction.
        """
        self._send(data, doing)
        for sequence, reply in self._replies(doing):
            if not first <= sequence <= last or reply.type != NLMSG_ERROR:
                continue  # left over from a request that was given up
            number = _error_of(reply)
            if number:
                self._drain()
                raise KernelError(number, doing)
            if sequence == last:
                return

    def ask(self, kind: int, payload: bytes, doing: str) -> list[Message]:
        """Send one request and return what is answered before its acknowledgement."""
        sequence = self.sequences(1)
        self._send(message(kind, NLM_F_REQUEST | NLM_F_ACK, sequence, payload), doing)
        answers = []
        for answered, reply in self._replies(doing):
            if answered != sequence:
                continue
            if reply.type != NLMSG_ERROR:
                answers.append(reply)
                continue
            number = _error_of(reply)
            if number:
                raise KernelError(number, doing)
            break
        return answers

    def dump(self, kind: int, payload: bytes, doing: str) -> list[Message]:
        """Everything of one sort; asked again when it changed while it was being listed (EINTR)."""
        for _ in range(DUMP_ATTEMPTS):
            answers = self._dump_once(kind, payload, doing)
            if answers is not None:
                return answers
        raise KernelError(errno.EINTR, doing)

    def _dump_once(self, kind: int, payload: bytes, doing: str) -> list[Message] | None:
        sequence = self.sequences(1)
        self._send(message(kind, NLM_F_REQUEST | NLM_F_DUMP, sequence, payload), doing)
        answers: list[Message] = []
        interrupted = False
        for answered, reply in self._replies(doing):
            if answered != sequence:
                continue
            interrupted = interrupted or reply.type & (NLM_F_DUMP_INTR << 16) != 0
            bare = Message(reply.type & 0xFFFF, reply.payload)
            if bare.type in (NLMSG_ERROR, NLMSG_DONE):
                number = _error_of(bare)
                if number not in (0, errno.EINTR):
                    raise KernelError(number, doing)
                return None if interrupted or number else answers
            answers.append(bare)
        return None

    def _send(self, data: bytes, doing: str) -> None:
        try:
            self._socket.send(data)
        except OSError as error:
            raise KernelError(error.errno or errno.EIO, doing) from error

    def _replies(self, doing: str) -> Iterator[tuple[int, Message]]:
        """Every message as (sequence, message) until the time limit; a dump's flags are above its type."""
        end = time.monotonic() + self._time_limit_s
        while True:
            # What is there already is read even when this process stood still until the time was up.
            self._socket.settimeout(max(min(end - time.monotonic(), ANSWER_S), 0.001))
            try:
                data = self._socket.recv(READ_SIZE)
            except TimeoutError as error:
                raise AnswerLost(errno.ETIMEDOUT, doing) from error
            except OSError as error:  # such as ENOBUFS
                raise AnswerLost(error.errno or errno.EIO, doing) from error
            yield from _messages(data)

    def _drain(self) -> None:
        """Throw away answers that have come: netlink handles a request before `send` returns."""
        self._socket.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                self._socket.recv(READ_SIZE)


def _messages(data: bytes) -> Iterator[tuple[int, Message]]:
    at = 0
    while at + HEADER.size <= len(data):
        length, kind, flags, sequence, _ = HEADER.unpack_from(data, at)
        if length < HEADER.size:
            return
        yield sequence, Message(kind | (flags & NLM_F_DUMP_INTR) << 16, data[at + HEADER.size : at + length])
        at += (length + 3) & ~3


def _error_of(reply: Message) -> int:
    """The errno in an NLMSG_ERROR or NLMSG_DONE, 0 for success."""
    number: int = -struct.unpack_from("=i", reply.payload)[0] if len(reply.payload) >= 4 else 0
    return number
