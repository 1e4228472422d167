"""A lock on a file that the system takes back when its process ends, however it ends.

It must not know what is locked.
"""

from __future__ import annotations

import sys
from typing import IO

if sys.platform == "win32":
    _FAR = 1 << 30
    """Windows keeps others from reading a locked byte, so one is locked that no file here has."""

    def try_lock(file: IO[bytes]) -> bool:
        """Lock an open file, unless another opening of it has the lock; closing it unlocks."""
        import msvcrt

        at = file.tell()
        try:
            file.seek(_FAR)
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        finally:
            file.seek(at)
        return True

else:

    def try_lock(file: IO[bytes]) -> bool:
        """Lock an open file, unless another opening of it has the lock; closing it unlocks."""
        import fcntl

        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True
