"""A knock and its answer, on real sockets."""

from __future__ import annotations

import errno
import os
import time
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address

import pytest

from spa_client.errors import BadSurroundings, ClockWrong, NoAnswer, Refused
from spa_client.exchange import wall_ms
from spa_client.knocking import Opened, Request, knock_perimeter
from spa_client.memory import Memory
from spa_client.perimeter import Perimeter
from spa_client.storage import Store
from spa_protocol.answer import AnsweredService
from spa_protocol.keys import public_key
from spa_protocol.knock import Knock
from spa_protocol.refusal import Refusal
from spa_protocol.tag import TagKind
from tests.client.gatekeeper import Gatekeeper
from tests.stalls import promptly, wait_until

V4, V6 = IPv4Address("127.0.0.1"), IPv6Address("::1")
SHORT = Request(timeout_s=0.6)
"""For what meets silence."""
ROOMY = Request(timeout_s=20)
"""Long before it gives up, and with the usual patience with the other family once one has answered."""


def knock(perimeter: Perimeter, store: Store, request: Request | None = None) -> Opened:
    return knock_perimeter(perimeter, request or Request(), store.memory(perimeter.name))


def test_a_knock_opens_by_both_families_with_one_datagram_each(
    server: Gatekeeper, office: Perimeter, store: Store
) -> None:
    opened = knock(office, store)
    assert set(opened.addresses) == {V4, V6}
    assert [(service.name, service.left_s, service.tcp_port) for service in opened.services] == [("web", 30, 8443)]
    assert opened.confirmed
    assert not opened.warnings
    assert len(server.knocks()) == 2


def test_what_is_asked_for_reaches_the_server(server: Gatekeeper, office: Perimeter, store: Store) -> None:
    before_ms = wall_ms()
    knock(office, store, Request(("web",), lease_s=77))
    for seen in server.knocks():
        assert isinstance(seen.message, Knock)
        assert seen.message.services == ("web",)
        assert seen.message.lease_s == 77
        assert seen.message.source is None
        assert before_ms <= seen.message.time_ms <= wall_ms()


@pytest.mark.parametrize(("family", "address"), [(4, V4), (6, V6)])
def test_a_server_of_one_family_is_enough(family: int, address: object, store: Store) -> None:
    from spa_client.enrol import join

    with Gatekeeper((family,)) as server:
        perimeter = join(server.invite().text(), store=store, name="one")
        assert knock(perimeter, store).addresses == (address,)


def test_a_family_without_a_way_to_the_server_does_not_matter(
    server: Gatekeeper, office: Perimeter, store: Store
) -> None:
    # 2001:db8::/32 leads nowhere: without IPv6 at once, with it by silence.
    opened = knock(replace(office, hosts=("127.0.0.1", "2001:db8::1")), store, ROOMY)
    assert opened.addresses == (V4,)


def test_no_network_at_all_is_one_sentence(office: Perimeter, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*anything: object) -> None:
        raise OSError(errno.ENETUNREACH, os.strerror(errno.ENETUNREACH))

    monkeypatch.setattr("spa_client.exchange._open_path", unreachable)
    with pytest.raises(BadSurroundings, match=r"no network that leads to 127\.0\.0\.1 and ::1"):
        knock(office, store)


def test_lost_datagrams_are_repeated_with_other_tags(server: Gatekeeper, office: Perimeter, store: Store) -> None:
    server.behaviour.drop_first = 2
    opened = knock(office, store, Request(timeout_s=8))
    assert opened.addresses
    # The server takes every tag once, so whatever it saw was new each time.
    assert server.not_admitted == 0


def test_a_question_that_is_lost_is_made_good_by_its_copy(server: Gatekeeper, office: Perimeter, store: Store) -> None:
    server.received.clear()
    server.behaviour.drop_first = 1
    knock(replace(office, hosts=("127.0.0.1",)), store)
    lost, arrived = server.received
    assert lost == arrived
    assert len(server.knocks()) == 1


def test_a_copy_of_what_arrived_is_not_taken_for_a_second_knock(
    server: Gatekeeper, office: Perimeter, store: Store
) -> None:
    server.behaviour.silent = True
    with pytest.raises(NoAnswer):
        knock(replace(office, hosts=("127.0.0.1",)), store, Request(timeout_s=0.9))
    wait_until(lambda: server.repeated > 0, "a copy")
    assert server.repeated <= len(server.requests)
    assert server.not_admitted == 0


