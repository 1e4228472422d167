"""A program that tries to connect all the time, and prints when it got through.

`python -m tests.chaos.probe PORT GAP_MS ADDRESS...`, to be run inside a namespace. For each connection that was
accepted it prints `FIRST LAST ADDRESS`: it was made between these two readings of the monotonic clock. For a reset or
any other answer it prints `FIRST LAST ADDRESS answered`. On SIGTERM it prints `attempts N` and ends.
"""

from __future__ import annotations

import errno
import itertools
import os
import signal
import socket
import struct
import sys
import time
from collections import deque

SETTLED_S = 0.3
"""When an attempt is decided: long after a round trip, well before the kernel repeats the SYN."""
SILENCE = (0, errno.EINPROGRESS, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ENETDOWN, errno.EADDRNOTAVAIL)
"""No answer; or, while a link is down, no way to ask."""


def main() -> None:
    """Probe until SIGTERM."""
    port, gap_s, addresses = int(sys.argv[1]), float(sys.argv[2]) / 1000, sys.argv[3:]
    ended: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: ended.append(number))
    waiting: deque[tuple[float, float, str, socket.socket]] = deque()
    attempts = 0
    for address in itertools.cycle(addresses):
        if ended:
            break
        attempts += 1
        first_s = time.monotonic()
        sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        at_once = sock.connect_ex((address, port))
        time.sleep(gap_s)
        waiting.append((first_s, time.monotonic(), address, sock))
        if at_once not in SILENCE:
            _say(f"{first_s} {time.monotonic()} {address} answered")
        while waiting and waiting[0][1] < time.monotonic() - SETTLED_S:
            _settle(*waiting.popleft())
    time.sleep(SETTLED_S)
    for each in waiting:
        _settle(*each)
    _say(f"attempts {attempts}")


def _settle(first_s: float, last_s: float, address: str, sock: socket.socket) -> None:
    with sock:
        try:
            sock.getpeername()
        except OSError:
            if sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) not in SILENCE:
                _say(f"{first_s} {last_s} {address} answered")
            return
        _say(f"{first_s} {last_s} {address}")


def _say(line: str) -> None:
    os.write(1, line.encode() + b"\n")


if __name__ == "__main__":
    main()
