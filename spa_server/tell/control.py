"""The control socket: how commands on the same host talk to the running server.

A Unix socket that root and the server's own group can reach. One request and one answer, each one line of JSON:
`{"ask": "status"}`, `{"ask": "refresh"}` or `{"ask": "reload"}`. Everybody who can connect may ask for the status,
which holds no secret; the rest is for root and the server's own user, as the kernel says who calls (unix(7),
SO_PEERCRED). It changes nothing by itself: edits go to the registry and the configuration, and a request only says that
there were some.
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import selectors
import socket
import struct
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

log = logging.getLogger("spa.control")

MOST_BYTES = 4096
MOST_CALLERS = 16
PATIENCE_S = 2.0
"""How long a caller may take for its one line. The server does not wait for it: it serves knocks meanwhile."""
ANSWER_S = 10.0
FOR_EVERYONE = frozenset({"status"})

Answer = Mapping[str, object]


class NotRunning(Exception):
    """No server answers on the control socket."""


class AlreadyRunning(Exception):
    """Another server answers on this control socket."""


@dataclass(slots=True, eq=False)
class _Caller:
    connection: socket.socket
    is_trusted: bool
    until_s: float
    line: bytearray = field(default_factory=bytearray)


class ControlListener:
    """The server's end: callers are heard as their bytes come, on the server's own selector, and none is waited for."""

    def __init__(
        self, sock: socket.socket, selector: selectors.BaseSelector, answers: Mapping[str, Callable[[], Answer]]
    ) -> None:
        self.socket = sock
        self._selector = selector
        self._answers = answers
        self._callers: list[_Caller] = []
        selector.register(sock, selectors.EVENT_READ, self._accept)

    def next_deadline_s(self) -> float | None:
        """When, on the monotonic clock, the next caller's patience ends."""
        return min((caller.until_s for caller in self._callers), default=None)

    def give_up_late(self) -> None:
        """Hang up on those who have said nothing for too long."""
        now_s = time.monotonic()
        for caller in [caller for caller in self._callers if caller.until_s <= now_s]:
            self._hang_up(caller)

    def _accept(self, _sock: socket.socket) -> None:
        try:
            connection, _ = self.socket.accept()
        except OSError:
            return
        connection.setblocking(False)
        caller = _Caller(connection, _peer_uid(connection) in (0, os.geteuid()), time.monotonic() + PATIENCE_S)
        self._callers.append(caller)
        self._selector.register(connection, selectors.EVENT_READ, lambda _sock: self._hear(caller))
        if len(self._callers) > MOST_CALLERS:
            # The oldest goes, and root last of all: nobody else can keep root's commands out.
            self._hang_up(min(self._callers, key=lambda each: (each.is_trusted, each.until_s)))

    def _hear(self, caller: _Caller) -> None:
        if caller not in self._callers:  # hung up on in this very turn
            return
        try:
            piece = caller.connection.recv(MOST_BYTES + 1)
        except BlockingIOError:
            return
        except OSError as error:
            log.debug("a caller on the control socket went away: %s", error)
            self._hang_up(caller)
            return
        caller.line += piece
        if piece and not caller.line.endswith(b"\n") and len(caller.line) <= MOST_BYTES:
            return
        # A caller whose answer does not fit into its socket at once has asked for nothing that this server says.
        with contextlib.suppress(OSError):
            caller.connection.send(json.dumps(self._answer(caller)).encode() + b"\n", socket.MSG_NOSIGNAL)
        self._hang_up(caller)

    def _answer(self, caller: _Caller) -> Answer:
        name = parse_request(bytes(caller.line))
        if name is None or name not in self._answers:
            return {"error": "unknown request"}
        if name not in FOR_EVERYONE and not caller.is_trusted:
            return {"error": f"{name} is for root", "not_permitted": True}
        return self._answers[name]()

    def _hang_up(self, caller: _Caller) -> None:
        self._callers.remove(caller)
        self._selector.unregister(caller.connection)
        caller.connection.close()


def parse_request(line: bytes) -> str | None:
    """What is asked for, or None for what is no request."""
    try:
        request = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(request, dict) or set(request) != {"ask"}:
        return None
    name = request["ask"]
    return name if isinstance(name, str) else None


def refuse_second_server(path: Path) -> None:
    """Raise AlreadyRunning when a server answers on the path."""
    with contextlib.suppress(NotRunning):
        ask(path, "status")
        raise AlreadyRunning(f"a server is running already ({path} answers); stop it first")


def bind_control(path: Path, group: int | None = None) -> socket.socket:
    """Listen on the path, in the place of a server that died, for this user and the group. Raises OSError."""
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    with contextlib.suppress(FileNotFoundError):
        path.unlink()
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    old = os.umask(0o117)
    try:
        listener.bind(str(path))
        if group is not None:
            os.chown(path, -1, group)
    except BaseException:
        listener.close()
        raise
    finally:
        os.umask(old)
    listener.listen(16)
    return listener


def ask(path: Path, name: str, patience_s: float = ANSWER_S) -> dict[str, object]:
    """Ask the running server. Raises NotRunning when none answers."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(patience_s)
            connection.connect(str(path))
            connection.sendall(json.dumps({"ask": name}).encode() + b"\n")
            reply = json.loads(_read_line(connection, patience_s, 1 << 20))
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EPERM):
            raise
        raise NotRunning(f"no server answers on {path}") from error
    except ValueError as error:
        raise NotRunning(f"what answers on {path} is not this server") from error
    if not isinstance(reply, dict):
        raise NotRunning(f"what answers on {path} is not this server")
    return reply


def tell(path: Path, name: str) -> None:
    """Ask the running server for something without waiting for its answer; that nobody hears it is logged."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as connection:
            connection.connect(str(path))
            connection.sendall(json.dumps({"ask": name}).encode() + b"\n")
    except OSError as error:
        log.warning("the server could not be asked to %s: %s", name, error.strerror)


def _read_line(connection: socket.socket, patience_s: float, most: int = MOST_BYTES) -> bytes:
    """What comes up to a line's end; raises TimeoutError when that takes longer than `patience_s` in all."""
    line = bytearray()
    end_s = time.monotonic() + patience_s
    while not line.endswith(b"\n") and len(line) <= most:
        connection.settimeout(max(end_s - time.monotonic(), 0.001))
        piece = connection.recv(4096)
        if not piece:
            break
        line += piece
    return bytes(line)


def _peer_uid(connection: socket.socket) -> int:
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    return int(struct.unpack("3i", credentials)[1])
