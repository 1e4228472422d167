"""A state folder, and a store in it."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from spa_server.remember.registry import Registry
from spa_server.remember.store import Store, open_store
from spa_server.remember.witness import Witness

NOBODY = 65534


@pytest.fixture
def daemon_folder() -> Iterator[Path]:
    """A state folder of an unprivileged user, who cannot pass through the folders above `tmp_path`."""
    made = Path(tempfile.mkdtemp(prefix="spa-state-"))
    os.chown(made, NOBODY, NOBODY)
    yield made
    shutil.rmtree(made)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "state"
    made.mkdir(mode=0o700)
    return made


@pytest.fixture
def witness(tmp_path: Path) -> Iterator[Witness]:
    made = Witness.open(tmp_path / "newest-use")
    yield made
    made.close()


@pytest.fixture
def store(folder: Path) -> Iterator[Store]:
    with open_store(folder, create=True) as opened:
        yield opened


@pytest.fixture
def registry(store: Store) -> Registry:
    return Registry(store)
