"""Fixtures of the tests of the whole: a running server in the lab, and alice's laptop enrolled with it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.end_to_end.running import Laptop, RunningServer, enrolled, open_folder
from tests.lab import Lab


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that the network process may enter."""
    with open_folder() as made:
        yield made


@pytest.fixture(scope="module")
def module_folder() -> Iterator[Path]:
    """As `folder`, shared by the tests of one module."""
    with open_folder() as made:
        yield made


@pytest.fixture
def server(lab: Lab, folder: Path) -> Iterator[RunningServer]:
    """A running server that protects tcp and udp 8443."""
    with RunningServer(lab, folder) as running:
        yield running


@pytest.fixture
def alice(server: RunningServer, lab: Lab) -> Laptop:
    """Alice's laptop, enrolled."""
    return enrolled(server, lab.clients["alice"], "alice-laptop")
