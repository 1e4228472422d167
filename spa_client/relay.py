"""Carrying bytes between a connection and the standard input and output, until both directions have ended.

Each direction is a thread. On Linux the kernel moves the bytes between the pipe and the socket by itself. It keeps the
pipe locked while it waits for the socket in that call, and whoever touches the other end of the pipe then hangs with it
(seen on 6.18); so the socket does not block, and is waited for outside. The end of one direction is handed on (a
half-close), and the other goes on. It must not know what is carried.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
import stat
import sys
import threading
from collections.abc import Callable

_PIPE_SIZE = 1 << 20
_CHUNK = 1 << 18
_STDIN, _STDOUT = 0, 1


class Relay:
    """The two directions. `over` is called once, from a thread, when both have ended or one cannot go on."""

    def __init__(self, connection: socket.socket, over: Callable[[], None]) -> None:
        connection.setblocking(False)
        with contextlib.suppress(OSError):
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._connection = connection
        self._over = over
        self._left = 2
        self._lock = threading.Lock()
        self.fault: OSError | None = None

    def start(self) -> None:
        """Begin; daemon threads, for a read of the standard input cannot be interrupted."""
        for work in (self._outwards, self._inwards):
            threading.Thread(target=self._direction, args=(work,), name=f"spa-{work.__name__}", daemon=True).start()

    def _direction(self, work: Callable[[], None]) -> None:
        try:
            work()
        except OSError as error:
            # EPIPE: whoever read from us has gone. Otherwise the connection broke.
            self.fault = None if error.errno == errno.EPIPE else error
            self._over()
            return
        with self._lock:
            self._left -= 1
            last = self._left == 0
        if last:
            self._over()

    def _outwards(self) -> None:
        # A connection that takes no more may still have something to say, and tells the other thread when it has not.
        with contextlib.suppress(OSError):
            _carry(_STDIN, self._connection, inwards=False)
        with contextlib.suppress(OSError):
            self._connection.shutdown(socket.SHUT_WR)

    def _inwards(self) -> None:
        _carry(_STDOUT, self._connection, inwards=True)
        _end_output()


def _end_output() -> None:
    """Tell whoever reads our standard output that this was all; the descriptor itself must stay taken."""
    if stat.S_ISSOCK(os.fstat(_STDOUT).st_mode):
        with contextlib.suppress(OSError), socket.socket(fileno=os.dup(_STDOUT)) as output:
            output.shutdown(socket.SHUT_WR)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, _STDOUT)
    os.close(nowhere)


def _carry(standard: int, connection: socket.socket, *, inwards: bool) -> None:
    if sys.platform == "linux" and stat.S_ISFIFO(os.fstat(standard).st_mode):
        _enlarge(standard)
        ends = (connection.fileno(), standard) if inwards else (standard, connection.fileno())
        _splice(*ends)
    elif inwards:
        while data := _when_ready(lambda: connection.recv(_CHUNK), connection):
            _write_all(lambda left: os.write(standard, left), data, standard)
    else:
        while data := _when_ready(lambda: os.read(standard, _CHUNK), standard):
            _write_all(connection.send, data, connection)


if sys.platform == "linux":

    def _enlarge(pipe: int) -> None:
        import fcntl

        # A user may have too many large pipes already; the usual 64 KiB will do.
        with contextlib.suppress(OSError):
            fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _PIPE_SIZE)

    def _splice(source: int, sink: int) -> None:
        ready, room = select.poll(), select.poll()
        ready.register(source, select.POLLIN)
        room.register(sink, select.POLLOUT)
        while True:
            # One wait and one call for each piece, while the sink keeps up.
            ready.poll()
            try:
                if not os.splice(source, sink, _PIPE_SIZE):
                    return
            except BlockingIOError:
                room.poll()


def _when_ready(read: Callable[[], bytes], source: int | socket.socket) -> bytes:
    while True:
        try:
            return read()
        except BlockingIOError:
            select.select([source], [], [])


def _write_all(write: Callable[[memoryview], int], data: bytes, sink: int | socket.socket) -> None:
    left = memoryview(data)
    while left:
        try:
            left = left[write(left) :]
        except BlockingIOError:
            select.select([], [sink], [])
