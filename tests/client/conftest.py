"""Fixtures of the client's tests: a server on loopback, a store of its own for every test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from spa_client.enrol import join
from spa_client.perimeter import Perimeter
from spa_client.storage import FOLDER_VARIABLE, Store
from tests.client.gatekeeper import Gatekeeper


@pytest.fixture
def server() -> Iterator[Gatekeeper]:
    """A server on both loopback addresses."""
    with Gatekeeper() as running:
        yield running


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """An empty store, which is also the default one while the test runs."""
    folder = tmp_path / "spa"
    monkeypatch.setenv(FOLDER_VARIABLE, str(folder))
    return Store.default()


@pytest.fixture
def office(server: Gatekeeper, store: Store) -> Perimeter:
    """The server's perimeter, joined; nothing of the joining is left in what the server saw."""
    perimeter = join(server.invite().text(), store=store, name="office")
    server.requests.clear()
    return perimeter
