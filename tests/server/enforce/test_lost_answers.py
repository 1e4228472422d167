"""A lease whose opening the kernel did not confirm must not be there: whoever asked is told that nothing was opened."""

from __future__ import annotations

import errno

import pytest

from spa_server.enforce.leases import AskedTooLongAgo, Grant, open_leases
from spa_server.enforce.netlink import AnswerLost, KernelError
from tests.server.enforce.conftest import Site, service

WEB = service("web", tcp=(8443,))


def lose_answers(site: Site, monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    """The next transactions are carried out by the kernel as ever, and what it answers is lost."""
    send_batch = site.nft.netlink.send_batch
    left = [count]

    def deaf(data: bytes, first: int, last: int, doing: str) -> None:
        send_batch(data, first, last, doing)
        if left[0]:
            left[0] -= 1
            raise AnswerLost(errno.ENOBUFS, doing)

    monkeypatch.setattr(site.nft.netlink, "send_batch", deaf)


@pytest.mark.parametrize("lost", [1, 2])
def test_a_lease_whose_confirmation_was_lost_is_taken_back(
    site: Site, monkeypatch: pytest.MonkeyPatch, lost: int
) -> None:
    site.close_up(WEB)
    lose_answers(site, monkeypatch, lost)
    with pytest.raises(KernelError):
        site.let_in(site.alice)
    assert site.leases_left_ms() == []


def test_one_that_was_there_before_goes_on_as_it_was(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.close_up(WEB)
    site.let_in(site.alice, seconds=100)
    ends = site.lease_end()
    lose_answers(site, monkeypatch, 1)
    with pytest.raises(KernelError):
        site.let_in(site.alice, seconds=200)
    assert site.lease_end().first_s <= ends.last_s, "it lasts no longer than it would have"
    assert site.leases_left_ms()[0] > 0


def test_one_that_was_opened_after_its_time_is_taken_back(site: Site) -> None:
    site.close_up(WEB)
    with pytest.raises(AskedTooLongAgo):
        open_leases(site.nft, [Grant(WEB, site.alice.ipv4, site.server.ipv4, 30, "alice-laptop")], not_after_ms=0)
    assert site.leases_left_ms() == []
