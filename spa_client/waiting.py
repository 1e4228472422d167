"""Waiting until a TCP port opens.

A closed perimeter drops silently, and a SYN that was dropped is repeated by the system only after a second. So new
attempts are started every few hundredths of a second, and the older ones are kept, for on a slow path it is one of them
that succeeds. It must not know why the port should open.
"""

from __future__ import annotations

import contextlib
import errno
import selectors
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass

from spa_client.addresses import tcp_sockaddr
from spa_client.steps import tell
from spa_protocol.body import Address

_FIRST_GAP_S = 0.05
_LONGEST_GAP_S = 0.5
_IN_PROGRESS = {0, errno.EINPROGRESS, errno.EWOULDBLOCK, errno.EALREADY, getattr(errno, "WSAEWOULDBLOCK", 10035)}


@dataclass(frozen=True, slots=True)
class Waited:
    """The address that accepted, or None; and whether any of them actively refused, as one without a listener does."""

    address: Address | None
    refused: bool


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
    gap_s, next_s = _FIRST_GAP_S, time.monotonic()
    refused = False
    with contextlib.ExitStack() as stack:
        selector = stack.enter_context(selectors.DefaultSelector())
        while (now_s := time.monotonic()) < end_s:
            if now_s >= next_s:
                for address in addresses:
                    refused = _start(address, port, selector, stack) == errno.ECONNREFUSED or refused
                next_s, gap_s = now_s + gap_s, min(gap_s * 1.5, _LONGEST_GAP_S)
            pause_s = max(0.0, min(next_s, end_s) - time.monotonic())
            if not selector.get_map():
                # Windows cannot select on nothing.
                time.sleep(pause_s)
                continue
            for key, _ in selector.select(pause_s):
                attempt: socket.socket = key.fileobj  # type: ignore[assignment]  # only sockets are registered
                code = attempt.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                if code == 0:
                    return Waited(key.data, refused)
                refused = refused or code == errno.ECONNREFUSED
                selector.unregister(attempt)
                attempt.close()
    return Waited(None, refused)


def _start(address: Address, port: int, selector: selectors.BaseSelector, stack: contextlib.ExitStack) -> int:
    """Begin one attempt; the error number of one that failed at once, else 0."""
    family, sockaddr = tcp_sockaddr(address, port)
    try:
        attempt = stack.enter_context(socket.socket(family, socket.SOCK_STREAM))
    except OSError as error:
        return error.errno or 0
    attempt.setblocking(False)
    code = attempt.connect_ex(sockaddr)
    if code in _IN_PROGRESS:
        selector.register(attempt, selectors.EVENT_WRITE, address)
        return 0
    attempt.close()
    return code
