"""Wishes and approvals: nobody lets themselves in, nothing holds for longer than it may, two are two."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spa_server.decide.context import Approval
from spa_server.remember.device import RegistryError
from spa_server.remember.requests import MOST_WAITING, Requests, RequestState
from spa_server.remember.store import Store, open_store

NOW_S = 1_767_225_600
LONGEST_S = 8 * 3600


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    (tmp_path / "state").mkdir(mode=0o700)
    with open_store(tmp_path / "state", create=True) as opened:
        yield opened


@pytest.fixture
def requests(store: Store) -> Requests:
    return Requests(store)


def wish(requests: Requests, service: str = "vault", now_s: int = NOW_S, user: str = "alice") -> int:
    return requests.ask(user, f"{user}-laptop", service, now_s, 900)[0].number


def test_the_same_wish_while_one_waits_is_that_one(requests: Requests) -> None:
    number = wish(requests)
    assert requests.ask("alice", "alice-pc", "vault", NOW_S + 899, 900) == (requests.request(number), False)
    assert wish(requests, now_s=NOW_S + 900) != number
    assert wish(requests, "web") != number
    assert wish(requests, user="bob") != number


def test_an_approval_holds_until_its_time(requests: Requests) -> None:
    number = wish(requests)
    requests.decide(number, "bob", approve=True, until_s=NOW_S + 60, now_s=NOW_S)
    approval = requests.approval("alice", "vault", NOW_S, LONGEST_S)
    assert approval == Approval(frozenset({"bob"}), 60)
    assert requests.approval("alice", "vault", NOW_S + 59, LONGEST_S).left_s == 1
    for user, service, now_s in (("alice", "vault", NOW_S + 60), ("alice", "web", NOW_S), ("carol", "vault", NOW_S)):
        assert requests.approval(user, service, now_s, LONGEST_S).by == frozenset()


def test_an_approval_does_not_grow_when_the_clock_is_set_back(requests: Requests) -> None:
    number = wish(requests)
    requests.decide(number, "bob", approve=True, until_s=NOW_S + 60, now_s=NOW_S)
    assert requests.approval("alice", "vault", NOW_S - 3600, 1800) == Approval()
    assert requests.approval("alice", "vault", NOW_S, 1800).by == {"bob"}


def test_two_approvals_are_of_two_people_and_hold_as_long_as_both_do(requests: Requests) -> None:
    number = wish(requests)
    requests.decide(number, "bob", approve=True, until_s=NOW_S + 60, now_s=NOW_S)
    requests.decide(number, "bob", approve=True, until_s=NOW_S + 90, now_s=NOW_S)
    assert requests.approval("alice", "vault", NOW_S, LONGEST_S).by == {"bob"}
    requests.decide(number, "carol", approve=True, until_s=NOW_S + 30, now_s=NOW_S)
    approval = requests.approval("alice", "vault", NOW_S, LONGEST_S)
    assert approval == Approval(frozenset({"bob", "carol"}), 30)


def test_nobody_approves_or_denies_their_own_wish(requests: Requests) -> None:
    number = wish(requests)
    for approve in (True, False):
        with pytest.raises(RegistryError, match="somebody else"):
            requests.decide(number, "alice", approve=approve, until_s=NOW_S + 60, now_s=NOW_S)
    assert requests.approval("alice", "vault", NOW_S, LONGEST_S).by == frozenset()


def test_a_denial_ends_it_with_what_was_approved_before(requests: Requests) -> None:
    number = wish(requests)
    requests.decide(number, "bob", approve=True, until_s=NOW_S + 60, now_s=NOW_S)
    requests.decide(number, "carol", approve=False, until_s=0, now_s=NOW_S)
    assert requests.approval("alice", "vault", NOW_S, LONGEST_S).by == frozenset()
    assert requests.request(number).state(NOW_S) is RequestState.DENIED
    with pytest.raises(RegistryError, match="denied"):
        requests.decide(number, "bob", approve=True, until_s=NOW_S + 60, now_s=NOW_S)


def test_what_is_over_is_decided_no_more(requests: Requests) -> None:
    number = wish(requests)
    with pytest.raises(RegistryError, match="expired"):
        requests.decide(number, "bob", approve=True, until_s=NOW_S + 9999, now_s=NOW_S + 900)
    with pytest.raises(RegistryError, match="spa-server request list"):
        requests.decide(1, "bob", approve=True, until_s=NOW_S + 60, now_s=NOW_S)


def test_what_was_approved_can_be_taken_back(requests: Requests) -> None:
    number = wish(requests)
    requests.decide(number, "bob", approve=True, until_s=NOW_S + 60, now_s=NOW_S)
    assert requests.revoke(number).state(NOW_S) is RequestState.REVOKED
    assert requests.approval("alice", "vault", NOW_S, LONGEST_S).by == frozenset()


def test_a_users_wishes_are_few(requests: Requests) -> None:
    numbers = [wish(requests, f"s{number}", NOW_S + number) for number in range(MOST_WAITING + 2)]
    states = [requests.request(number).state(NOW_S + 10) for number in numbers]
    assert states == [RequestState.EXPIRED] * 2 + [RequestState.WAITING] * MOST_WAITING


def test_numbers_are_drawn_until_one_is_free(store: Store) -> None:
    drawn = iter([5, 5, 5, 7])
    requests = Requests(store, lambda: next(drawn))
    assert (wish(requests), wish(requests, "web")) == (5, 7)


def test_what_another_process_decides_is_seen(requests: Requests, store: Store) -> None:
    number = wish(requests)
    with open_store(store.path.parent) as other:
        Requests(other).decide(number, "bob", approve=True, until_s=NOW_S + 60, now_s=NOW_S)
    assert requests.approval("alice", "vault", NOW_S, LONGEST_S).by == {"bob"}


users = st.sampled_from(("alice", "bob", "carol"))
steps = st.lists(
    st.tuples(st.sampled_from(("ask", "approve", "deny", "revoke", "later")), users, st.integers(0, 2000)), max_size=25
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(steps)
def test_no_order_of_things_gives_somebody_their_own_approval_or_more_time(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, str, int]]
) -> None:
    folder = tmp_path_factory.mktemp("state")
    folder.chmod(0o700)
    with open_store(folder, create=True) as store:
        requests, now_s, given = Requests(store), NOW_S, dict[tuple[int, str], int]()
        numbers: list[int] = []
        for what, who, value in steps:
            number = numbers[value % len(numbers)] if numbers else 1
            try:
                if what == "ask":
                    numbers.append(wish(requests, now_s=now_s, user=who))
                elif what == "later":
                    now_s += value
                elif what == "revoke":
                    requests.revoke(number)
                    given = {key: until for key, until in given.items() if key[0] != number}
                else:
                    done = requests.decide(number, who, approve=what == "approve", until_s=now_s + value, now_s=now_s)
                    assert done.user != who
                    if what == "approve":
                        given[number, who] = now_s + value
                    else:
                        given = {key: until for key, until in given.items() if key[0] != number}
            except RegistryError:
                continue
            for user in ("alice", "bob", "carol"):
                approval = requests.approval(user, "vault", now_s, LONGEST_S)
                assert user not in approval.by
                for by in approval.by:
                    mine = (key for key in given if key[1] == by and requests.request(key[0]).user == user)
                    untils = [given[key] for key in mine]
                    assert max(untils) >= now_s + approval.left_s > now_s


def test_a_wish_whose_approval_has_run_out_is_over_and_the_next_is_a_new_one(requests: Requests) -> None:
    number = wish(requests)
    requests.decide(number, "bob", approve=True, until_s=NOW_S + 60, now_s=NOW_S)
    assert wish(requests, now_s=NOW_S + 59) == number
    assert requests.request(number).state(NOW_S + 60) is RequestState.EXPIRED
    assert wish(requests, now_s=NOW_S + 60) != number
