"""Whose process is at the other end of a local connection, as far as the system tells: on Linux, /proc/net/tcp.

It must not know what the answer decides.
"""

from __future__ import annotations

import contextlib
import os
import sys
from ipaddress import ip_address
from pathlib import Path
from socket import AF_INET, socket

_TABLES = {True: "/proc/net/tcp", False: "/proc/net/tcp6"}
_LOCAL, _REMOTE, _UID, _INODE = 1, 2, 7, 9


def is_foreign(connection: socket) -> bool:
    """Whether the other end belongs to another user, or can no longer be told; False where systems never tell.

    A socket whose process has closed it is nobody's (its inode is 0), and must not pass for root's.
    """
    if sys.platform != "linux":
        return False
    ours, theirs = _entry(connection.getsockname()), _entry(connection.getpeername())
    # As the other end has it, ours is the remote one.
    with contextlib.suppress(OSError):
        for line in Path(_TABLES[connection.family == AF_INET]).read_text("ascii").splitlines()[1:]:
            fields = line.split()
            if fields[_LOCAL] == theirs and fields[_REMOTE] == ours:
                return int(fields[_UID]) != os.geteuid() or fields[_INODE] == "0"
        return True
    return False


def _entry(sockaddr: tuple[str, int]) -> str:
    """An address and port as the table writes them: 32-bit words in the byte order of the machine."""
    packed = ip_address(sockaddr[0]).packed
    words = (packed[at : at + 4] for at in range(0, len(packed), 4))
    return "".join(f"{int.from_bytes(word, sys.byteorder):08X}" for word in words) + f":{sockaddr[1]:04X}"
