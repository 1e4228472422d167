"""What speaks against a knock, and what strangers cannot do about anybody's score."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spa_protocol.posture import Fact, Posture
from spa_server.decide.risk import Band, Risk, Weights
from spa_server.listen import suspicions
from spa_server.listen.clock import Instant
from spa_server.listen.risk_watch import RiskWatch
from spa_server.networks import network
from spa_server.remember.baseline import Baselines
from spa_server.remember.store import Store, open_store
from spa_server.remember.witness import Slot
from spa_server.risk_lists import RiskLists, read_lists
from spa_server.risk_table import RiskSettings
from spa_server.service import Address
from spa_server.tell.event_types import KEY_USED_TWICE
from tests.server.listen.world import START, later

MINUTE, HOUR, DAY = 60_000, 3_600_000, 86_400_000
HOME, NEIGHBOUR, OFFICE = ip_address("192.0.2.7"), ip_address("192.0.2.99"), ip_address("198.51.100.7")
HOME6, TRAIN = ip_address("2001:db8:7::7"), ip_address("203.0.113.7")
CREATED_S = START.wall_s - 30 * 86_400
GOOD = Posture(disk_encrypted=Fact.YES, screen_lock=Fact.YES, patch_age_days=3)
UNLOCKED = replace(GOOD, screen_lock=Fact.NO)
SLOT = Slot(1, 29_000_000, 3)


class Watched:
    """A watch over a state of its own, asked and told in few words about alice's laptop."""

    def __init__(self, store: Store, lists: RiskLists | None = None) -> None:
        self.store = store
        self.watch = RiskWatch(Baselines(store), RiskSettings(), lists or RiskLists())

    def assess(
        self,
        source: Address = HOME,
        at: Instant = START,
        *,
        device: str = "alice-laptop",
        user: str = "alice",
        created_s: int = CREATED_S,
        first_use: bool = False,
        skew_ms: int = 0,
        posture: Posture | None = None,
        renews: bool = False,
    ) -> Risk:
        return self.watch.assess(
            user=user,
            device=device,
            key_created_s=created_s,
            first_use=first_use,
            source=source,
            at=at,
            skew_ms=skew_ms,
            posture=posture,
            renews=renews,
        )

    def standing(self, source: Address, at: Instant, posture: Posture | None = None) -> Risk:
        return self.watch.standing(
            user="alice", device="alice-laptop", key_created_s=CREATED_S, source=source, at=at, posture=posture
        )

    def grant(
        self,
        source: Address = HOME,
        at: Instant = START,
        *,
        device: str = "alice-laptop",
        posture: Posture | None = None,
    ) -> Risk:
        """A knock that is judged and let in."""
        risk = self.assess(source, at, device=device, posture=posture)
        self.watch.granted(user="alice", device=device, source=source, at=at, posture=posture)
        return risk


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    folder = tmp_path / "state"
    folder.mkdir(mode=0o700)
    with open_store(folder, create=True) as opened:
        yield opened


@pytest.fixture
def alice(store: Store) -> Watched:
    return Watched(store)


def parts(risk: Risk) -> dict[str, int]:
    return dict(risk.parts)


def test_a_plain_knock_of_a_new_user_has_no_risk_but_that_it_is_the_first(alice: Watched) -> None:
    assert alice.assess() == Risk()
    assert parts(alice.assess(first_use=True)) == {"first_use": 20}


def test_a_network_that_the_user_was_never_let_in_from_is_new_and_ages(alice: Watched) -> None:
    alice.grant(HOME)
    assert alice.assess(NEIGHBOUR) == Risk()
    assert parts(alice.assess(OFFICE, later(START, MINUTE))) == {"new_network": 15}
    assert parts(alice.assess(OFFICE, later(START, 9 * HOUR))) == {"new_network": 15}, "asking teaches nothing"
    alice.grant(OFFICE, later(START, 9 * HOUR))
    assert parts(alice.assess(OFFICE, later(START, 10 * HOUR))) == {"new_network": 8}
    assert alice.assess(OFFICE, later(START, 15 * HOUR)) == Risk()