def test_two_knocks_a_minute_in_vain_use_no_more_slots_than_there_are(
    server: Gatekeeper, office: Perimeter, store: Store
) -> None:
    server.behaviour.silent = True
    for _ in range(2):
        with pytest.raises(NoAnswer):
            knock(office, store, SHORT)


def test_a_family_that_is_slow_does_not_hold_up_the_other(server: Gatekeeper, office: Perimeter, store: Store) -> None:
    # The server handles one datagram at a time, so the delay of one family must not come first.
    server.behaviour.distort = lambda answer, request: [answer] if answered_first(request) else []
    first: list[bytes] = []

    def answered_first(request: bytes) -> bool:
        first.append(request)
        return len(first) == 1

    def knock_one() -> None:
        first.clear()
        opened = knock(office, store, ROOMY)
        assert len(opened.addresses) == 1
        assert "has not answered yet" in opened.warnings[0]

    promptly(knock_one, 0.4)


def test_an_answer_that_comes_twice_counts_once(server: Gatekeeper, office: Perimeter, store: Store) -> None:
    server.behaviour.copies = 3
    opened = knock(office, store)
    assert len(opened.openings) == 2


def test_garbage_before_the_answer_changes_nothing(server: Gatekeeper, office: Perimeter, store: Store) -> None:
    server.behaviour.garbage = 60
    assert knock(office, store).addresses


def test_a_flood_of_garbage_does_not_keep_the_client_past_its_time(
    server: Gatekeeper, office: Perimeter, store: Store
) -> None:
    server.behaviour.distort = lambda answer, request: [answer[:8] + os.urandom(504) for _ in range(100)]

    def knock_in_vain() -> None:
        with pytest.raises(NoAnswer):
            knock(office, store, SHORT)

    promptly(knock_in_vain, 1.5)


def test_no_changed_bit_of_an_answer_is_taken_for_an_answer(
    server: Gatekeeper, office: Perimeter, store: Store
) -> None:
    changed: list[int] = []

    def flip_one_bit_of_each_byte(answer: bytes, request: bytes) -> list[bytes]:
        copies = []
        for at in range(len(answer)):
            copy = bytearray(answer)
            copy[at] ^= 1 << at % 8
            copies.append(bytes(copy))
        changed.append(len(copies))
        return copies

    server.behaviour.distort = flip_one_bit_of_each_byte
    with pytest.raises(NoAnswer):
        knock(office, store, SHORT)
    wait_until(lambda: bool(changed), "an answer to be changed")
    assert changed[0] == 512


def test_the_answer_to_another_request_is_not_taken(server: Gatekeeper, office: Perimeter, store: Store) -> None:
    earlier: list[bytes] = []

    def keep(answer: bytes, request: bytes) -> list[bytes]:
        earlier.append(answer)
        return [answer]

    server.behaviour.distort = keep
    knock(office, store)
    assert earlier
    server.behaviour.distort = lambda answer, request: list(earlier)
    with pytest.raises(NoAnswer):
        knock(office, store, SHORT)


def test_an_answer_signed_by_another_server_is_not_taken(server: Gatekeeper, office: Perimeter, store: Store) -> None:
    server.behaviour.identity_seed = os.urandom(32)
    with pytest.raises(NoAnswer):
        knock(office, store, SHORT)


def test_a_knock_for_another_server_is_void_at_this_one(server: Gatekeeper, office: Perimeter, store: Store) -> None:
    other = replace(office, server_identity=public_key(os.urandom(32)))
    with pytest.raises(NoAnswer):
        knock(other, store, Request(timeout_s=0.3))
    wait_until(lambda: server.badly_signed > 0, "the server to have looked")
    assert not server.requests


def test_a_refusal_says_why(server: Gatekeeper, office: Perimeter, store: Store) -> None:
    server.behaviour.refuse, server.behaviour.about = Refusal.SERVICE_NOT_ALLOWED, "web"
    with pytest.raises(Refused, match="roles do not allow service web") as caught:
        knock(office, store)
    assert caught.value.refusal is Refusal.SERVICE_NOT_ALLOWED


@pytest.mark.parametrize("refusal", [each for each in Refusal if each not in (Refusal.STALE, Refusal.EARLY)])
def test_every_refusal_becomes_one_line(refusal: Refusal, server: Gatekeeper, office: Perimeter, store: Store) -> None:
    server.behaviour.refuse = refusal
    with pytest.raises(Refused) as caught:
        knock(replace(office, hosts=("127.0.0.1",)), store, Request(timeout_s=2))
    assert caught.value.sentence
    assert "\n" not in caught.value.sentence
    assert caught.value.exit_code == 3


