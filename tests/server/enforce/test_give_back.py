"""Giving leases back on a real kernel: one's own, at once, and nobody else's."""

from __future__ import annotations

import pytest

from spa_server.enforce.claims import Claims
from spa_server.enforce.leases import Grant, give_back, list_leases, open_leases, revoke
from spa_server.service import OnExpiry, Service
from tests.server.enforce.conftest import FAMILIES, PATIENCE_S, Site, service

WEB = service("web", tcp=(8443, 8444))
SSH = service("ssh", tcp=(22,))


def gave_back(
    site: Site, *services: Service, label: str = "alice-laptop", version: int = 4, claims: Claims | None = None
) -> tuple[int, ...]:
    """What alice's address gives back under that label."""
    source, destination = site.alice.address(version), site.server.address(version)
    with site.server.enter():
        grants = [Grant(each, source, destination, 0, label) for each in services]
        return give_back(site.nft, grants, Claims() if claims is None else claims)


def asked(site: Site, claims: Claims, label: str, seconds: int) -> None:
    """Somebody at alice's address asks for all services."""
    source, destination = site.alice.ipv4, site.server.ipv4
    open_leases(site.nft, [Grant(each, source, destination, seconds, label) for each in site.services], claims=claims)


def held_by(site: Site) -> dict[str, int]:
    """Under which names leases stand, with the whole seconds left."""
    return {lease.label: round(lease.left_ms / 1000) for lease in list_leases(site.nft)}


@pytest.mark.parametrize("version", FAMILIES)
def test_what_is_given_back_is_closed_at_once_and_the_rest_stays_open(site: Site, version: int) -> None:
    site.close_up(WEB, SSH)
    site.let_in(site.alice, version)
    to = site.server.address(version)
    with site.server.listen_tcp(8443), site.server.listen_tcp(22):
        assert site.alice.reaches_tcp(to, 8443)
        assert gave_back(site, WEB, version=version) == (2,)
        assert site.alice.is_kept_out(to, 8443)
        assert site.alice.reaches_tcp(to, 22)
    assert gave_back(site, WEB, SSH, version=version) == (0, 1)
    assert list_leases(site.nft) == ()


def test_a_connection_under_it_is_cut_like_at_its_end(site: Site) -> None:
    site.close_up(WEB)
    site.let_in(site.alice)
    with site.server.listen_tcp(8443) as listener, site.alice.connect_tcp(str(site.server.ipv4), 8443) as near:
        far, _ = listener.accept()
        with far:
            near.sendall(b"before")
            assert far.recv(10) == b"before"
            gave_back(site, WEB)
            near.sendall(b"after")
            far.settimeout(0.3)
            with pytest.raises(TimeoutError):
                far.recv(10)


def test_a_session_that_may_outlive_its_lease_does(site: Site) -> None:
    keep = service("keep", tcp=(8443,), on_expiry=OnExpiry.KEEP)
    site.close_up(keep)
    site.let_in(site.alice)
    with site.server.listen_tcp(8443) as listener, site.alice.connect_tcp(str(site.server.ipv4), 8443) as near:
        far, _ = listener.accept()
        with far:
            gave_back(site, keep)
            near.sendall(b"after")
            far.settimeout(PATIENCE_S)
            assert far.recv(10) == b"after"
            assert site.alice.is_kept_out(site.server.ipv4, 8443)


def test_nobody_gives_back_what_only_another_has(site: Site) -> None:
    site.close_up(WEB)
    site.let_in(site.alice, label="neighbour")
    assert gave_back(site, WEB, label="alice-laptop") == (0,)
    assert gave_back(site, WEB, label="alice-laptop+ci") == (0,)
    assert len(list_leases(site.nft)) == 2
    assert gave_back(site, WEB, label="neighbour") == (2,)


def test_revoking_a_device_ends_its_delegates_and_revoking_a_delegate_ends_it_alone(site: Site) -> None:
    site.close_up(WEB)
    site.let_in(site.alice, label="alice-laptop+ci")
    site.let_in(site.stranger, label="alice-laptop-2")
    with site.server.enter():
        assert revoke(site.nft, label="alice-laptop+bob").leases == ()
        assert {lease.label for lease in revoke(site.nft, label="alice-laptop").leases} == {"alice-laptop+ci"}
        assert {lease.label for lease in list_leases(site.nft)} == {"alice-laptop-2"}
        site.let_in(site.alice, label="alice-laptop+ci")
        assert {lease.label for lease in revoke(site.nft, label="alice-laptop+ci").leases} == {"alice-laptop+ci"}


def test_who_gives_back_takes_nothing_from_a_neighbour_at_the_same_address(site: Site) -> None:
    site.close_up(SSH)
    claims = Claims()
    asked(site, claims, "alice-laptop", 60)
    asked(site, claims, "neighbour", 60)
    assert gave_back(site, SSH, label="neighbour", claims=claims) == (1,)
    (name,) = held_by(site)
    assert name == "alice-laptop"
    assert gave_back(site, SSH, label="neighbour", claims=claims) == (0,), "it has nothing any more"
    assert gave_back(site, SSH, label="alice-laptop", claims=claims) == (1,)
    assert held_by(site) == {}


def test_what_is_left_ends_when_the_others_own_time_is_over(site: Site) -> None:
    site.close_up(SSH)
    claims = Claims()
    asked(site, claims, "alice-laptop", 20)
    asked(site, claims, "neighbour", 200)
    gave_back(site, SSH, label="neighbour", claims=claims)
    ((name, left_s),) = held_by(site).items()
    assert name == "alice-laptop"
    assert left_s <= 20


def test_a_shorter_knock_takes_over_neither_the_name_nor_the_end(site: Site) -> None:
    site.close_up(SSH)
    claims = Claims()
    asked(site, claims, "alice-laptop", 200)
    asked(site, claims, "alice-laptop+ci", 20)
    (name,) = held_by(site)
    assert name == "alice-laptop"
    gave_back(site, SSH, label="alice-laptop", claims=claims)
    ((name, left_s),) = held_by(site).items()
    assert name == "alice-laptop+ci"
    assert left_s <= 20


def test_what_was_forgotten_with_the_process_is_not_taken_from_whoever_the_kernel_names(site: Site) -> None:
    site.close_up(SSH)
    asked(site, Claims(), "neighbour", 60)
    claims = Claims()
    asked(site, claims, "alice-laptop", 20)
    gave_back(site, SSH, label="alice-laptop", claims=claims)
    (name,) = held_by(site)
    assert name == "neighbour"


def test_what_was_revoked_is_nobodys(site: Site) -> None:
    site.close_up(SSH)
    claims = Claims()
    asked(site, claims, "neighbour", 60)
    asked(site, claims, "alice-laptop", 60)
    with site.server.enter():
        revoke(site.nft, label="alice-laptop", claims=claims)
    assert len(claims) == 0
    asked(site, claims, "alice-laptop", 60)
    assert gave_back(site, SSH, label="alice-laptop", claims=claims) == (1,)
    assert held_by(site) == {}


def test_claims_that_are_over_take_no_room() -> None:
    claims = Claims()
    for number in range(10_000):
        claims.note(number, "alice-laptop", end_ms=number + 1, now_ms=number)
    assert len(claims) < 3_000