@pytest.mark.parametrize(
    ("skew_ms", "found"), [(9_000, {}), (-11_000, {"clock_skew": 5}), (31_000, {"clock_skew": 15})]
)
def test_a_clock_that_is_off_counts_either_way(alice: Watched, skew_ms: int, found: dict[str, int]) -> None:
    assert parts(alice.assess(skew_ms=skew_ms)) == found


def test_an_old_key_counts(alice: Watched) -> None:
    assert parts(alice.assess(created_s=START.wall_s - 181 * 86_400)) == {"old_key": 10}


def test_an_hour_at_which_the_user_never_comes_is_unusual_while_it_lasts(alice: Watched) -> None:
    for day in range(20):
        alice.grant(HOME, later(START, day * DAY))
    night = later(START, 20 * DAY + 12 * HOUR)
    assert parts(alice.assess(HOME, night)) == {"unusual_hour": 10}
    alice.grant(HOME, night)
    assert parts(alice.assess(HOME, later(night, MINUTE))) == {"unusual_hour": 10}, "one success does not make a habit"
    assert alice.assess(HOME, later(START, 20 * DAY)) == Risk()


def test_a_network_on_the_block_list_counts_however_well_it_is_known(store: Store) -> None:
    blocked = read_lists(RiskSettings(block=(network("192.0.2.0/28"),)))
    alice = Watched(store, blocked)
    alice.grant(HOME)
    assert parts(alice.assess(HOME)) == {"block_list": 50}
    assert alice.assess(NEIGHBOUR) == Risk()


# Travel ---------------------------------------------------------------------------------------------------------------


@pytest.fixture
def traveller(store: Store, tmp_path: Path) -> Watched:
    path = tmp_path / "places.csv"
    path.write_text(
        "network,latitude,longitude\n192.0.2.0/24,52.52,13.41\n198.51.100.0/24,48.86,2.35\n2001:db8:7::/48,-33.87,151.21\n"
    )
    return Watched(store, read_lists(RiskSettings(location_file=path)))


def test_nobody_is_in_paris_ten_minutes_after_berlin(traveller: Watched) -> None:
    traveller.grant(HOME)
    risk = traveller.assess(OFFICE, later(START, 10 * MINUTE))
    assert parts(risk) == {"new_network": 15, "impossible_travel": 35}
    assert Weights().band(risk.score) is Band.STEP_UP
    back = traveller.assess(HOME, later(START, 70 * MINUTE))
    assert parts(back) == {"impossible_travel": 18}, "it was the same key, an hour ago"


def test_a_flight_takes_its_time(traveller: Watched) -> None:
    traveller.grant(HOME)
    assert parts(traveller.assess(OFFICE, later(START, 2 * HOUR))) == {"new_network": 15}


def test_a_place_where_nobody_was_let_in_is_no_place_to_travel_from(traveller: Watched) -> None:
    traveller.grant(HOME)
    traveller.assess(OFFICE, later(START, 10 * MINUTE))
    at = later(START, 20 * HOUR)
    assert parts(traveller.assess(HOME, at)) == {}


def test_the_two_families_of_one_host_may_be_in_two_places(traveller: Watched) -> None:
    traveller.grant(HOME)
    assert "impossible_travel" not in parts(traveller.grant(HOME6, later(START, 1000)))
    assert "impossible_travel" not in parts(traveller.grant(HOME, later(START, 2000)))


def test_where_a_network_is_not_known_there_is_no_travel(traveller: Watched) -> None:
    traveller.grant(HOME)
    assert "impossible_travel" not in parts(traveller.assess(TRAIN, later(START, 1000)))


# Two who use one key --------------------------------------------------------------------------------------------------


def knocks(alice: Watched, *sources: Address, gap_ms: int = 15_000) -> list[bool]:
    """Whether each of them, in turn, looks as if two used the key."""
    return [
        "two_sources" in parts(alice.assess(source, later(START, number * gap_ms)))
        for number, source in enumerate(sources)
    ]


