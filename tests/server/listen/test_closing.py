"""A knock to close: checked as any knock is, and it gives back what the same device has open."""

from __future__ import annotations

from ipaddress import IPv4Address

import pytest

from spa_protocol.knock import Action, Knock, seal_knock
from spa_protocol.refusal import Refusal
from spa_protocol.signature import SeedSigner
from tests.server.listen.verdicts import verdict
from tests.server.listen.world import IDENTITY, PATH, SERVICES, START, Keyring, ListeningServer, later, nonce, secret


def close(
    owner: Keyring, slot: int, *names: str, source: IPv4Address | None = None, seed: bytes | None = None
) -> bytes:
    knock = Knock(START.wall_ms, names, 0, source, Action.CLOSE)
    return seal_knock(
        knock,
        keys=owner.channel,
        signer=SeedSigner(seed or owner.seed),
        server_identity=IDENTITY.public,
        slot=slot,
        nonce=nonce("close", knock, slot),
    )


def test_what_was_opened_is_closed_and_the_answer_says_so(server: ListeningServer) -> None:
    alice = server.add("alice-laptop")
    server.hear(alice.knock(START.wall_ms, 0, "web"), START)
    datagram = close(alice, 1)
    answer = alice.answer(server.hear(datagram, START), datagram)
    assert answer is not None
    assert answer.refusal is None
    assert [(each.name, each.left_s) for each in answer.services] == [("web", 0)]
    ((closing, label),) = server.firewall.closed
    assert (closing.source, closing.destination, label) == (PATH.source, PATH.destination, "alice-laptop")
    assert {service.name for service in closing.services} == {
        service.name for service in SERVICES if service.reaches(4)
    }
    assert server.account.counts.results["closed"] == 1


def test_an_address_that_was_left_is_named(server: ListeningServer) -> None:
    alice = server.add("alice-laptop")
    left = IPv4Address("203.0.113.77")
    datagram = close(alice, 0, "web", source=left)
    assert verdict(alice, server.hear(datagram, START), datagram) == "granted"
    assert server.firewall.closed[0][0].source == left


def test_closing_what_is_not_open_is_no_error_and_an_unknown_service_is(server: ListeningServer) -> None:
    alice = server.add("alice-laptop")
    for slot, (name, expected) in enumerate((("web", "granted"), ("nowhere", Refusal.UNKNOWN_SERVICE))):
        datagram = close(alice, slot, name)
        assert verdict(alice, server.hear(datagram, START), datagram) == expected


def test_it_opens_nothing_and_the_same_datagram_closes_once(server: ListeningServer) -> None:
    alice = server.add("alice-laptop")
    datagram = close(alice, 0)
    server.hear(datagram, START)
    server.restart(START)
    assert verdict(alice, server.hear(datagram, START), datagram) is Refusal.ALREADY_USED
    assert server.firewall.granted == []
    assert len(server.firewall.closed) == 1


def test_nobody_else_closes_it(server: ListeningServer) -> None:
    alice = server.add("alice-laptop")
    server.hear(alice.knock(START.wall_ms, 0, "web"), START)
    datagram = close(alice, 1, seed=secret("a thief"))
    assert server.hear(datagram, START) is None
    assert server.firewall.closed == []


@pytest.mark.parametrize("after_ms", [-120_000, 120_000])
def test_a_stale_one_closes_nothing(server: ListeningServer, after_ms: int) -> None:
    alice = server.add("alice-laptop")
    server.hear(close(alice, 0), later(START, after_ms))
    assert server.firewall.closed == []


def test_where_the_kernel_does_not_confirm_it_the_answer_says_so(server: ListeningServer) -> None:
    alice = server.add("alice-laptop")
    server.firewall.opening_fails = True
    datagram = close(alice, 0)
    assert verdict(alice, server.hear(datagram, START), datagram) is Refusal.KERNEL_FAILED


def test_a_disabled_device_is_told_so(server: ListeningServer) -> None:
    alice = server.add("alice-laptop")
    server.registry.set_enabled("alice-laptop", False)
    datagram = close(alice, 0)
    assert verdict(alice, server.hear(datagram, START), datagram) is Refusal.DEVICE_DISABLED
