"""A loss of power in a test: the state folder as it was when something was last forced to the disk.

All that was written since is lost, which is the worst that can happen; a real disk mostly keeps more.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from sqlite3 import Connection
from unittest import mock

from spa_server.remember.store import Store

_durable = Store.durable


class ForcedCopy:
    """Keeps, beside a state folder, what of it is on the disk for sure."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._forced = Path(tempfile.mkdtemp(prefix="spa-forced-"))
        self._patch = mock.patch.object(Store, "durable", self._watched())

    def close(self) -> None:
        self._patch.stop()
        shutil.rmtree(self._forced)

    def start(self) -> None:
        """From now on every durable transaction is followed by a copy."""
        self._patch.start()

    def cut_power(self) -> None:
        """Put the folder back as it was; nobody may have it open."""
        _copy(self._forced, self._folder)

    def _watched(self) -> object:
        @contextlib.contextmanager
        def durable(store: Store) -> Iterator[Connection]:
            with _durable(store) as connection:
                yield connection
            _copy(self._folder, self._forced)

        return durable


def _copy(source: Path, target: Path) -> None:
    for old in target.glob("state.sqlite3*"):
        old.unlink()
    for name in ("state.sqlite3", "state.sqlite3-wal"):
        if (source / name).exists():
            shutil.copyfile(source / name, target / name)
            (target / name).chmod(0o600)
