"""Taking leases back, and ending what they let in."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_address

import pytest

from spa_server.enforce.flows import Target, end_flows
from spa_server.enforce.leases import Ended, list_leases, revoke
from spa_server.service import OnExpiry
from tests.lab import Host
from tests.server.enforce.conftest import FAMILIES, PATIENCE_S, Site, service

WEB = service("web", tcp=(8443,), udp=(5353,), on_expiry=OnExpiry.KEEP)


@contextmanager
def session(
    client: Host, listener: socket.socket, to: object, port: int = 8443
) -> Iterator[tuple[socket.socket, socket.socket]]:
    with client.connect_tcp(str(to), port) as near:
        far, _ = listener.accept()
        with far:
            near.settimeout(PATIENCE_S)
            far.settimeout(PATIENCE_S)
            yield near, far


@pytest.mark.parametrize("version", FAMILIES)
@pytest.mark.parametrize("bound_to", ["dual stack", "its own family"])
def test_a_revoked_session_with_a_local_service_is_reset(site: Site, version: int, bound_to: str) -> None:
    site.close_up(WEB)
    site.let_in(site.alice, version)
    site.let_in(site.stranger, version, label="guest")
    address = "::" if bound_to == "dual stack" else str(site.server.address(version))
    to = site.server.address(version)
    with (
        site.server.listen_tcp(8443, address) as listener,
        session(site.alice, listener, to) as (near, far),
        session(site.stranger, listener, to) as (others, others_far),
    ):
        with site.server.enter():
            ended = revoke(site.nft, label="alice-laptop").leases
        assert {lease.source for lease in ended} == {site.alice.address(version)}
        with pytest.raises(ConnectionResetError):
            near.recv(1)
        with pytest.raises(ConnectionAbortedError):
            far.recv(1)
        assert site.alice.is_kept_out(to, 8443)
        others_far.sendall(b"still here")
        assert others.recv(100) == b"still here"
        assert site.stranger.reaches_tcp(to, 8443), "the listening socket lives on"
    assert {lease.label for lease in list_leases(site.nft)} == {"guest"}


@pytest.mark.parametrize("version", FAMILIES)
def test_a_revoked_session_through_destination_nat_stops(inner_site: Site, version: int) -> None:
    site, inner = inner_site, inner_site.lab.inner
    site.server.nft(
        "table inet containers { chain publish { type nat hook prerouting priority dstnat;\n"
        f"tcp dport 8443 dnat ip to {inner.ipv4}:80\n"
        f"tcp dport 8443 dnat ip6 to [{inner.ipv6}]:80\n}}\n}}\n"
    )
    site.close_up(WEB)
    to = site.server.address(version)
    site.let_in(site.alice, version)
    site.let_in(site.stranger, version, label="guest")
    with (
        inner.listen_tcp(80) as listener,
        session(site.alice, listener, to) as (near, far),
        session(site.stranger, listener, to) as (others, others_far),
    ):
        far.sendall(b"before")
        assert near.recv(100) == b"before"
        with site.server.enter():
            revoke(site.nft, sources=(site.alice.address(version),))
        far.sendall(b"after")
        near.settimeout(0.5)
        with pytest.raises(TimeoutError):
            near.recv(100)
        others_far.sendall(b"still here")
        assert others.recv(100) == b"still here"


def test_a_service_redirected_to_another_local_port_is_reset(site: Site) -> None:
    site.server.nft(
        "table inet containers { chain publish { type nat hook prerouting priority dstnat;\n"
        "tcp dport 8443 redirect to :9443\n}\n}\n"
    )
    site.close_up(WEB)
    site.let_in(site.alice)
    with (
        site.server.listen_tcp(9443) as listener,
        session(site.alice, listener, site.server.ipv4) as (near, _),
        site.server.enter(),
    ):
        revoke(site.nft, label="alice-laptop")
        with pytest.raises(ConnectionResetError):
            near.recv(1)


def test_revoking_a_source_ends_sessions_that_outlived_their_lease(site: Site) -> None:
    site.close_up(WEB)
    site.let_in(site.alice)
    with (
        site.server.listen_tcp(8443) as listener,
        session(site.alice, listener, site.server.ipv4) as (near, far),
        site.server.enter(),
    ):
        site.server.run(["nft", "flush", "set", "inet", "spa", "leases4"])
        far.sendall(b"kept")
        assert near.recv(100) == b"kept"
        ended = revoke(site.nft, sources=(site.alice.ipv4,))
        assert ended.leases == ()
        assert ended.flows > 0
        with pytest.raises(ConnectionResetError):
            near.recv(1)


@pytest.mark.parametrize("version", FAMILIES)
def test_connected_udp_sockets_end_and_unconnected_ones_do_not(site: Site, version: int) -> None:
    site.close_up(WEB)
    site.let_in(site.alice, version)
    family = socket.AF_INET if version == 4 else socket.AF_INET6
    to = (str(site.server.address(version)), 5353)
    with (
        site.server.bind_udp(5353) as unconnected,
        site.alice.new_socket(family, socket.SOCK_DGRAM) as client,
    ):
        client.connect(to)
        client.send(b"hello")
        unconnected.settimeout(PATIENCE_S)
        _, peer = unconnected.recvfrom(10)
        with site.server.new_socket(socket.AF_INET6, socket.SOCK_DGRAM) as connected:
            for each in (unconnected, connected):
                each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            connected.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            unconnected.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            connected.bind(("::", 5353))
            connected.connect(peer)
            connected.settimeout(PATIENCE_S)
            with site.server.enter():
                revoke(site.nft, label="alice-laptop")
            with pytest.raises(ConnectionAbortedError):
                connected.recv(1)
        site.let_in(site.alice, version)
        client.send(b"again")
        assert unconnected.recv(10) == b"again"


def test_revoking_what_is_not_there_is_no_error(site: Site) -> None:
    site.close_up(WEB)
    with site.server.enter():
        assert revoke(site.nft, label="nobody") == Ended((), 0)
        assert revoke(site.nft, sources=(ip_address("2001:db8:1::77"),)) == Ended((), 0)
        assert end_flows({Target(site.alice.ipv4, site.server.ipv4, "tcp", 8443)}) == 0