def test_two_that_renew_in_turn_show_that_they_have_one_key(alice: Watched) -> None:
    assert knocks(alice, HOME, TRAIN, HOME, TRAIN, HOME) == [False, False, False, True, True]


def test_who_renews_more_often_does_not_hide_the_other(alice: Watched) -> None:
    assert knocks(alice, HOME, HOME, TRAIN, HOME, HOME, HOME, TRAIN)[-1]


def test_three_that_use_one_key_are_found_too(alice: Watched) -> None:
    assert knocks(alice, HOME, TRAIN, OFFICE, HOME, TRAIN)[-1]


@pytest.mark.parametrize(
    "sources",
    [
        (HOME, HOME, TRAIN, TRAIN, OFFICE, OFFICE),
        (HOME, TRAIN, HOME, HOME, HOME),
        (HOME, NEIGHBOUR, HOME, NEIGHBOUR, HOME, NEIGHBOUR),
        (HOME, HOME6, HOME, HOME6, HOME, HOME6),
    ],
    ids=["roaming", "there and back", "neighbouring addresses", "both families"],
)
def test_one_device_that_moves_is_not_two(alice: Watched, sources: tuple[Address, ...]) -> None:
    assert not any(knocks(alice, *sources))


def test_going_to_and_fro_within_hours_is_no_alternation(alice: Watched) -> None:
    assert not any(knocks(alice, HOME, TRAIN, HOME, TRAIN, HOME, TRAIN, gap_ms=suspicions.ALTERNATING_MS))


def test_a_delegate_beside_its_device_is_another(alice: Watched) -> None:
    for number in range(6):
        source, device = ((HOME, "alice-laptop"), (TRAIN, "alice-laptop+ci"))[number % 2]
        assert "two_sources" not in parts(alice.assess(source, later(START, number * 15_000), device=device))


def test_looking_at_what_is_open_is_no_knock(alice: Watched) -> None:
    for number in range(10):
        risk = alice.standing((HOME, TRAIN)[number % 2], later(START, number * 1000))
        assert "two_sources" not in parts(risk)


def test_what_is_open_is_seen_as_its_next_knock_would_be(alice: Watched) -> None:
    alice.grant(HOME, posture=GOOD)
    assert alice.standing(HOME, later(START, MINUTE), GOOD) == Risk()
    knocks(alice, HOME, TRAIN, HOME, TRAIN)
    found = parts(alice.standing(HOME, later(START, MINUTE), UNLOCKED))
    assert found == {"two_sources": 30, "posture_worse": 20}


# A tag that was used --------------------------------------------------------------------------------------------------


def test_another_knock_on_a_used_tag_speaks_against_the_key_and_is_an_alarm(
    alice: Watched, caplog: pytest.LogCaptureFixture
) -> None:
    alice.watch.used(SLOT, b"first")
    assert alice.watch.used_again("alice-laptop", SLOT, b"other", TRAIN, START)
    assert parts(alice.assess()) == {"used_tag": 40}
    assert parts(alice.assess(at=later(START, HOUR))) == {"used_tag": 20}
    assert alice.assess(device="alice-phone") == Risk()
    (event,) = [record.event for record in caplog.records if hasattr(record, "event")]
    assert (event.type, event.device, event.source) == (KEY_USED_TWICE, "alice-laptop", TRAIN)


def test_the_same_knock_once_more_speaks_against_its_source_only(alice: Watched) -> None:
    alice.watch.used(SLOT, b"first")
    for _ in range(100):
        assert not alice.watch.used_again("alice-laptop", SLOT, b"first", TRAIN, START)
    assert alice.assess(HOME) == Risk()
    assert parts(alice.assess(TRAIN)) == {"invalid_knocks": 20}


def test_after_a_restart_nobody_can_say_which_knock_was_the_first(alice: Watched) -> None:
    assert not alice.watch.used_again("alice-laptop", SLOT, b"other", TRAIN, START)
    assert alice.assess(HOME) == Risk()


