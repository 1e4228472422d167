"""Fixtures of the client's tests: a server on loopback, a store of its own for every test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from spa_client.enrol import join
from spa_client.knocking import DEFAULT_TIMEOUT_S
from spa_client.pace import Pace
from spa_client.perimeter import Perimeter
from spa_client.storage import FOLDER_VARIABLE, Store
from tests.client.gatekeeper import Gatekeeper
from tests.stalls import PATIENCE_S


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who asks for the usual time waits far longer for an answer, and as long for the other family's.

    The server is a thread of the test's own process, so when the machine stands still for a second neither has had any
    time. Tests of the waiting itself ask for another time than the usual one, and then get just that.
    """
    scaled = Pace.within

    def within(total_s: float, addresses: int = 1, round_trip_s: float = 0.0) -> Pace:
        if total_s != DEFAULT_TIMEOUT_S:
            return scaled(total_s, addresses, round_trip_s)
        return Pace((0.0, 5.0, 10.0, 20.0), 1.5, PATIENCE_S, PATIENCE_S, PATIENCE_S)

    monkeypatch.setattr(Pace, "within", within)


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
