"""The control socket: how commands on the same host talk to the running server.

A Unix socket that only root may use. One request and one answer, each one line of JSON:
`{"ask": "status"}` or `{"ask": "refresh"}`. It changes nothing by itself: edits go to the registry, and `refresh` only
says that there were some.
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import socket
import struct
import time
from collections.abc import Callable, Mapping
from pathlib import Path

log = logging.getLogger("spa.control")

MOST_BYTES = 4096
PATIENCE_S = 0.2
"""How long a caller may take for its one line; the caller is root, and the server waits for it meanwhile."""
ANSWER_S = 10.0

Answer = Mapping[str, object]


class NotRunning(Exception):
    """No server answers on the control socket."""


class AlreadyRunning(Exception):
    """Another server answers on this control socket."""


class ControlListener:
    """The server's end."""

    def __init__(self, sock: socket.socket, answers: Mapping[str, Callable[[], Answer]]) -> None:
        self.socket = sock
        self._answers = answers

    def serve_one(self) -> None:
        """Take one caller, if one waits, and answer it."""
        try:
            connection, _ = self.socket.accept()
        except OSError:
            return
        with connection:
            connection.settimeout(PATIENCE_S)
            try:
                if _peer_uid(connection) not in (0, os.geteuid()):
                    return
                reply = self._answer(_read_line(connection, PATIENCE_S))
                connection.sendall(json.dumps(reply).encode() + b"\n")
            except OSError as error:
                log.debug("a caller on the control socket went away: %s", error)

    def _answer(self, line: bytes) -> Answer:
        name = parse_request(line)
        if name is None or name not in self._answers:
            return {"error": "unknown request"}
        return self._answers[name]()


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


def bind_control(path: Path) -> socket.socket:
    """Listen on the path, in the place of a server that died. Raises OSError."""
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    with contextlib.suppress(FileNotFoundError):
        path.unlink()
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    old = os.umask(0o177)
    try:
        listener.bind(str(path))
    except BaseException:
        listener.close()
        raise
    finally:
        os.umask(old)
    listener.listen(16)
    return listener


def ask(path: Path, name: str) -> dict[str, object]:
    """Ask the running server. Raises NotRunning when none answers."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(ANSWER_S)
            connection.connect(str(path))
            connection.sendall(json.dumps({"ask": name}).encode() + b"\n")
            reply = json.loads(_read_line(connection, ANSWER_S, 1 << 20))
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EPERM):
            raise
        raise NotRunning(f"no server answers on {path}") from error
    except ValueError as error:
        raise NotRunning(f"what answers on {path} is not this server") from error
    if not isinstance(reply, dict):
        raise NotRunning(f"what answers on {path} is not this server")
    return reply


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
