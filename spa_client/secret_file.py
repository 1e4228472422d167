"""Files that only their owner may read, written whole or not at all.

It must not know what is in them.
"""

from __future__ import annotations

import contextlib
import os
import stat
import sys
from pathlib import Path

from spa_client.errors import BadConfiguration, NotPermitted

MAX_FILE = 64 * 1024
"""Bytes; nothing the client keeps comes near it."""


def make_folder(folder: Path) -> None:
    """Make a folder that only its owner may enter; one that is there stays as it is."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)


def write_file(path: Path, content: str) -> None:
    """Write a file of mode 0600: after a crash at any moment it holds the old content or the new. Raises OSError."""
    temporary = path.with_name(f".{path.name}.{os.urandom(8).hex()}")
    descriptor = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY | getattr(os, "O_BINARY", 0), 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content.encode("utf-8"))
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make renames in a folder survive a loss of power, where the system has a way to."""
    if sys.platform == "win32":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_file(path: Path) -> str:
    """The text of a file. Raises BadConfiguration when it is missing or not text, NotPermitted when it is not ours."""
    return _read(path, secret=False)


def read_secret(path: Path) -> str:
    """The text of a secret file.

    Raises as `read_file` does, and NotPermitted when group or others can read it or when it is somebody else's.
    Windows keeps the folder to its user by itself, so nothing is checked there.
    """
    return _read(path, secret=True)


def _read(path: Path, *, secret: bool) -> str:
    try:
        with path.open("rb") as file:
            if secret:
                _check_owner(path, file.fileno())
            content = file.read(MAX_FILE + 1)
    except FileNotFoundError:
        raise BadConfiguration(f"{path} is missing: join again with a new invite") from None
    except PermissionError:
        raise NotPermitted(f"{path} cannot be read by this user: chown it, or run as its owner") from None
    try:
        if len(content) > MAX_FILE:
            raise BadConfiguration(f"{path} is far too large: join again with a new invite")
        return content.decode("utf-8")
    except UnicodeDecodeError:
        raise BadConfiguration(f"{path} is not text: join again with a new invite") from None


def _check_owner(path: Path, descriptor: int) -> None:
    if sys.platform == "win32":
        return
    status = os.fstat(descriptor)
    if status.st_uid != os.geteuid():
        raise NotPermitted(f"{path} belongs to user {status.st_uid}, not to you: run as that user, or chown it")
    if stat.S_IMODE(status.st_mode) & 0o077:
        raise NotPermitted(f"{path} can be read by others: chmod 600 '{path}'")
