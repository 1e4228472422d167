"""Getting through to a TCP port that opens, or has just opened.

A closed perimeter drops silently, and a SYN that was dropped is repeated by the system only after a second. So new
attempts are started meanwhile, and the older ones are kept, for on a slow path it is one of them that succeeds. It must
not know why the port should open.
"""

from __future__ import annotations

import errno
import os
import selectors
import socket
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType

from spa_client.addresses import tcp_sockaddr
from spa_client.steps import tell
from spa_protocol.body import Address

_FIRST_GAP_S = 0.05
_LONGEST_GAP_S = 0.5
_NEXT_ADDRESS_S = 0.25
"""RFC 8305, section 5: how long an address has before the next one is tried beside it."""
_AGAIN_S = 0.5
_IN_PROGRESS = {0, errno.EINPROGRESS, errno.EWOULDBLOCK, errno.EALREADY, getattr(errno, "WSAEWOULDBLOCK", 10035)}


@dataclass(frozen=True, slots=True)
class Waited:
    """The address that accepted, or None; and whether any of them actively refused, as one without a listener does."""

    address: Address | None
    refused: bool


@dataclass(frozen=True, slots=True)
class Connected:
    """A blocking connection, or None; and why an address turned it down, "" where all kept silent."""

    connection: socket.socket | None
    reason: str = ""


def wait_open(addresses: Sequence[Address], port: int, timeout_s: float) -> Waited:
    """Try a TCP port of every address until one accepts or the time is up. The connection is closed again at once."""
    waited = _wait_open(addresses, port, timeout_s)
    if waited.address is not None:
        tell("accepted", "by tcp/{} at {}", port, waited.address)
    else:
        outcome = "nothing listens there" if waited.refused else "nothing came back"
        tell("not-accepted", "by tcp/{} at {}: {}", port, " or ".join(map(str, addresses)), outcome)
    return waited


def _wait_open(addresses: Sequence[Address], port: int, timeout_s: float) -> Waited:
    end_s = time.monotonic() + timeout_s
    with _Attempts(port) as attempts:
        for gap_s in _growing_gaps():
            for address in addresses:
                attempts.start(address)
            next_s = time.monotonic() + gap_s
            won = attempts.win(min(end_s, next_s))
            if won is not None:
                won.connection.close()
                return Waited(won.address, bool(attempts.refused))
            now_s = time.monotonic()
            if now_s >= end_s:
                break
            time.sleep(max(0.0, min(end_s, next_s) - now_s))
        return Waited(None, bool(attempts.refused))


def connect(addresses: Sequence[Address], port: int, timeout_s: float) -> Connected:
    """Connect to the first address that accepts: the later ones have their turn while the earlier ones are silent.

    An address that turns it down is not tried again, and when all do it is over at once. Close the connection yourself.
    """
    end_s = time.monotonic() + timeout_s
    with _Attempts(port) as attempts:
        turn = 0
        while time.monotonic() < end_s:
            left = [address for address in addresses if address not in attempts.failed]
            if not left:
                break
            attempts.start(left[turn % len(left)])
            turn += 1
            gap_s = _NEXT_ADDRESS_S if turn <= len(addresses) else _AGAIN_S
            won = attempts.win(min(end_s, time.monotonic() + gap_s))
            if won is not None:
                won.connection.setblocking(True)
                return Connected(won.connection)
        return Connected(None, attempts.reason)


def _growing_gaps() -> Iterator[float]:
    gap_s = _FIRST_GAP_S
    while True:
        yield gap_s
        gap_s = min(gap_s * 1.5, _LONGEST_GAP_S)


@dataclass(frozen=True, slots=True)
class _Won:
    address: Address
    connection: socket.socket


class _Attempts:
    """Attempts to connect that are under way; those that have not won are given up at the end of the block."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._selector = selectors.DefaultSelector()
        self.refused: set[Address] = set()
        self.failed: set[Address] = set()
        self.reason = ""

    def __enter__(self) -> _Attempts:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for key in list(self._selector.get_map().values()):
            _socket(key).close()
        self._selector.close()

    def start(self, address: Address) -> None:
        family, sockaddr = tcp_sockaddr(address, self._port)
        try:
            attempt = socket.socket(family, socket.SOCK_STREAM)
        except OSError:
            return
        attempt.setblocking(False)
        code = attempt.connect_ex(sockaddr)
        if code in _IN_PROGRESS:
            self._selector.register(attempt, selectors.EVENT_WRITE, address)
            return
        self._note(address, code)
        attempt.close()

    def win(self, until_s: float) -> _Won | None:
        """The first attempt that is accepted before that monotonic time; None, and sooner, when none is left."""
        while (left_s := until_s - time.monotonic()) > 0 and self._selector.get_map():
            for key, _ in self._selector.select(left_s):
                attempt = _socket(key)
                code = attempt.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                self._selector.unregister(attempt)
                if code == 0:
                    return _Won(key.data, attempt)
                self._note(key.data, code)
                attempt.close()
        return None

    def _note(self, address: Address, code: int) -> None:
        if code in (errno.ECONNREFUSED, getattr(errno, "WSAECONNREFUSED", 10061)):
            self.refused.add(address)
        self.failed.add(address)
        self.reason = os.strerror(code)


def _socket(key: selectors.SelectorKey) -> socket.socket:
    registered: socket.socket = key.fileobj  # type: ignore[assignment]  # only sockets are registered
    return registered