def test_who_used_a_slot_first_is_not_made_another_by_who_comes_later(alice: Watched) -> None:
    alice.watch.used(SLOT, b"first")
    alice.watch.used(SLOT, b"other")
    assert not alice.watch.used_again("alice-laptop", SLOT, b"first", HOME, START)
    assert alice.watch.used_again("alice-laptop", SLOT, b"other", HOME, START)


def test_a_new_key_does_not_answer_for_the_old_one(alice: Watched) -> None:
    alice.grant(HOME, posture=GOOD)
    alice.watch.used(SLOT, b"first")
    alice.watch.used_again("alice-laptop", SLOT, b"other", TRAIN, START)
    at = later(START, MINUTE)
    assert alice.assess(at=at, created_s=START.wall_s + 1, posture=UNLOCKED) == Risk()
    same_second = alice.assess(at=at, created_s=START.wall_s, posture=UNLOCKED)
    assert parts(same_second) == {"used_tag": 40, "posture_worse": 20}


# Posture --------------------------------------------------------------------------------------------------------------


def test_a_posture_that_got_worse_counts_until_it_is_good_again_or_usual(alice: Watched) -> None:
    assert alice.grant(posture=GOOD) == Risk()
    assert parts(alice.grant(at=later(START, MINUTE), posture=UNLOCKED)) == {"posture_worse": 20}
    assert parts(alice.grant(at=later(START, MINUTE + HOUR), posture=UNLOCKED)) == {"posture_worse": 10}
    assert alice.assess(at=later(START, 2 * HOUR), posture=GOOD) == Risk()
    assert alice.grant(at=later(START, 8 * HOUR), posture=UNLOCKED) == Risk()
    assert alice.assess(at=later(START, 9 * HOUR), posture=UNLOCKED) == Risk()


def test_a_device_that_ceases_to_say_how_it_is_counts_as_worse(alice: Watched) -> None:
    alice.grant(posture=GOOD)
    assert parts(alice.assess(posture=None)) == {"posture_worse": 20}


# Strangers ------------------------------------------------------------------------------------------------------------


def test_bogus_datagrams_count_for_ten_minutes_and_no_more_than_four(alice: Watched) -> None:
    alice.watch.invalid(NEIGHBOUR, START)
    assert parts(alice.assess(HOME)) == {"invalid_knocks": 5}
    for number in range(10):
        alice.watch.invalid(NEIGHBOUR, later(START, number * 1000))
    assert parts(alice.assess(HOME, later(START, 10_000))) == {"invalid_knocks": 20}
    assert alice.assess(OFFICE, later(START, 10_000)) == Risk(), "another network's"
    assert parts(alice.assess(HOME, later(START, 10 * MINUTE + 8_000))) == {"invalid_knocks": 5}
    assert alice.assess(HOME, later(START, 10 * MINUTE + 9_000)) == Risk()


def test_a_hundred_thousand_bogus_datagrams_from_his_own_network_do_not_keep_a_user_out(alice: Watched) -> None:
    alice.grant(HOME)
    learnt = alice.store.rows("SELECT total_changes()")
    for number in range(100_000):
        alice.watch.invalid((HOME, NEIGHBOUR)[number % 2], later(START, number % 1000))
    assert alice.store.rows("SELECT total_changes()") == learnt, "a stranger has taught the state something"
    risk = alice.assess(HOME, later(START, 2000))
    assert parts(risk) == {"invalid_knocks": 20}
    assert Weights().band(risk.score) is Band.ALLOW
    assert alice.assess(HOME, later(START, 2000), renews=True) == Risk(), "what is open stays open"
    assert alice.standing(HOME, later(START, 2000)) == Risk()


