"""A copy of the state that is put back within the same boot, or lost records of it, open nothing a second time."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from spa_protocol.refusal import Refusal
from tests.server.listen.world import PATH, START, Keyring, ListeningServer, later

STATE = "state.sqlite3"


@pytest.fixture
def alice(server: ListeningServer) -> Keyring:
    return server.add("alice-laptop")


def put_back(server: ListeningServer, copy: Path) -> None:
    """Over the very file, as `cp` does; what was in the log is gone."""
    server.close()
    (server.folder / STATE).write_bytes(copy.read_bytes())


def back_up(server: ListeningServer, copy: Path) -> None:
    server.store.checkpoint()
    shutil.copyfile(server.folder / STATE, copy)


def test_a_knock_used_since_the_copy_was_made_opens_nothing_again(
    server: ListeningServer, alice: Keyring, tmp_path: Path
) -> None:
    back_up(server, tmp_path / "copy")
    knock = alice.knock(START.wall_ms, 0, "web")
    server.hear(knock, START)
    put_back(server, tmp_path / "copy")
    server.start(later(START, 5_000))
    server.hear(knock, later(START, 5_000))
    assert len(server.firewall.granted) == 1


def test_behind_the_fence_of_an_older_copy_knocks_open_again_also_after_a_restart(
    server: ListeningServer, alice: Keyring, tmp_path: Path
) -> None:
    back_up(server, tmp_path / "copy")
    server.hear(alice.knock(START.wall_ms, 0, "web"), START)
    put_back(server, tmp_path / "copy")
    server.start(later(START, 5_000))
    soon = later(START, 180_000)
    server.restart(soon)
    server.hear(alice.knock(soon.wall_ms, 0, "web"), soon)
    assert len(server.firewall.granted) == 2


def test_the_newest_state_is_not_fenced_by_a_restart(server: ListeningServer, alice: Keyring) -> None:
    server.hear(alice.knock(START.wall_ms, 0, "web"), START)
    server.restart(later(START, 1_000))
    server.hear(alice.knock(START.wall_ms, 1, "web"), later(START, 1_000))
    assert len(server.firewall.granted) == 2


def test_a_state_whose_log_was_deleted_is_fenced(server: ListeningServer, alice: Keyring, tmp_path: Path) -> None:
    server.store.checkpoint()
    knock = alice.knock(START.wall_ms, 0, "web")
    server.hear(knock, START)
    shutil.copyfile(server.folder / STATE, tmp_path / "without-log")
    put_back(server, tmp_path / "without-log")
    server.start(later(START, 5_000))
    server.hear(knock, later(START, 5_000))
    assert len(server.firewall.granted) == 1


def test_a_copy_made_before_the_first_run_is_fenced_in_another_boot(
    server: ListeningServer, alice: Keyring, tmp_path: Path
) -> None:
    """It says of itself that no server ran on it, but it is not the file that was made new."""
    with server.new_state(tmp_path / "other") as other:
        other.add_device("alice-laptop", "user", ("admin",), alice.public, alice.gate_secret, START.wall_s)
    knock = alice.knock(START.wall_ms, 0, "web")
    server.hear(knock, START)
    server.close()
    (server.folder / STATE).unlink()
    shutil.copyfile(tmp_path / "other" / STATE, server.folder / STATE)
    (server.folder / STATE).chmod(0o600)
    server.forget_witness()
    server.start(replace(later(START, 5_000), boot_ms=3_000), boot_id="boot-2")
    server.hear(knock, later(START, 5_000), PATH)
    assert len(server.firewall.granted) == 1


@pytest.mark.parametrize("restarts", [False, True])
def test_a_knock_that_could_not_be_recorded_never_opens_though_it_could_be_later(
    server: ListeningServer, alice: Keyring, restarts: bool
) -> None:
    """Whoever overheard it could send it again, from an address of their own."""
    knock = alice.knock(START.wall_ms, 0, "web")
    server.store.rows("PRAGMA query_only=ON")
    answer = alice.answer(server.hear(knock, START), knock)
    assert answer is not None
    assert answer.refusal is Refusal.NOT_RECORDED
    if restarts:
        server.restart(later(START, 1_000))
    else:
        server.store.rows("PRAGMA query_only=OFF")
        server.membership.tags_are_gone()
        server.membership.keep_time(later(START, 1_000))
    server.hear(knock, later(START, 1_000))
    assert server.firewall.granted == []
    server.hear(alice.knock(START.wall_ms, 1, "web"), later(START, 1_000))
    assert len(server.firewall.granted) == 1, "others open again at once"
    server.used.settle()
    server.restart(later(START, 2_000))
    server.hear(knock, later(START, 2_000))
    assert len(server.firewall.granted) == 1


def test_what_could_not_be_recorded_is_recorded_when_it_can(server: ListeningServer, alice: Keyring) -> None:
    knock = alice.knock(START.wall_ms, 0, "web")
    server.store.rows("PRAGMA query_only=ON")
    server.hear(knock, START)
    server.store.rows("PRAGMA query_only=OFF")
    server.used.settle()
    server.forget_witness()
    server.restart(later(START, 1_000), boot_id=server.boot_id)
    server.hear(knock, later(START, 1_000))
    assert server.firewall.granted == []


def test_a_knock_that_came_while_the_registry_could_not_be_read_never_opens(
    server: ListeningServer, alice: Keyring, monkeypatch: pytest.MonkeyPatch
) -> None:
    knock = alice.knock(START.wall_ms, 0, "web")
    with monkeypatch.context() as patched:
        patched.setattr(server.membership, "catch_up", _unreadable)
        assert server.hear(knock, START) is None
    server.membership.tags_are_gone()
    server.membership.keep_time(START)
    server.hear(knock, START)
    assert server.firewall.granted == []


def _unreadable(_now: object) -> None:
    from spa_server.remember.store import StateError

    raise StateError("the registry cannot be read in this test")
