"""What is usual for a user and a device: kept over a restart, learnt from what was granted, forgotten in time."""

from __future__ import annotations

from ipaddress import ip_network
from pathlib import Path

import pytest

from spa_protocol.posture import Fact, Posture
from spa_server.decide.usual import Place
from spa_server.remember import baseline, schema
from spa_server.remember.baseline import FRESH_S, KEPT_S, MOST_NETWORKS, WORSE_FOR_S, Baselines
from spa_server.remember.registry import Registry
from spa_server.remember.store import Store, open_store
from tests.server.remember.older import make_older

NOW_S = 1_767_229_200
HOUR, DAY = 3600, 86_400
HOME, OFFICE, HOME6 = ip_network("192.0.2.0/24"), ip_network("198.51.100.0/24"), ip_network("2001:db8:7::/48")
BERLIN, PARIS = Place(52.52, 13.41), Place(48.86, 2.35)
GOOD = Posture(disk_encrypted=Fact.YES, screen_lock=Fact.YES, firewall=Fact.NO, patch_age_days=3)
UNLOCKED = Posture(disk_encrypted=Fact.YES, screen_lock=Fact.NO, firewall=Fact.NO, patch_age_days=3)


@pytest.fixture
def known(store: Store) -> Baselines:
    return Baselines(store)


def changes(store: Store) -> int:
    return int(store.rows("SELECT total_changes()")[0][0])


