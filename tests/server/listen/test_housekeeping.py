"""What the server does besides judging: the log of the state is folded back before it grows, also between minutes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest

from spa_protocol.keys import public_key
from spa_server.config import load
from spa_server.config_template import template
from spa_server.listen.arrival import Arrival
from spa_server.listen.clock import Instant, system_clock
from spa_server.listen.firewall_link import FirewallLink
from spa_server.listen.judge import MOST_UNFOLDED, Judge
from spa_server.remember.fence import mark_new
from spa_server.remember.registry import Registry
from spa_server.remember.store import open_store
from tests.server.listen.world import IDENTITY, PATH, POLICY, FirstRecords, Keyring, RecordingFirewall, secret

ALICE = Keyring("alice-laptop", secret("seed alice"), secret("gate alice"))


@pytest.fixture
def now() -> Instant:
    return system_clock()


@pytest.fixture
def judge(tmp_path: Path, now: Instant) -> Iterator[Judge]:
    state = tmp_path / "state"
    state.mkdir(mode=0o700)
    text = template(("gw.example.org",), state_folder=str(state), control_socket=str(tmp_path / "control.sock"))
    (tmp_path / "server.toml").write_text(text)
    store = open_store(state, create=True)
    mark_new(store)
    Registry(store).add_device(ALICE.label, "alice", ("admin",), public_key(ALICE.seed), ALICE.gate_secret, now.wall_s)
    link = cast("FirewallLink", RecordingFirewall())
    with store:
        yield Judge(load(tmp_path / "server.toml"), store, link, IDENTITY, FirstRecords(), now, policy=POLICY)


def test_the_log_is_folded_back_after_so_many_transactions_without_waiting_for_the_minute(
    judge: Judge, now: Instant
) -> None:
    sizes = []
    for _ in range(3):
        while judge.store.unfolded < MOST_UNFOLDED:
            with judge.store.quick() as connection:
                connection.execute("INSERT OR REPLACE INTO source_of_device VALUES ('a', '192.0.2.1', 1)")
        judge.keep_house(now)
        assert judge.store.unfolded == 0
        sizes.append(judge.store.path.with_name("state.sqlite3-wal").stat().st_size)
    assert max(sizes) <= sizes[0] + 8192, "it is written over from its beginning"


def test_what_could_not_be_recorded_is_recorded_at_the_next_turn(judge: Judge, now: Instant) -> None:
    judge.store.rows("PRAGMA query_only=ON")
    judge.handle(Arrival(ALICE.knock(now.wall_ms, 0, "web"), PATH, 40_000, now))
    judge.store.rows("PRAGMA query_only=OFF")
    assert judge.results == {"not_recorded": 1}
    judge.keep_house(now)
    assert judge.store.rows("SELECT count(*) FROM used") == [(1,)]
