"""Where the network process connects: one at a time, and no other user's.

It must not know what is asked over the connection.
"""

from __future__ import annotations

import contextlib
import logging
import os
import pwd
import select
import socket
import struct
from pathlib import Path

from spa_server.seldom import Seldom

_log = logging.getLogger("spa.keeper")
_turned_away = Seldom(_log)

CHANNEL, CONTROL = "channel", "control"
"""The sockets' names in the perimeter folder: for the network process, for root's commands."""


def bind_channel(folder: Path, user: str) -> socket.socket:
    """Listen for the network process, in the place of a keeper that died; its group may connect.

    That is this process's own group, except for root, who gives the socket to the user's.
    """
    path = folder / CHANNEL
    folder.mkdir(mode=0o755, parents=True, exist_ok=True)
    with contextlib.suppress(FileNotFoundError):
        path.unlink()
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
    old = os.umask(0o117)
    try:
        listener.bind(str(path))
        if os.geteuid() == 0:
            with contextlib.suppress(KeyError):  # no such user yet: then nobody can come
                # The folder may be another user's, who could have put a link in its place.
                os.chown(path, -1, pwd.getpwnam(user).pw_gid, follow_symlinks=False)
    except BaseException:
        listener.close()
        raise
    finally:
        os.umask(old)
    listener.listen(4)
    return listener


def accept_network_process(listener: socket.socket, user: str, *, is_taken: bool) -> socket.socket | None:
    """The connection of the network process, which runs as `user`; anybody else's is closed."""
    try:
        connection, _ = listener.accept()
    except OSError:
        return None
    pid, uid = peer(connection)
    if is_taken:
        _turned_away.warn(f"a second network process (pid {pid}) was turned away: the first still lives")
    elif uid != _uid_of(user):
        _turned_away.warn(f"user {uid} (pid {pid}) was turned away from the channel: it is for user {user}")
    else:
        return connection
    connection.close()
    return None


def has_hung_up(connection: socket.socket) -> bool:
    """Whether the other end is closed, whatever there is still to be read of it."""
    waiting = select.poll()
    waiting.register(connection, 0)
    return any(events & (select.POLLHUP | select.POLLERR) for _, events in waiting.poll(0))


def peer(connection: socket.socket) -> tuple[int, int]:
    """The pid and user of the other end (unix(7), SO_PEERCRED)."""
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    pid, uid, _ = struct.unpack("3i", credentials)
    return pid, uid


def _uid_of(user: str) -> int:
    try:
        return pwd.getpwnam(user).pw_uid
    except KeyError:
        _log.error("there is no user %s", user)
        return -1