def test_what_was_learnt_outlasts_the_process(folder: Path, store: Store, known: Baselines) -> None:
    known.learn("alice", HOME, BERLIN, NOW_S)
    known.learn("alice", HOME6, PARIS, NOW_S)
    known.learn_posture("alice-laptop", GOOD, NOW_S)
    before = known.of("alice", NOW_S), known.posture("alice-laptop", NOW_S)
    store.close()
    with open_store(folder) as again:
        assert (Baselines(again).of("alice", NOW_S), Baselines(again).posture("alice-laptop", NOW_S)) == before
        alice = Baselines(again).of("alice", NOW_S)
        assert set(alice.networks) == {str(HOME), str(HOME6)}
        assert {family: each.place for family, each in alice.places.items()} == {4: BERLIN, 6: PARIS}
        assert sum(alice.samples) == 1
        assert alice.samples[NOW_S // HOUR % 24] == 1
        assert Baselines(again).of("bob", NOW_S) == baseline.Baseline()


def test_a_first_network_is_no_new_one_and_a_second_is_new_for_as_long_as_it_was(known: Baselines) -> None:
    assert known.of("alice", NOW_S).new_network_ago_s(HOME, NOW_S) is None
    known.learn("alice", HOME, None, NOW_S)
    assert known.of("alice", NOW_S).new_network_ago_s(HOME, NOW_S) is None
    assert known.of("alice", NOW_S).new_network_ago_s(OFFICE, NOW_S) == 0
    known.learn("alice", OFFICE, None, NOW_S + 10)
    later = known.of("alice", NOW_S + HOUR)
    assert later.new_network_ago_s(OFFICE, NOW_S + HOUR) == HOUR - 10
    assert later.new_network_ago_s(HOME, NOW_S + HOUR) is None
    assert known.of("bob", NOW_S).new_network_ago_s(OFFICE, NOW_S) is None


def test_a_network_is_new_again_when_it_was_not_seen_for_ninety_days(known: Baselines) -> None:
    known.learn("alice", OFFICE, None, NOW_S)
    known.learn("alice", HOME, None, NOW_S + DAY)
    assert known.of("alice", NOW_S + KEPT_S - 1).new_network_ago_s(OFFICE, NOW_S + KEPT_S - 1) is None
    assert known.of("alice", NOW_S + KEPT_S).new_network_ago_s(OFFICE, NOW_S + KEPT_S) == 0
    known.learn("alice", OFFICE, None, NOW_S + KEPT_S)
    assert known.of("alice", NOW_S + KEPT_S).networks[str(OFFICE)].first_s == NOW_S + KEPT_S


def test_renewals_cost_no_write_within_the_hour(store: Store, known: Baselines) -> None:
    known.learn("alice", HOME, None, NOW_S)
    known.learn_posture("alice-laptop", GOOD, NOW_S)
    written = changes(store)
    for later_s in range(0, HOUR - NOW_S % HOUR, 15):
        known.learn("alice", HOME, None, NOW_S + later_s)
        known.learn_posture("alice-laptop", GOOD, NOW_S + later_s)
    assert changes(store) == written
    known.learn("alice", HOME, None, NOW_S + FRESH_S)
    assert changes(store) > written
    assert known.of("alice", NOW_S).networks[str(HOME)] == baseline.KnownNetwork(NOW_S, NOW_S + FRESH_S)


def test_an_hour_counts_once_however_many_knocks_there_are_in_it(known: Baselines) -> None:
    for day in range(3):
        for minute in range(0, 60, 5):
            known.learn("alice", HOME, None, NOW_S + day * DAY + minute * 60)
    assert sum(known.of("alice", NOW_S + 3 * DAY).samples) == 3


def test_the_hour_that_runs_is_not_what_was_usual_before_it(known: Baselines) -> None:
    known.learn("alice", HOME, None, NOW_S)
    alice, hour = known.of("alice", NOW_S), NOW_S // HOUR
    assert sum(alice.samples_before(hour)) == 0
    assert sum(alice.samples_before(hour + 24)) == 1
    assert all(count >= 0 for count in alice.samples_before(hour))


def test_habits_may_change_since_old_samples_lose_weight(known: Baselines, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(baseline, "MOST_SAMPLES", 40)
    for day in range(80):
        known.learn("alice", HOME, None, NOW_S + day * DAY)
    before = known.of("alice", NOW_S + 80 * DAY).samples
    assert 20 <= sum(before) <= 40
    for day in range(80, 160):
        known.learn("alice", HOME, None, NOW_S + day * DAY + 12 * HOUR)
    after = known.of("alice", NOW_S + 160 * DAY).samples
    assert after[(NOW_S // HOUR + 12) % 24] > 10 * after[NOW_S // HOUR % 24]


def test_the_networks_of_a_user_are_few_and_those_seen_last(known: Baselines) -> None:
    for number in range(MOST_NETWORKS + 10):
        known.learn("alice", ip_network(f"10.0.{number}.0/24"), None, NOW_S + number)
    known.learn("bob", HOME, None, NOW_S)
    kept = set(known.of("alice", NOW_S).networks)
    assert kept == {f"10.0.{number}.0/24" for number in range(10, MOST_NETWORKS + 10)}
    assert set(known.of("bob", NOW_S).networks) == {str(HOME)}


def test_what_is_older_than_ninety_days_is_erased(store: Store, known: Baselines) -> None:
    known.learn("alice", HOME, BERLIN, NOW_S)
    known.learn_posture("alice-laptop", GOOD, NOW_S)
    known.learn("bob", OFFICE, PARIS, NOW_S + DAY)
    known.learn_posture("bob-laptop", GOOD, NOW_S + DAY)
    known.prune(NOW_S + KEPT_S - HOUR)
    assert known.of("alice", NOW_S).networks
    known.prune(NOW_S + KEPT_S + HOUR)
    for table, column in TABLES.items():
        rows = [row[0] for row in store.rows(f"SELECT {column} FROM {table}")]
        assert rows == (["bob-laptop"] if column == "label" else ["bob"]), table


TABLES = {
    "baseline_network": "user",
    "baseline_hours": "user",
    "baseline_place": "user",
    "baseline_posture": "label",
}


def test_a_user_can_be_forgotten(store: Store, known: Baselines) -> None:
    for user in ("alice", "bob"):
        known.learn(user, HOME, BERLIN, NOW_S)
    known.forget("alice")
    assert known.of("alice", NOW_S) == baseline.Baseline()
    assert known.of("bob", NOW_S) != baseline.Baseline()


def test_a_place_is_kept_as_fresh_as_an_airliner_flies(known: Baselines) -> None:
    for later_s in (0, 100, 299, 300, 400, 700):
        known.learn("alice", HOME, BERLIN, NOW_S + later_s)
    assert known.of("alice", NOW_S).places[4].last_s == NOW_S + 700
    known.learn("alice", HOME, PARIS, NOW_S + 701)
    assert known.of("alice", NOW_S).places[4] == baseline.KnownPlace(PARIS, NOW_S + 701)
    known.learn("alice", HOME, None, NOW_S + 7000)
    assert known.of("alice", NOW_S).places[4].place == PARIS


def test_a_clock_that_was_ahead_leaves_nothing_that_stays_for_ever(known: Baselines) -> None:
    known.learn("alice", HOME, BERLIN, NOW_S + 10 * KEPT_S)
    known.learn("alice", HOME, BERLIN, NOW_S)
    alice = known.of("alice", NOW_S)
    assert (alice.networks[str(HOME)].last_s, alice.places[4].last_s, alice.last_hour) == (NOW_S, NOW_S, NOW_S // HOUR)


def test_what_cannot_be_noted_is_said_and_does_no_harm(
    store: Store, known: Baselines, caplog: pytest.LogCaptureFixture
) -> None:
    store.rows("PRAGMA query_only=ON")
    known.learn("alice", HOME, BERLIN, NOW_S)
    known.learn_posture("alice-laptop", GOOD, NOW_S)
    store.rows("PRAGMA query_only=OFF")
    assert "what is usual for alice could not be noted" in caplog.text
    assert "the posture of alice-laptop could not be noted" in caplog.text
    assert known.of("alice", NOW_S) == baseline.Baseline()


def test_a_posture_that_gets_worse_is_worse_from_then_on_until_it_has_long_been_so(known: Baselines) -> None:
    def worse_ago_s(posture: Posture | None, later_s: int) -> int | None:
        found = known.posture("alice-laptop", NOW_S + later_s)
        assert found is not None
        return found.worse_ago_s(posture, NOW_S + later_s)

    known.learn_posture("alice-laptop", GOOD, NOW_S)
    assert worse_ago_s(GOOD, 0) is None
    assert worse_ago_s(UNLOCKED, 0) == 0
    assert worse_ago_s(None, 0) == 0
    assert worse_ago_s(UNLOCKED, 500) == 0, "it was not let in with it"
    known.learn_posture("alice-laptop", UNLOCKED, NOW_S + 1000)
    known.learn_posture("alice-laptop", UNLOCKED, NOW_S + 2000)
    assert worse_ago_s(UNLOCKED, 3000) == 2000
    known.learn_posture("alice-laptop", UNLOCKED, NOW_S + 1000 + WORSE_FOR_S)
    assert worse_ago_s(UNLOCKED, 2000 + WORSE_FOR_S) is None
    assert worse_ago_s(Posture(), 2000 + WORSE_FOR_S) == 0, "what is usual now can get worse in its turn"


def test_a_posture_that_is_good_again_has_never_been_worse(known: Baselines) -> None:
    known.learn_posture("alice-laptop", GOOD, NOW_S)
    known.learn_posture("alice-laptop", UNLOCKED, NOW_S + 10)
    known.learn_posture("alice-laptop", GOOD, NOW_S + 20)
    found = known.posture("alice-laptop", NOW_S + 20)
    assert found is not None
    assert found.worse_ago_s(GOOD, NOW_S + 20) is None
    assert found.worse_ago_s(UNLOCKED, NOW_S + 20) == 0


def test_a_device_that_says_nothing_any_more_is_worse_and_one_that_never_did_is_not(known: Baselines) -> None:
    known.learn_posture("silent", None, NOW_S)
    assert known.posture("silent", NOW_S) is None
    known.learn_posture("alice-laptop", GOOD, NOW_S)
    known.learn_posture("alice-laptop", None, NOW_S + 10)
    found = known.posture("alice-laptop", NOW_S + HOUR)
    assert found is not None
    assert found.worse_ago_s(None, NOW_S + HOUR) == HOUR - 10
    known.learn_posture("alice-laptop", None, NOW_S + 10 + WORSE_FOR_S)
    found = known.posture("alice-laptop", NOW_S + 10 + WORSE_FOR_S)
    assert found is not None
    assert found.posture == Posture()


def test_a_state_of_version_2_learns_to_keep_what_is_usual(folder: Path, store: Store) -> None:
    Registry(store).add_device("alice-laptop", "alice", ["admin"], bytes(range(32)), bytes(32), NOW_S)
    store.close()
    make_older(store.path, 2)
    with open_store(folder) as upgraded:
        assert upgraded.rows("PRAGMA user_version") == [(schema.VERSION,)]
        assert [device.label for device in Registry(upgraded).devices()] == ["alice-laptop"]
        known = Baselines(upgraded)
        assert known.of("alice", NOW_S) == baseline.Baseline()
        known.learn("alice", HOME, BERLIN, NOW_S)
        known.learn_posture("alice-laptop", GOOD, NOW_S)
        assert set(known.of("alice", NOW_S).networks) == {str(HOME)}
        assert known.posture("alice-laptop", NOW_S) is not None
