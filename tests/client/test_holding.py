"""Holding a lease: renewed in time, followed to where this computer goes, given back by the last who held it."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from ipaddress import IPv4Address

import pytest

import spa_client
from spa_client import roaming
from spa_client.errors import NoAnswer, Refused
from spa_client.holding import Cause, Change, GivenBack, Held, Holding, Missed
from spa_client.knocking import Opened, Request
from spa_client.opening import knock_once
from spa_client.perimeter import Perimeter
from spa_client.storage import Store
from spa_protocol.answer import AnsweredService
from spa_protocol.body import Address
from spa_protocol.knock import Knock
from spa_protocol.refusal import Refusal
from tests.client.gatekeeper import Gatekeeper, Seen
from tests.stalls import wait_until

V4 = IPv4Address("127.0.0.1")
WEB_SSH = tuple(AnsweredService(name, 30, port, 0, False) for name, port in (("web", 8443), ("ssh", 22)))


def lease(seconds: int) -> tuple[AnsweredService, ...]:
    return (AnsweredService("web", seconds, 8443, 0, False),)


def services(seen: list[Seen]) -> set[tuple[str, ...]]:
    """What those requests named."""
    return {seen.message.services for seen in seen if isinstance(seen.message, Knock)}


class TestRenewing:
    """While the block runs."""

    def test_a_lease_is_renewed_at_half_its_life(self, server: Gatekeeper, office: Perimeter, store: Store) -> None:
        server.behaviour.services = lease(2)
        with spa_client.pinhole("office", "web", store=store):
            wait_until(lambda: len(server.knocks()) >= 6, "two renewals")
        times_s = [seen.at_s for seen in server.knocks()]
        assert times_s[2] - times_s[0] > 0.9

    def test_a_failure_is_told_once_and_tried_again(
        self, server: Gatekeeper, office: Perimeter, store: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("spa_client.holding._RETRY_S", 0.05)
        server.behaviour.services = lease(1)
        changes: list[Change] = []
        with Holding(store, office, Request(("web",)), report=changes.append):
            server.behaviour.refuse = Refusal.DEVICE_DISABLED
            wait_until(lambda: len(server.knocks()) >= 8, "some more tries")
            server.behaviour.refuse = None
            wait_until(lambda: len(changes) >= 3, "the lease again")
        missed = [change for change in changes if isinstance(change, Missed)]
        assert len(missed) == 1
        assert isinstance(missed[0].error, Refused)
        assert [change.cause for change in changes if isinstance(change, Held)][:2] == [Cause.FIRST, Cause.AGAIN]

    def test_while_the_server_is_away_a_try_takes_one_slot_for_each_family(
        self, server: Gatekeeper, office: Perimeter, store: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("spa_client.holding._RETRY_S", 0.05)
        server.behaviour.services = lease(1)
        marked, used = store.folder / ".state" / "office" / "slots", list[int]()

        def counted(*asked: object) -> Opened:
            before = len(list(marked.iterdir()))
            try:
                return knock_once(*asked)  # type: ignore[arg-type]  # as it was called
            finally:
                used.append(len(list(marked.iterdir())) - before)

        monkeypatch.setattr("spa_client.holding.knock_once", counted)
        with Holding(store, office, Request(("web",), timeout_s=0.4)):
            server.behaviour.silent = True
            wait_until(lambda: len(used) >= 3, "the renewal, and two tries more")
        assert used[0] > 2
        assert used[1:3] == [2, 2]

    def test_tries_become_rarer(
        self, server: Gatekeeper, office: Perimeter, store: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("spa_client.holding._RETRY_S", 0.1)
        server.behaviour.services = lease(1)
        with Holding(store, office, Request()):
            server.behaviour.refuse = Refusal.DEVICE_DISABLED
            wait_until(lambda: len(server.knocks()) >= 8, "three failures")
        gaps_s = [later.at_s - earlier.at_s for earlier, later in itertools.pairwise(server.knocks()[3::2])]
        assert gaps_s[0] >= 0.1
        assert gaps_s[1] >= 0.2

    def test_a_lapsed_lease_is_opened_again_for_whoever_asks(
        self, server: Gatekeeper, office: Perimeter, store: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("spa_client.holding._RETRY_S", 600.0)
        server.behaviour.services = lease(1)
        changes: list[Change] = []
        with Holding(store, office, Request(), report=changes.append) as held:
            server.behaviour.refuse = Refusal.DEVICE_DISABLED
            wait_until(lambda: len(changes) == 2, "the failed renewal")
            with pytest.raises(Refused):
                held.assure()
            server.behaviour.refuse, server.behaviour.services = None, lease(30)
            knocked = len(server.knocks())
            assert held.assure().left_s == 30
            assert held.assure().left_s == 30
            assert len(server.knocks()) == knocked + 2, "one knock, by both families"

    def test_a_door_that_does_not_open_is_not_held(self, server: Gatekeeper, office: Perimeter, store: Store) -> None:
        server.behaviour.refuse = Refusal.NOTHING_ALLOWED
        with pytest.raises(Refused), Holding(store, office, Request()):
            pytest.fail("nothing was opened")
        assert server.closes() == []
        assert list((store.folder / ".state" / "office" / "holders").iterdir()) == [
            store.folder / ".state" / "office" / "holders" / "guard"
        ]

    def test_of_a_server_that_never_answers_no_word_is_expected(
        self, server: Gatekeeper, office: Perimeter, store: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("spa_client.holding.ASSUMED_LEASE_S", 1)
        silent = replace(office, answers=False, services=())
        server.behaviour.silent = True
        with pytest.raises(NoAnswer), Holding(store, silent, Request()):
            pytest.fail("nothing was seen to open")


class TestGivingBack:
    """At the end of the block."""

    def test_the_door_is_shut_at_the_end_in_both_families(
        self, server: Gatekeeper, office: Perimeter, store: Store
    ) -> None:
        changes: list[Change] = []
        with Holding(store, office, Request(("web",)), report=changes.append):
            assert server.closes() == []
        assert {seen.source.version for seen in server.closes()} == {4, 6}
        assert services(server.closes()) == {("web",)}
        assert changes[-1] == GivenBack(shut=True)

    def test_and_never_knocked_at_afterwards(self, server: Gatekeeper, office: Perimeter, store: Store) -> None:
        server.behaviour.services = lease(1)
        with Holding(store, office, Request()):
            pass
        knocked = len(server.knocks())
        time.sleep(1.3)
        assert len(server.knocks()) == knocked

    def test_a_server_that_cannot_be_asked_to_shut_it_is_no_fault(
        self, server: Gatekeeper, office: Perimeter, store: Store
    ) -> None:
        changes: list[Change] = []
        with Holding(store, office, Request(timeout_s=0.3), report=changes.append):
            server.behaviour.silent = True
        assert isinstance(changes[-1], GivenBack)
        assert not changes[-1].shut
        assert isinstance(changes[-1].error, NoAnswer)

    def test_a_family_that_had_not_answered_yet_is_shut_too(
        self, server: Gatekeeper, office: Perimeter, store: Store
    ) -> None:
        server.behaviour.delay_s = {6: 0.5}
        with Holding(store, office, Request(("web",), timeout_s=2.0)) as held:
            assert [opening.server.version for opening in held.opened.openings] == [4]
            server.behaviour.delay_s = {}
        wait_until(lambda: {seen.source.version for seen in server.closes()} == {4, 6}, "both closes")
        assert services(server.closes()) == {("web",)}

    def test_only_the_last_holder_shuts_the_door(self, server: Gatekeeper, office: Perimeter, store: Store) -> None:
        changes: list[Change] = []
        with Holding(store, office, Request()):
            with Holding(store, office, Request(), report=changes.append):
                pass
            assert server.closes() == []
            assert changes[-1] == GivenBack(shut=False)
        assert len(server.closes()) == 2

    def test_each_shuts_what_nobody_else_needs(self, server: Gatekeeper, office: Perimeter, store: Store) -> None:
        server.behaviour.services = WEB_SSH
        with Holding(store, office, Request(("web",))):
            with Holding(store, office, Request(("web", "ssh"))):
                pass
            assert services(server.closes()) == {("ssh",)}


class TestMoving:
    """This computer's address changes."""

    @pytest.fixture
    def move(self, monkeypatch: pytest.MonkeyPatch) -> Callable[[str | None], None]:
        """Make this computer's IPv4 address another one, as far as it can tell; None for no address."""
        monkeypatch.setattr("spa_client.kernel_news.subscribe", lambda: None)
        found = roaming.way_to

        def move_to(address: str | None) -> None:
            def moved(servers: object) -> dict[Address, Address]:
                way = found([V4])
                return way if address == "127.0.0.1" else {V4: IPv4Address(address)} if address else {}

            monkeypatch.setattr(roaming, "way_to", moved)

        return move_to

    def test_it_is_knocked_at_once(
        self, server: Gatekeeper, office: Perimeter, store: Store, move: Callable[[str | None], None]
    ) -> None:
        move("127.0.0.1")
        changes: list[Change] = []
        with Holding(store, office, Request(), report=changes.append):
            move("127.0.0.2")
            wait_until(lambda: len(changes) == 2, "the knock")
        assert isinstance(changes[1], Held)
        assert changes[1].cause is Cause.MOVED

    def test_the_address_of_a_family_that_had_not_answered_yet_counts(
        self, server: Gatekeeper, office: Perimeter, store: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        watched: list[tuple[Address, ...]] = []
        follow = roaming.Watch.follow

        def noted(watch: roaming.Watch, servers: Iterable[Address]) -> None:
            watched.append(tuple(servers))
            follow(watch, watched[-1])

        monkeypatch.setattr(roaming.Watch, "follow", noted)
        server.behaviour.delay_s = {6: 0.5}
        with Holding(store, office, Request(timeout_s=2.0)):
            server.behaviour.delay_s = {}
        assert {address.version for address in watched[0]} == {4, 6}

    def test_what_was_open_for_the_address_before_is_shut(
        self, server: Gatekeeper, office: Perimeter, store: Store, move: Callable[[str | None], None]
    ) -> None:
        move("127.0.0.1")
        changes: list[Change] = []
        with Holding(store, office, Request(("web",)), report=changes.append):
            server.behaviour.seen = IPv4Address("127.0.0.9")
            move("127.0.0.2")
            wait_until(lambda: bool(server.closes()), "a close")
            closed = server.closes()[0].message
            assert isinstance(closed, Knock)
            assert closed.source == V4
            assert services(server.closes()) == {("web",)}

    def test_an_address_that_was_lost_and_came_back_counts_as_another(
        self, server: Gatekeeper, office: Perimeter, store: Store, move: Callable[[str | None], None]
    ) -> None:
        move("127.0.0.1")
        with Holding(store, office, Request()):
            knocked = len(server.knocks())
            move(None)
            time.sleep(1.0)
            assert len(server.knocks()) == knocked, "without a way there is nothing to knock by"
            move("127.0.0.1")
            wait_until(lambda: len(server.knocks()) > knocked, "the knock")

    def test_waking_from_sleep_is_a_reason_too(
        self, server: Gatekeeper, office: Perimeter, store: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        asleep_s = 0.0
        monkeypatch.setattr(roaming, "elapsed_s", lambda: time.monotonic() + asleep_s)
        monkeypatch.setattr("spa_client.holding.elapsed_s", lambda: time.monotonic() + asleep_s)
        changes: list[Change] = []
        server.behaviour.services = lease(3600)
        with Holding(store, office, Request(), report=changes.append):
            asleep_s = 60.0
            wait_until(lambda: len(changes) == 2, "the knock")
        assert isinstance(changes[1], Held)
        assert changes[1].cause is Cause.WOKEN
