"""The journal's own protocol: a line of the log with its fields, as one datagram.

Source: https://systemd.io/JOURNAL_NATIVE_PROTOCOL/. Whether standard error is the journal is told by $JOURNAL_STREAM
(systemd.exec(5)). Nothing here waits: a journal that does not take a line is one line short, and one that is not there
leaves the line to the handler that stands behind this one. It must not know what an event means.
"""

from __future__ import annotations

import errno
import logging
import os
import socket
import struct
import sys
from collections.abc import Mapping

from spa_server.tell.events import Event, event_of

SOCKET = "/run/systemd/journal/socket"
LONGEST_VALUE = 16_000
"""Bytes of one field. With all the others a datagram stays far below what the socket takes."""


def stderr_is_journal(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether standard error is the stream to the journal that the service manager set up, and not redirected since."""
    device, _, inode = environment.get("JOURNAL_STREAM", "").partition(":")
    if not (device.isdecimal() and inode.isdecimal()):
        return False
    try:
        found = os.fstat(sys.stderr.fileno())
    except (OSError, ValueError):
        return False
    return (found.st_dev, found.st_ino) == (int(device), int(inode))


def datagram(fields: Mapping[str, str]) -> bytes:
    """The fields as the journal takes them; a value that holds a line's end goes with its length before it."""
    parts = []
    for name, value in fields.items():
        data = value.encode("utf-8", "replace")[:LONGEST_VALUE]
        if b"\n" in data:
            parts.append(name.encode("ascii") + b"\n" + struct.pack("<Q", len(data)) + data + b"\n")
        else:
            parts.append(name.encode("ascii") + b"=" + data + b"\n")
    return b"".join(parts)


def fields_of(event: Event) -> dict[str, str]:
    """The MESSAGE_ID of an event and what it says, in fields that `journalctl SPA_DEVICE=...` can search."""
    actor = event.actor
    fields = {
        "MESSAGE_ID": event.type.message_id,
        "SPA_EVENT": event.type.name,
        "SPA_OUTCOME": event.outcome.value,
        "SPA_REASON": event.reason,
        "SPA_ABOUT": event.about,
        "SPA_DEVICE": event.device,
        "SPA_DELEGATE": event.delegate,
        "SPA_USER": event.user,
        "SPA_SOURCE": str(event.source) if event.source is not None else "",
        "SPA_DESTINATION": str(event.destination) if event.destination is not None else "",
        "SPA_SERVICES": " ".join(name for name, _ in event.services),
        "SPA_SECONDS": " ".join(str(seconds) for _, seconds in event.services),
        "SPA_SKEW_MS": "" if event.skew_ms is None else str(event.skew_ms),
        "SPA_SESSION": event.session,
        "SPA_ACTOR": (actor.login or actor.user) if actor is not None else "",
    }
    return {name: value for name, value in fields.items() if value}


def priority(level: int) -> int:
    """The priority of syslog(3) for a level of the logging module."""
    for least, number in ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6)):
        if level >= least:
            return number
    return 7


class JournalHandler(logging.Handler):
    """Sends each line to the journal; `otherwise` takes it where there is none."""

    def __init__(self, identifier: str, otherwise: logging.Handler, path: str = SOCKET) -> None:
        super().__init__()
        self.lost = 0
        """Lines that the journal did not take because it was too slow."""
        self._identifier = identifier
        self._otherwise = otherwise
        self._path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)

    def emit(self, record: logging.LogRecord) -> None:
        """Send one line. Never waits and never raises."""
        try:
            event = event_of(record)
            fields = {
                "MESSAGE": self.format(record),
                "PRIORITY": str(priority(record.levelno)),
                "SYSLOG_IDENTIFIER": self._identifier,
                "SPA_LOGGER": record.name,
            }
            if event is not None:
                fields |= fields_of(event)
            if self.lost:
                fields["SPA_LINES_LOST"] = str(self.lost)
            self._socket.sendto(datagram(fields), self._path)
            self.lost = 0
        except OSError as error:
            if error.errno in (errno.EAGAIN, errno.ENOBUFS):
                self.lost += 1
            else:
                self._otherwise.handle(record)
        except Exception:
            self.handleError(record)

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()
        super().close()
