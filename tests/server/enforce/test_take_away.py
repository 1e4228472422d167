"""Taking away what somebody holds, on a real kernel: lease and flows at once, and no neighbour's lease."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator

import pytest

from spa_server.enforce.claims import Claims
from spa_server.enforce.client import FirewallClient, FirewallRefused, FirewallStale, Revoked
from spa_server.enforce.firewall import Enforced, Firewall
from spa_server.enforce.flows import MOST_LISTED_ONE_BY_ONE
from spa_server.enforce.held import MAX_HELD, Held
from spa_server.enforce.leases import Grant, list_leases, open_leases, take_away
from spa_server.enforce.requests import MESSAGE_LARGEST, Answer, Revoke, Status, Wanted
from spa_server.enforce.table import TableSocket
from spa_server.service import OnExpiry, Service
from tests.server.enforce.conftest import FAMILIES, PATIENCE_S, Site, service
from tests.server.enforce.test_revoke import session

WEB = service("web", tcp=(8443,))
KEPT = service("kept", tcp=(8443,), on_expiry=OnExpiry.KEEP)
SSH = service("ssh", tcp=(22,))
DIGEST = b"enforced"


def grants(
    site: Site, *services: Service, label: str = "alice-laptop", version: int = 4, seconds: int = 60
) -> list[Grant]:
    source, destination = site.alice.address(version), site.server.address(version)
    return [Grant(each, source, destination, seconds, label) for each in services]


def taken(site: Site, wanted: list[Grant], claims: Claims | None = None) -> tuple[tuple[int, ...], int]:
    with site.server.enter():
        return take_away(site.nft, wanted, Claims() if claims is None else claims)


@pytest.mark.parametrize("version", FAMILIES)
@pytest.mark.parametrize("kind", [WEB, KEPT], ids=lambda each: each.on_expiry.value)
def test_the_lease_ends_and_its_connection_is_reset(site: Site, version: int, kind: Service) -> None:
    site.close_up(kind, SSH)
    site.let_in(site.alice, version)
    to = site.server.address(version)
    with site.server.listen_tcp(8443) as listener, session(site.alice, listener, to) as (near, far):
        counts, flows = taken(site, grants(site, kind, version=version))
        assert counts == (1,)
        assert flows > 0
        with pytest.raises(ConnectionResetError):
            near.recv(1)
        with pytest.raises(ConnectionAbortedError):
            far.recv(1)
        assert site.alice.is_kept_out(to, 8443)
    assert {lease.service for lease in list_leases(site.nft)} == {"ssh"}, "what was not named stays"


def test_a_session_that_outlived_its_lease_is_ended_too(site: Site) -> None:
    site.close_up(KEPT)
    site.let_in(site.alice)
    with site.server.listen_tcp(8443) as listener, session(site.alice, listener, site.server.ipv4) as (near, far):
        site.server.run(["nft", "flush", "set", "inet", "spa", "leases4"])
        far.sendall(b"kept")
        assert near.recv(100) == b"kept"
        assert taken(site, grants(site, KEPT))[0] == (0,)
        with pytest.raises(ConnectionResetError):
            near.recv(1)


def test_a_neighbour_at_the_same_address_keeps_a_lease_and_connects_again(site: Site) -> None:
    """Whose a connection is behind one address nobody can tell, so it is ended; the neighbour's lease stands."""
    site.close_up(WEB)
    claims = Claims()
    for label, seconds in (("bob-laptop", 200), ("alice-laptop", 100)):
        open_leases(site.nft, grants(site, WEB, label=label, seconds=seconds), claims=claims)
    with site.server.listen_tcp(8443) as listener:
        with session(site.alice, listener, site.server.ipv4) as (near, _):
            assert taken(site, grants(site, WEB), claims)[0] == (1,)
            with pytest.raises(ConnectionResetError):
                near.recv(1)
        with session(site.alice, listener, site.server.ipv4) as (near, far):
            far.sendall(b"bob")
            assert near.recv(100) == b"bob"
    assert [lease.label for lease in list_leases(site.nft)] == ["bob-laptop"]
    assert 0 < list_leases(site.nft)[0].left_ms <= 200_000


