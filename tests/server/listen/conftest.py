"""A listening server over a state folder of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.server.listen.world import START, ListeningServer


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ListeningServer]:
    folder = tmp_path / "state"
    folder.mkdir(mode=0o700)
    made = ListeningServer(folder, START)
    yield made
    made.close()
