"""Talking with the service manager: what sd_notify(3) sends, and sockets kept in its file descriptor store.

Sockets in the store outlive this process, a SIGKILL included, and come back to the next one as sd_listen_fds(3) says.
The packages on PyPI for this either send no descriptors (sdnotify, systemd-notify) or need a compiler and libsystemd's
headers (systemd-python), so the few lines are here. Without a service manager (no NOTIFY_SOCKET) nothing happens.

It must not know what any socket is for. Sources: sd_notify(3), sd_listen_fds(3), sd_watchdog_enabled(3), all as of
systemd 252; on older ones unknown assignments are ignored.
"""

from __future__ import annotations

import array
import logging
import os
import socket
import time
from collections.abc import Sequence

_log = logging.getLogger("spa.notify")

FIRST_DESCRIPTOR = 3
"""SD_LISTEN_FDS_START."""
MOST_DESCRIPTORS = 253
"""SCM_MAX_FD of unix(7): the most that one message carries."""
_PATIENCE_S = 1.0


def notify(*assignments: str) -> bool:
    """Send assignments such as "READY=1" in one message. Whether it was sent; a failure is logged, never raised."""
    return _send("\n".join(assignments), ())


def ready(status: str = "") -> bool:
    """The service is up, or has finished reloading; `status` is what `systemctl status` shows."""
    return notify("READY=1", *_status(status))


def reloading() -> bool:
    """The service begins to reload; `ready` ends it. The time is what Type=notify-reload asks for."""
    return notify("RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")


def stopping() -> bool:
    """The service begins to end."""
    return notify("STOPPING=1")


def alive() -> bool:
    """Still turning: to be said at least every `watchdog_s`."""
    return notify("WATCHDOG=1")


def watchdog_s() -> float | None:
    """How often `alive` is to be said: half of the time after which the manager ends the service. None: it does not."""
    pid = os.environ.get("WATCHDOG_PID", "")
    if pid and pid != str(os.getpid()):
        return None
    limit_us = os.environ.get("WATCHDOG_USEC", "")
    if not limit_us.isascii() or not limit_us.isdigit() or int(limit_us) == 0:
        return None
    return int(limit_us) / 2_000_000


class Heartbeat:
    """Says `alive` in time, and not more often, for a loop that asks how long it may sleep."""

    def __init__(self) -> None:
        self._every_s = watchdog_s()
        self._next_s = time.monotonic()

    def left_s(self) -> float | None:
        """How long the loop may sleep before the next `beat`; None: as long as it likes."""
        return None if self._every_s is None else max(0.0, self._next_s - time.monotonic())

    def beat(self) -> None:
        """To be called every turn."""
        if self._every_s is not None and time.monotonic() >= self._next_s:
            alive()
            self._next_s = time.monotonic() + self._every_s


def store(name: str, sockets: Sequence[socket.socket]) -> bool:
    """Have the manager keep the sockets under the name, besides those it keeps under it already.

    FDPOLL=0: or it would throw one away for a passing error, such as an overrun of a netlink socket.
    """
    if not 0 < len(sockets) <= MOST_DESCRIPTORS:
        return False
    return _send(f"FDSTORE=1\nFDPOLL=0\nFDNAME={name}", [sock.fileno() for sock in sockets])


def unstore(name: str) -> bool:
    """Have the manager close what it keeps under the name."""
    return notify("FDSTOREREMOVE=1", f"FDNAME={name}")


def stored() -> dict[str, list[socket.socket]]:
    """The sockets that the manager hands over to this process, by name; a second call finds none.

    What is no socket is closed. The variables go, so that no program started from here takes them for its own.
    """
    pid, count, names = (os.environ.pop(name, "") for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"))
    os.environ.pop("LISTEN_PIDFDID", None)
    if pid != str(os.getpid()) or not count.isascii() or not count.isdigit():
        return {}
    kept: dict[str, list[socket.socket]] = {}
    given = names.split(":") if names else []
    for place in range(int(count)):
        name = given[place] if place < len(given) else "unknown"
        try:
            sock = socket.socket(fileno=FIRST_DESCRIPTOR + place)
        except OSError:
            _close(FIRST_DESCRIPTOR + place)
            continue
        sock.set_inheritable(False)
        kept.setdefault(name, []).append(sock)
    return kept


def silence() -> None:
    """Forget the manager: for a child that is not the process which the manager watches."""
    for name in ("NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC", "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"):
        os.environ.pop(name, None)


def _status(text: str) -> tuple[str, ...]:
    return (f"STATUS={' '.join(text.split())}",) if text else ()


def _send(message: str, descriptors: Sequence[int]) -> bool:
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return False
    if address.startswith("@"):
        address = "\0" + address[1:]
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))] if descriptors else []
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.settimeout(_PATIENCE_S)
            sock.sendmsg([message.encode()], rights, 0, address)
    except OSError as error:
        _log.warning("the service manager could not be told %s: %s", message.partition("\n")[0], error.strerror)
        return False
    return True


def _close(descriptor: int) -> None:
    try:
        os.close(descriptor)
    except OSError:
        _log.debug("descriptor %d was not open", descriptor)
