"""Where Prometheus asks: a Unix socket or a loopback port that answers `GET /metrics`, and nothing else.

Few callers at a time, each for a short time, none waited for: it lives on the selector of a process that has knocks to
judge. HTTP/1.0 in the smallest part that scrapers use (RFC 9110, RFC 9112): one request, one answer, then the end.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from spa_server.addresses import LoopbackPort
from spa_server.tell.metrics import CONTENT_TYPE

MOST_BYTES = 8192
"""Of a request's head."""
MOST_CALLERS = 8
PATIENCE_S = 2.0
FRESH_S = 1.0
"""How old an answer may be: those who ask often must not keep the kernel busy."""


@dataclass(slots=True, eq=False)
class _Caller:
    connection: socket.socket
    until_s: float
    head: bytearray = field(default_factory=bytearray)
    answer: memoryview | None = None


class MetricsPort:
    """Answers on `sock` with what `page` gives, on the server's own selector."""

    def __init__(self, sock: socket.socket, selector: selectors.BaseSelector, page: Callable[[], bytes]) -> None:
        self._selector = selector
        self._page = page
        self._callers: list[_Caller] = []
        self._last: tuple[float, bytes] | None = None
        sock.setblocking(False)
        self._sock = sock
        selector.register(sock, selectors.EVENT_READ, self._accept)

    def left_s(self) -> float | None:
        """How long the caller that must go next still has, or None where nobody calls."""
        until_s = min((caller.until_s for caller in self._callers), default=None)
        return None if until_s is None else until_s - time.monotonic()

    def give_up_late(self) -> None:
        """Hang up on those whose time is over."""
        now_s = time.monotonic()
        for caller in [caller for caller in self._callers if caller.until_s <= now_s]:
            self._hang_up(caller)

    def _accept(self, _sock: socket.socket) -> None:
        try:
            connection, _ = self._sock.accept()
        except OSError:
            return
        connection.setblocking(False)
        caller = _Caller(connection, time.monotonic() + PATIENCE_S)
        self._callers.append(caller)
        self._selector.register(connection, selectors.EVENT_READ, lambda _sock: self._go_on(caller))
        if len(self._callers) > MOST_CALLERS:
            self._hang_up(self._callers[0])

    def _go_on(self, caller: _Caller) -> None:
        if caller not in self._callers:  # hung up on in this very turn
            return
        try:
            if caller.answer is None:
                self._hear(caller)
            if caller.answer is not None:
                caller.answer = caller.answer[caller.connection.send(caller.answer, socket.MSG_NOSIGNAL) :]
                if not caller.answer:
                    # Unread bytes of the request would turn the end of this connection into a reset.
                    with contextlib.suppress(BlockingIOError):
                        caller.connection.recv(MOST_BYTES)
                    self._hang_up(caller)
        except BlockingIOError:
            pass
        except OSError:
            self._hang_up(caller)

    def _hear(self, caller: _Caller) -> None:
        piece = caller.connection.recv(MOST_BYTES)
        if not piece:
            raise ConnectionResetError
        caller.head += piece
        if b"\r\n\r\n" in caller.head or b"\n\n" in caller.head:
            caller.answer = memoryview(self._answer(bytes(caller.head).split(b"\n", 1)[0].split()))
            self._selector.modify(caller.connection, selectors.EVENT_WRITE, lambda _sock: self._go_on(caller))
        elif len(caller.head) > MOST_BYTES:
            raise ConnectionResetError

    def _answer(self, request: list[bytes]) -> bytes:
        if len(request) != 3 or not request[2].startswith(b"HTTP/1."):
            return _response("400 Bad Request", b"")
        if request[0] not in (b"GET", b"HEAD"):
            return _response("405 Method Not Allowed", b"", "Allow: GET, HEAD\r\n")
        if request[1].split(b"?")[0] not in (b"/metrics", b"/"):
            return _response("404 Not Found", b"")
        if self._last is None or time.monotonic() - self._last[0] >= FRESH_S:
            page = self._page()
            # Its age counts from now: a page that took long would be old at once, and each caller make another.
            self._last = (time.monotonic(), page)
        return _response("200 OK", self._last[1], with_body=request[0] == b"GET")

    def _hang_up(self, caller: _Caller) -> None:
        self._callers.remove(caller)
        self._selector.unregister(caller.connection)
        caller.connection.close()


def bind_metrics(place: Path | LoopbackPort | None, group: int = -1) -> socket.socket | None:
    """Listen there, if anywhere. A Unix socket can be reached by its owner and by `group`. Raises OSError."""
    if place is None:
        return None
    if isinstance(place, LoopbackPort):
        family = socket.AF_INET if place.address.version == 4 else socket.AF_INET6
        listener = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        where: object = (str(place.address), place.port)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    else:
        place.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        place.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        where = str(place)
    old = os.umask(0o117)
    try:
        listener.bind(where)  # type: ignore[arg-type]
        if isinstance(place, Path) and group >= 0:
            os.chown(place, -1, group)
        listener.listen(4 * MOST_CALLERS)
    except BaseException:
        listener.close()
        raise
    finally:
        os.umask(old)
    return listener


def _response(status: str, body: bytes, more: str = "", *, with_body: bool = True) -> bytes:
    head = (
        f"HTTP/1.0 {status}\r\nContent-Type: {CONTENT_TYPE}\r\nContent-Length: {len(body)}\r\n{more}"
        "Connection: close\r\n\r\n"
    )
    return head.encode() + (body if with_body else b"")
