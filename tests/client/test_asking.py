"""What a knock asks for: whom it opens for, and the mistakes found before anything is sent."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, ip_address

import pytest

from spa_client.errors import BadSurroundings, BadUsage, Refused, SlotsUsedUp
from spa_client.exchange import wall_ms
from spa_client.knocking import Request
from spa_client.perimeter import USUAL_SLOTS, KnownService, Perimeter
from spa_client.storage import Store
from spa_protocol.knock import Knock
from tests.client.gatekeeper import Gatekeeper
from tests.client.test_knocking import V4, V6, knock


def named_sources(server: Gatekeeper) -> list[object]:
    return [seen.message.source for seen in server.knocks() if isinstance(seen.message, Knock)]


class TestTheSource:
    """Whom a knock opens for."""

    def test_the_address_seen_is_never_named_unasked(self, server: Gatekeeper, office: Perimeter, store: Store) -> None:
        server.behaviour.needs_signed = True
        server.behaviour.seen = IPv4Address("203.0.113.9")
        with pytest.raises(Refused, match=r"--source 203\.0\.113\.9"):
            knock(office, store)
        assert set(named_sources(server)) == {None}

    def test_ones_own_address_is_named_when_the_server_saw_just_that(
        self, server: Gatekeeper, office: Perimeter, store: Store
    ) -> None:
        server.behaviour.needs_signed = True
        opened = knock(office, store)
        assert {opening.source for opening in opened.openings} == {V4, V6}
        assert all(opening.named for opening in opened.openings)
        assert len(server.knocks()) == 4

    def test_and_named_at_once_the_next_time(self, server: Gatekeeper, office: Perimeter, store: Store) -> None:
        server.behaviour.needs_signed = True
        knock(office, store)
        server.requests.clear()
        wiser = replace(office, services=(KnownService("web", 8443, 0, True),))
        knock(wiser, store)
        assert set(named_sources(server)) == {V4, V6}
        assert len(server.knocks()) == 2

    def test_local_names_ones_own_address(self, server: Gatekeeper, office: Perimeter, store: Store) -> None:
        knock(office, store, replace(Request(), source="local"))
        assert set(named_sources(server)) == {V4, V6}

    def test_an_address_is_named_by_its_own_family_only(
        self, server: Gatekeeper, office: Perimeter, store: Store
    ) -> None:
        opened = knock(office, store, replace(Request(), source="127.0.0.1"))
        assert opened.addresses == (V4,)
        assert named_sources(server) == [V4]

    def test_a_named_address_that_the_server_does_not_see_gives_a_warning(
        self, server: Gatekeeper, office: Perimeter, store: Store
    ) -> None:
        server.behaviour.seen = IPv4Address("203.0.113.9")
        opened = knock(office, store, replace(Request(), source="192.0.2.1"))
        assert opened.openings[0].source == ip_address("192.0.2.1")
        assert "(NAT)" in opened.warnings[0]
        assert "--source 203.0.113.9" in opened.warnings[0]

    def test_the_perimeters_own_setting_holds_where_none_is_given(
        self, server: Gatekeeper, office: Perimeter, store: Store
    ) -> None:
        knock(replace(office, source="local"), store)
        assert set(named_sources(server)) == {V4, V6}


class TestWhatCannotBeAsked:
    """Mistakes found before anything is sent."""

    @pytest.mark.parametrize(
        "request_",
        [
            Request(("Web",)),
            Request(("web", "web")),
            Request(tuple(f"s{n}" for n in range(9))),
            Request(lease_s=-1),
            Request(lease_s=1 << 32),
            Request(timeout_s=0),
            Request(source="elsewhere"),
            Request(source="10.0.0.256"),
        ],
    )
    def test_is_bad_usage(self, request_: Request, server: Gatekeeper, office: Perimeter, store: Store) -> None:
        with pytest.raises(BadUsage):
            knock(office, store, request_)
        assert not server.requests

    def test_a_source_of_a_family_the_server_lacks(self, office: Perimeter, store: Store) -> None:
        with pytest.raises(BadUsage, match="no IPv6 address"):
            knock(replace(office, hosts=("127.0.0.1",)), store, Request(source="2001:db8::1"))

    def test_an_unknown_host(self, office: Perimeter, store: Store) -> None:
        with pytest.raises(BadSurroundings, match=r"no address for the server: nowhere\.invalid"):
            knock(replace(office, hosts=("nowhere.invalid",)), store)

    def test_an_unknown_host_does_not_matter_where_another_is_known(self, office: Perimeter, store: Store) -> None:
        assert knock(replace(office, hosts=("nowhere.invalid", "127.0.0.1")), store).addresses == (V4,)

    def test_more_knocks_than_a_minute_has(self, office: Perimeter, store: Store) -> None:
        memory = store.memory("office")
        now_ms = wall_ms()
        for _ in range(USUAL_SLOTS):
            # The next minute too, for this one may end meanwhile.
            memory.slots.claim(now_ms)
            memory.slots.claim(now_ms + 60_000)
        with pytest.raises(SlotsUsedUp, match=r"the next minute begins in \d+ s"):
            knock(office, store)
