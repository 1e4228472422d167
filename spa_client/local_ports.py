"""Listening on this computer alone: one port on both loopback addresses.

It must not know who connects.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator, Sequence

from spa_client.errors import BadSurroundings

ADDRESSES = ("127.0.0.1", "::1")
_BACKLOG = 128
_PRIVILEGED = 1024
_TRIED = 20


def listen(port: int) -> list[socket.socket]:
    """Listen at that port; on ::1 only where there is IPv6. Raises BadSurroundings when it is not to be had."""
    found: list[socket.socket] = []
    try:
        for address in ADDRESSES:
            if address == "::1" and not _has_ipv6():
                continue
            found.append(_listening(address, port))
            port = found[-1].getsockname()[1]
    except OSError as error:
        for listener in found:
            listener.close()
        raise BadSurroundings(f"cannot listen at port {port}: {error.strerror}; give another with --listen") from error
    return found


def listen_near(port: int) -> list[socket.socket]:
    """Listen at that port, or the next one that is free; a port for root alone has its twin 8000 above it."""
    for candidate in _candidates(port):
        try:
            return listen(candidate)
        except BadSurroundings:
            continue
    return listen(0)


def _candidates(port: int) -> Iterator[int]:
    yield port
    first = port + 8000 if port < _PRIVILEGED else port + 1
    yield from range(first, min(first + _TRIED, 65536))


def _listening(address: str, port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
    try:
        if sys.platform == "win32":
            # Otherwise another user's process could take the same port beside us.
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)
        else:
            # Connections that have just ended do not keep the port.
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address, port))
        listener.listen(_BACKLOG)
    except BaseException:
        listener.close()
        raise
    return listener


def _has_ipv6() -> bool:
    try:
        _listening("::1", 0).close()
    except OSError:
        return False
    return True


def places(listeners: Sequence[socket.socket]) -> list[str]:
    """Where they listen, such as "127.0.0.1:8443" and "[::1]:8443"."""
    names = [listener.getsockname() for listener in listeners]
    return [f"[{name[0]}]:{name[1]}" if ":" in name[0] else f"{name[0]}:{name[1]}" for name in names]