def test_strangers_in_ever_so_many_networks_take_no_more_memory_than_is_set(
    alice: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(suspicions, "MOST_NETWORKS", 100)
    noisy = suspicions.InvalidKnocks()
    for number in range(1000):
        noisy.note(network(f"10.{number // 256}.{number % 256}.0/24"), number, 4)
    assert len(noisy) == 100


def test_devices_and_slots_are_remembered_in_bounded_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(suspicions, "MOST_SLOTS", 100)
    monkeypatch.setattr(suspicions, "MOST_DEVICES", 100)
    uses, deeds = suspicions.Uses(), suspicions.Deeds()
    for number in range(1000):
        uses.note(number, b"first")
        deeds.note(f"device-{number}", suspicions.Deed.USED_TAG, number, number)
    assert [uses.is_other(number, b"other") for number in (0, 899, 900, 999)] == [False, False, True, True]
    known = [deeds.ago_s(f"device-{number}", suspicions.Deed.USED_TAG, 1000, 0) for number in (0, 899, 900, 999)]
    assert known == [None, None, 0.1, 0.001]


stranger = st.tuples(
    st.sampled_from(["invalid", "replay", "unknown slot"]),
    st.sampled_from([HOME, NEIGHBOUR, OFFICE, HOME6]),
    st.integers(0, 10 * MINUTE),
)


@settings(max_examples=50, deadline=None)
@given(st.lists(stranger, max_size=60), st.integers(0, HOUR))
def test_nothing_that_strangers_send_changes_what_is_known_of_a_user_or_keeps_him_out(
    tmp_path_factory: pytest.TempPathFactory, sent: list[tuple[str, Address, int]], ms: int
) -> None:
    folder = tmp_path_factory.mktemp("state")
    folder.chmod(0o700)
    with open_store(folder, create=True) as store:
        alice = Watched(store)
        alice.grant(HOME, posture=GOOD)
        alice.watch.used(SLOT, b"first")
        known = Baselines(store).of("alice", START.wall_s), Baselines(store).posture("alice-laptop", START.wall_s)
        undisturbed = alice.assess(TRAIN, later(START, ms), posture=GOOD)
        for what, source, after_ms in sent:
            at = later(START, after_ms)
            if what == "invalid":
                alice.watch.invalid(source, at)
            else:
                alice.watch.used_again(
                    "alice-laptop", SLOT if what == "replay" else Slot(9, 9, 9), b"first", source, at
                )
        assert (
            Baselines(store).of("alice", START.wall_s),
            Baselines(store).posture("alice-laptop", START.wall_s),
        ) == known
        assert alice.assess(TRAIN, later(START, ms), posture=GOOD) == undisturbed, "from a network of no strangers"
        assert Weights().band(alice.assess(HOME, later(START, ms), posture=GOOD).score) is Band.ALLOW


# Settings -------------------------------------------------------------------------------------------------------------


def test_with_risk_turned_off_nothing_is_scored_and_nothing_learnt(alice: Watched) -> None:
    alice.watch.follow(RiskSettings(enabled=False), RiskLists())
    written = alice.store.rows("SELECT total_changes()")
    alice.watch.invalid(HOME, START)
    alice.watch.granted(user="alice", device="alice-laptop", source=HOME, at=START, posture=GOOD)
    assert alice.assess(OFFICE, first_use=True, skew_ms=50_000) == Risk()
    assert alice.standing(HOME, START) == Risk()
    assert alice.store.rows("SELECT total_changes()") == written


def test_other_weights_hold_from_the_next_knock_on(alice: Watched) -> None:
    for _ in range(20):
        alice.watch.invalid(HOME, START)
    weights = Weights(first_use=7, invalid_knock=1, invalid_knocks_most=9, step_up_from=10)
    alice.watch.follow(RiskSettings(weights=weights), RiskLists())
    assert parts(alice.assess(HOME, first_use=True)) == {"invalid_knocks": 4, "first_use": 7}
    for _ in range(20):
        alice.watch.invalid(HOME, START)
    assert parts(alice.assess(HOME, first_use=True)) == {"invalid_knocks": 9, "first_use": 7}
    assert alice.watch.weights == weights
