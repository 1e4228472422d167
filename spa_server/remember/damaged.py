"""A damaged state file is never thrown away: a few copies of it are kept beside it, each made once.

It must not know what is in the file.
"""

from __future__ import annotations

import logging
import os
import shutil
import time
from contextlib import suppress
from pathlib import Path

LOG = logging.getLogger(__name__)

MOST_COPIES = 3
_MARK = ".corrupt-"


def keep_copy(path: Path) -> Path | None:
    """Copy the file, and its log if there is one, to a name with the time of its last change; None where that fails.

    Of a file that has not changed since, there is one copy however often it is found damaged. Only the newest
    MOST_COPIES are kept.
    """
    try:
        found = path.stat()
        changed = time.strftime("%Y-%m-%dT%H%M%SZ", time.gmtime(found.st_mtime))
        copy = path.with_name(f"{path.name}{_MARK}{changed}")
        if not copy.exists():
            _copy(path, copy)
            with suppress(FileNotFoundError):
                _copy(path.with_name(f"{path.name}-wal"), copy.with_name(f"{copy.name}-wal"))
        _forget_oldest(path)
    except OSError as error:
        LOG.warning("no copy of the damaged %s could be kept: %s", path, error.strerror)
        return None
    return copy


def _copy(source: Path, target: Path) -> None:
    partial = target.with_name(f"{target.name}.partial")
    with source.open("rb") as old:
        handle = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(handle, "wb") as new:
            shutil.copyfileobj(old, new)
    partial.rename(target)


def _forget_oldest(path: Path) -> None:
    copies = sorted(copy for copy in path.parent.glob(f"{path.name}{_MARK}*Z") if copy.is_file())
    for copy in copies[:-MOST_COPIES]:
        copy.unlink()
        copy.with_name(f"{copy.name}-wal").unlink(missing_ok=True)