def test_just_after_a_boot_the_client_says_how_long_to_wait(
    server: Gatekeeper, office: Perimeter, store: Store
) -> None:
    server.behaviour.refuse = Refusal.BEFORE_START
    with pytest.raises(Refused, match=r"knock again in \d+ s"):
        knock(office, store)


def test_a_used_tag_is_followed_by_another_at_once(server: Gatekeeper, office: Perimeter, store: Store) -> None:
    server.behaviour.refuse = Refusal.ALREADY_USED

    def relent(answer: bytes, request: bytes) -> list[bytes]:
        server.behaviour.refuse = None
        return [answer]

    server.behaviour.distort = relent

    def knock_twice() -> None:
        server.behaviour.refuse = Refusal.ALREADY_USED
        assert knock(office, store, ROOMY).addresses

    promptly(knock_twice, 0.45)


@pytest.mark.parametrize(("server_ahead_s", "said"), [(3600, r"36\d\d s behind"), (-3600, r"(3600|35\d\d) s ahead of")])
def test_a_clock_that_is_an_hour_off_is_named(
    server_ahead_s: int, said: str, server: Gatekeeper, office: Perimeter, store: Store
) -> None:
    server.behaviour.clock_ms = server_ahead_s * 1000
    with pytest.raises(ClockWrong, match=f"clock is {said} the server's; set it") as caught:
        knock(office, store)
    assert abs(caught.value.skew_ms + server_ahead_s * 1000) < 20_000, "seconds may pass on the way"
    assert server.knocks(TagKind.CLOCK)
    # Once the day's clock tags are spent a knock meets silence, which the client can still explain.
    server.behaviour.silent = True
    with pytest.raises(NoAnswer, match=f"clock still is {said}"):
        knock(office, store, Request(timeout_s=0.3))
    server.behaviour.silent, server.behaviour.clock_ms = False, 0
    knock(office, store)
    assert store.memory("office").clock.skew_ms(wall_ms()) is None


def test_silence_ends_in_time_and_costs_few_datagrams(server: Gatekeeper, office: Perimeter, store: Store) -> None:
    server.behaviour.silent = True

    def knock_in_vain() -> None:
        start_s = time.monotonic()
        server.requests.clear()
        with pytest.raises(NoAnswer, match=r"no answer from 127\.0\.0\.1 and ::1 udp/\d+ within 0\.6 s") as caught:
            knock(office, store, SHORT)
        assert time.monotonic() - start_s > 0.55
        assert set(caught.value.addresses) == {V4, V6}
        wait_until(lambda: len(server.requests) >= 10, "all that was sent at the server")
        assert len(server.knocks()) == 8
        assert len(server.knocks(TagKind.CLOCK)) == 2

    promptly(knock_in_vain, 1.0)


def test_a_closed_port_of_the_server_is_only_silence(office: Perimeter, store: Store) -> None:
    # The ICMP errors that loopback sends back could be anybody's.
    with pytest.raises(NoAnswer):
        knock(replace(office, knock_ports=(9,)), store, Request(timeout_s=0.3))


def test_a_clock_answer_alone_is_not_taken_for_a_grant(server: Gatekeeper, office: Perimeter, store: Store) -> None:
    knocks: list[bytes] = []

    def only_the_clock(answer: bytes, request: bytes) -> list[bytes]:
        knocks.append(request)
        return [answer] if server.requests[-1].kind is TagKind.CLOCK else []

    server.behaviour.distort = only_the_clock
    with pytest.raises(Refused, match="knock again in the next minute") as caught:
        knock(office, store, Request(timeout_s=5))
    assert caught.value.refusal is Refusal.CLOCK_ONLY


def test_services_are_merged_over_families(server: Gatekeeper, office: Perimeter, store: Store) -> None:
    server.behaviour.services = (AnsweredService("web", 20, 8443, 0, False), AnsweredService("dns", 40, 0, 53, True))
    opened = knock(office, store)
    assert [(each.name, each.udp_port, set(each.addresses)) for each in opened.services] == [
        ("web", 0, {V4, V6}),
        ("dns", 53, {V4, V6}),
    ]
    assert opened.left_s == 20
    assert {known.name: known.needs_signed_source for known in opened.known_services()} == {"web": False, "dns": True}


def test_nothing_has_to_be_remembered(server: Gatekeeper, office: Perimeter) -> None:
    assert knock_perimeter(office, Request(), Memory.kept_in(None)).addresses
