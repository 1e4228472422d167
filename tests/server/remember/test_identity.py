"""The server's key: found where the service manager, the operator or the first version put it, and kept from others."""

from __future__ import annotations

from pathlib import Path

import pytest

from spa_server.remember.identity import CREDENTIALS, create_identity, identity_path, read_identity
from spa_server.remember.store import StateError

SEED = bytes(range(32))


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    """The three folders that are looked into, in that order."""
    found = {name: tmp_path / name for name in ("credentials", "etc", "state")}
    for folder in found.values():
        folder.mkdir()
    monkeypatch.setenv(CREDENTIALS, str(found["credentials"]))
    return found


def path_now(places: dict[str, Path]) -> Path:
    return identity_path(places["etc"] / "server.toml", places["state"])


def test_the_first_place_that_has_a_key_is_taken(places: dict[str, Path]) -> None:
    assert path_now(places) == places["etc"] / "server.key", "where it is to be made"
    for name in ("state", "etc", "credentials"):
        create_identity(places[name] / "server.key", SEED)
        assert path_now(places) == places[name] / "server.key"


def test_without_a_service_manager_only_the_two_others_are_looked_at(
    places: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    create_identity(places["credentials"] / "server.key", SEED)
    monkeypatch.delenv(CREDENTIALS)
    assert path_now(places) == places["etc"] / "server.key"


def test_what_was_made_is_read_again_and_not_overwritten(places: dict[str, Path]) -> None:
    path = places["etc"] / "server.key"
    made = create_identity(path, SEED)
    assert path.stat().st_mode & 0o777 == 0o600
    assert read_identity(path) == made
    with pytest.raises(StateError, match="not overwritten"):
        create_identity(path, bytes(32))


def test_a_key_that_others_can_read_is_refused_unless_it_is_a_credential(places: dict[str, Path]) -> None:
    for name in ("etc", "state", "credentials"):
        path = places[name] / "server.key"
        made = create_identity(path, SEED)
        path.chmod(0o440)
        if name == "credentials":
            assert read_identity(path) == made
        else:
            with pytest.raises(StateError, match="chmod 600"):
                read_identity(path)


@pytest.mark.parametrize("text", ["", "nonsense", "\xff"])
def test_what_is_no_key_is_said(places: dict[str, Path], text: str) -> None:
    path = places["etc"] / "server.key"
    path.touch(0o600)
    path.write_text(text, encoding="latin-1")
    with pytest.raises(StateError, match="cannot be used"):
        read_identity(path)