def test_when_both_who_share_a_lease_are_shut_out_it_ends(site: Site) -> None:
    site.close_up(WEB)
    claims = Claims()
    both = [each for label in ("bob-laptop", "alice-laptop") for each in grants(site, WEB, label=label)]
    for each in both:
        open_leases(site.nft, [each], claims=claims)
    assert taken(site, both, claims)[0] == (1, 1)
    assert list_leases(site.nft) == ()


@pytest.mark.parametrize("version", FAMILIES)
def test_another_addresss_session_goes_on_however_many_addresses_are_shut_out(site: Site, version: int) -> None:
    """Of many sources the whole table of connections is read at once."""
    site.close_up(WEB)
    site.let_in(site.alice, version)
    site.let_in(site.stranger, version, label="guest")
    to = site.server.address(version)
    others = [type(to)(int(to) + 100 + number) for number in range(2 * MOST_LISTED_ONE_BY_ONE)]
    many = [Grant(WEB, source, to, 60, "many") for source in others]
    open_leases(site.nft, many)
    with (
        site.server.listen_tcp(8443) as listener,
        session(site.alice, listener, to) as (near, _),
        session(site.stranger, listener, to) as (strangers, strangers_far),
    ):
        assert taken(site, [*many, *grants(site, WEB, version=version)])[0] == (1,) * (len(many) + 1)
        with pytest.raises(ConnectionResetError):
            near.recv(1)
        strangers_far.sendall(b"still here")
        assert strangers.recv(100) == b"still here"


@pytest.fixture
def client(site: Site) -> Iterator[FirewallClient]:
    """A client whose firewall process is a thread that enforces web and ssh."""
    site.close_up(WEB, SSH)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with site.server.enter():
        nft = TableSocket("spa")
    enforced = Enforced(DIGEST, (WEB, SSH))

    def serve() -> None:
        firewall = Firewall(nft, enforced, lambda _: Status.STALE, lambda: None)
        with site.server.enter(), contextlib.suppress(ConnectionError):
            while data := theirs.recv(MESSAGE_LARGEST):
                theirs.send(firewall.answer(data).pack())

    thread = threading.Thread(target=serve)
    thread.start()
    made = FirewallClient(ours, DIGEST, time_limit_s=PATIENCE_S)
    yield made
    made.close()
    thread.join(timeout=60)
    theirs.close()
    nft.close()
    assert not thread.is_alive()


def held(site: Site, service: int, label: str = "alice-laptop") -> Held:
    return Held(label, site.alice.ipv4, site.server.ipv4, service)


def test_one_request_takes_from_many_and_says_how_much_of_each(site: Site, client: FirewallClient) -> None:
    client.open_(site.alice.ipv4, site.server.ipv4, "alice-laptop", [Wanted(0, 60), Wanted(1, 60)])
    wanted = [held(site, 1), held(site, 0, "bob-laptop"), held(site, 9), held(site, 0)]
    assert client.revoke(wanted) == Revoked((1, 0, 0, 1), 0)
    assert list_leases(site.nft) == ()


def test_more_than_one_message_holds_are_taken_all_the_same(site: Site, client: FirewallClient) -> None:
    client.open_(site.alice.ipv4, site.server.ipv4, "alice-laptop", [Wanted(0, 60)])
    wanted = [*(held(site, 1, f"nobody-{number}") for number in range(MAX_HELD)), held(site, 0)]
    assert client.revoke(wanted).leases == (*(0 for _ in range(MAX_HELD)), 1)


def test_by_another_configuration_nothing_is_taken(site: Site, client: FirewallClient) -> None:
    client.open_(site.alice.ipv4, site.server.ipv4, "alice-laptop", [Wanted(0, 60)])
    with pytest.raises(FirewallStale):
        FirewallClient(client._channel, b"another.").revoke([held(site, 0)])
    assert len(list_leases(site.nft)) == 1


def test_a_firewall_process_from_before_this_request_refuses_it() -> None:
    """As `unpack_request` does with every kind it does not know; the lease then runs to its own end."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        theirs.send(Answer(1, Status.REFUSED).pack())
        with pytest.raises(FirewallRefused, match="revoke 0 leases"):
            FirewallClient(ours, DIGEST)._ask(Revoke(1, DIGEST, ()))
