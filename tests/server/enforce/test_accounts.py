"""What went through a leased tuple, as the kernel counts it: of connections that go on, and of those that ended."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from spa_server.enforce import accounts as accounts_module
from spa_server.enforce.accounts import Account, Accounts, count, is_counting
from spa_server.enforce.flows import Target, end_flows
from spa_server.traffic import Traffic
from tests.server.enforce.conftest import FAMILIES, Site, service
from tests.server.enforce.test_revoke import session
from tests.stalls import wait_until

WEB = service("web", tcp=(8443,))
SENT_IN, SENT_OUT = 30_000, 200_000
HEADERS = 0.15
"""Headers and acknowledgements at most, as a share of what is carried; at least none."""


@pytest.fixture
def accounts(site: Site) -> Iterator[Accounts]:
    site.close_up(WEB)
    site.server.run(["conntrack", "-F"])  # what an earlier test had open
    with site.server.enter():
        assert count()
        made = Accounts()
    yield made
    made.close()


def target(site: Site, version: int = 4) -> Target:
    return Target(site.alice.address(version), site.server.address(version), "tcp", 8443)


def told(site: Site, accounts: Accounts, version: int = 4, *, final: bool = False) -> Account:
    with site.server.enter():
        return accounts.of([target(site, version)], final=final)[target(site, version)]


def carry(near: object, far: object, octets: int) -> None:
    """All of it from one end to the other."""
    near.sendall(bytes(octets))  # type: ignore[attr-defined]
    left = octets
    while left:
        left -= len(far.recv(left))  # type: ignore[attr-defined]


def check(traffic: Traffic, octets_in: int, octets_out: int) -> None:
    # Each direction carries the acknowledgements of the other, too.
    more = HEADERS * (octets_in + octets_out) + 2_000
    assert octets_in < traffic.octets_in < octets_in + more, traffic
    assert octets_out < traffic.octets_out < octets_out + more, traffic
    assert traffic.packets_in > 0
    assert traffic.packets_out > 0


@pytest.mark.parametrize("version", FAMILIES)
def test_a_connection_that_goes_on_is_counted_both_ways(site: Site, accounts: Accounts, version: int) -> None:
    site.let_in(site.alice, version)
    with (
        site.server.listen_tcp(8443) as listener,
        session(site.alice, listener, site.server.address(version)) as (near, far),
    ):
        carry(near, far, SENT_IN)
        carry(far, near, SENT_OUT)
        account = told(site, accounts, version)
        assert account.flows == 1
        check(account.traffic, SENT_IN, SENT_OUT)


@pytest.mark.parametrize("version", FAMILIES)
def test_one_that_was_ended_is_counted_with_those_that_go_on(site: Site, accounts: Accounts, version: int) -> None:
    site.let_in(site.alice, version)
    accounts.watch(site.alice.address(version))
    with site.server.listen_tcp(8443) as listener:
        with session(site.alice, listener, site.server.address(version)) as (near, far):
            carry(near, far, SENT_IN)
            with site.server.enter():
                assert end_flows({target(site, version)}) > 0
        wait_until(lambda: told(site, accounts, version).flows == 0, "no flow")
        with session(site.alice, listener, site.server.address(version)) as (near, far):
            carry(far, near, SENT_OUT)
            account = told(site, accounts, version)
            assert account.flows == 1
            check(account.traffic, SENT_IN, SENT_OUT)


def test_what_was_told_for_good_is_not_told_again(site: Site, accounts: Accounts) -> None:
    site.let_in(site.alice)
    with (
        site.server.listen_tcp(8443) as listener,
        session(site.alice, listener, site.server.ipv4) as (near, far),
    ):
        carry(near, far, SENT_IN)
        check(told(site, accounts, final=True).traffic, SENT_IN, 0)
        carry(far, near, SENT_OUT)
        check(told(site, accounts, final=False).traffic, 0, SENT_OUT)
        with site.server.enter():
            end_flows({target(site)})
        wait_until(lambda: told(site, accounts).flows == 0, "no flow")
        check(told(site, accounts, final=True).traffic, 0, SENT_OUT)
    assert told(site, accounts) == Account(0, Traffic())


def test_of_an_address_that_never_had_a_lease_nothing_is_kept(site: Site, accounts: Accounts) -> None:
    site.let_in(site.alice)
    site.let_in(site.stranger, label="guest")
    accounts.watch(site.alice.ipv4)
    with site.server.listen_tcp(8443) as listener:
        for host in (site.stranger, site.alice):
            with session(host, listener, site.server.ipv4) as (near, far):
                carry(near, far, 100)
                with site.server.enter():
                    end_flows({Target(host.ipv4, site.server.ipv4, "tcp", 8443)})
    wait_until(lambda: told(site, accounts).traffic.packets_in > 0, "alice's account")
    assert set(accounts._ended) == {target(site)}


def test_more_than_it_remembers_gives_up_the_oldest(
    site: Site, accounts: Accounts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accounts_module, "MOST_SOURCES", 2)
    others = [site.alice.ipv4 + number for number in (100, 101, 102)]
    for source in others:
        accounts.watch(source)
    accounts.watch(others[1])
    assert list(accounts._sources) == [others[2].packed, others[1].packed]


def test_whether_the_kernel_counts_is_the_namespaces_own(site: Site, accounts: Accounts) -> None:
    site.server.set_sysctl("net/netfilter/nf_conntrack_acct", "0")
    with site.server.enter():
        assert not is_counting()
        assert count()
        assert is_counting()
