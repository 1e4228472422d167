"""Waiting until a file in a folder is replaced, without looking again and again: inotify(7).

By ctypes, for Python has none of these calls. Only what is moved to a name wakes it up, so the many writes to other
files of the folder cost nothing. It must not know what the file is for.
"""

from __future__ import annotations

import ctypes
import os
import select
import struct
from pathlib import Path
from typing import Self

_IN_MOVED_TO = 0x80
_IN_IGNORED = 0x8000
_IN_Q_OVERFLOW = 0x4000
_IN_ONLYDIR = 0x01000000
_HEAD = struct.Struct("=iIII")
_libc = ctypes.CDLL(None, use_errno=True)


class FolderGone(OSError):
    """The folder was removed; nothing in it can be waited for any more."""


class Replacements:
    """Hears of each time that the file is replaced, from when this is made."""

    def __init__(self, file: Path) -> None:
        """Raises OSError where the folder cannot be watched."""
        self._name = os.fsencode(file.name)
        self._handle = _checked(_libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK))
        try:
            _checked(_libc.inotify_add_watch(self._handle, os.fsencode(file.parent), _IN_MOVED_TO | _IN_ONLYDIR))
        except BaseException:
            os.close(self._handle)
            raise

    def wait(self, patience_s: float | None = None) -> bool:
        """Until it was replaced; whether it was, in that time. Raises FolderGone."""
        while select.select([self._handle], [], [], patience_s)[0]:
            if self._is_told():
                return True
        return False

    def _is_told(self) -> bool:
        data, at, is_told = os.read(self._handle, 65536), 0, False
        while at < len(data):
            _, mask, _, length = _HEAD.unpack_from(data, at)
            at += _HEAD.size + length
            if mask & _IN_IGNORED:
                raise FolderGone("the folder was removed")
            is_told |= bool(mask & _IN_Q_OVERFLOW) or data[at - length : at].rstrip(b"\0") == self._name
        return is_told

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._handle)


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result
