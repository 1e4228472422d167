"""Who gets through the kernel, and for how long."""

from __future__ import annotations

import contextlib
import socket
import struct
import time
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import ip_address

import pytest

from spa_server.enforce.leases import Grant, NotReachable, list_leases, open_leases
from spa_server.service import OnExpiry
from tests.end_to_end.probing import Prober
from tests.lab import Host
from tests.server.enforce.conftest import FAMILIES, KNOCK_PORT, PATIENCE_S, QUIET_S, Site, service, target
from tests.stalls import SLACK_S, Between, before, in_time, timed

WEB = service("web", tcp=(8443,), udp=(5353,))


def receives_udp(
    server: socket.socket, client: Host, to: object, port: int, text: bytes = b"hello", patience_s: float = PATIENCE_S
) -> bool:
    """Whether a datagram sent by `client` arrives at `server`."""
    server.settimeout(patience_s)
    family = socket.AF_INET6 if ":" in str(to) else socket.AF_INET
    with client.new_socket(family, socket.SOCK_DGRAM) as sender:
        sender.sendto(text, (str(to), port))
        try:
            return server.recv(100) == text
        except TimeoutError:
            return False


def echoes(client: socket.socket, server: socket.socket, patience_s: float = PATIENCE_S) -> bool:
    """Whether a byte gets from the client's socket to the server's and back."""
    client.settimeout(patience_s)
    server.settimeout(patience_s)
    try:
        client.sendall(b"?")
        server.recv(1)
        server.sendall(b"!")
        return client.recv(1) == b"!"
    except OSError:
        return False


@pytest.mark.parametrize("version", FAMILIES)
def test_only_the_leased_tuple_passes(site: Site, version: int) -> None:
    site.close_up(WEB, service("ssh", tcp=(22,)))
    to = site.server.address(version)
    with (
        site.server.listen_tcp(8443),
        site.server.listen_tcp(22),
        site.server.listen_tcp(8080),
        site.server.bind_udp(5353) as udp,
    ):
        assert site.alice.is_kept_out(to, 8443)
        assert not receives_udp(udp, site.alice, to, 5353, patience_s=QUIET_S)
        web = Grant(WEB, site.alice.address(version), to, 30, "alice-laptop")
        assert open_leases(site.nft, [web]) == (30,)
        assert site.alice.reaches_tcp(to, 8443)
        assert receives_udp(udp, site.alice, to, 5353)
        assert site.alice.is_kept_out(to, 22)
        for other in ("neighbour", "stranger"):
            assert site.lab.clients[other].is_kept_out(to, 8443)
            assert not receives_udp(udp, site.lab.clients[other], to, 5353, patience_s=QUIET_S)
        assert site.alice.is_kept_out(site.server.address(10 - version), 8443)
        assert site.stranger.reaches_tcp(to, 8080)


@pytest.mark.parametrize("version", FAMILIES)
def test_a_closed_port_answers_nothing_at_all(site: Site, version: int) -> None:
    site.close_up(WEB)
    to = str(site.server.address(version))
    with pytest.raises(TimeoutError):  # neither a reset nor an ICMP error
        site.stranger.connect_tcp(to, 8443, timeout=0.3)
    family = socket.AF_INET if version == 4 else socket.AF_INET6
    with site.stranger.new_socket(family, socket.SOCK_DGRAM) as sender:
        sender.settimeout(0.3)
        sender.connect((to, 5353))
        sender.send(b"anyone?")
        with pytest.raises(TimeoutError):
            sender.recv(1)


def test_a_lease_ends_within_100_ms_of_its_time(site: Site) -> None:
    site.close_up(WEB)

    def attempt(lease_s: int) -> None:
        _, let_in = timed(lambda: site.let_in(site.alice, seconds=lease_s))
        due = let_in.later(lease_s)
        prober = Prober(site.alice, site.server, 5353, versions=(4,))
        prober.run_past(due.last_s)
        prober.edges["udp 4"].check(due)

    in_time(attempt)


def test_asking_again_extends_and_never_adds_up_nor_shortens(site: Site) -> None:
    site.close_up(service("web", tcp=(8443,)))
    assert site.let_in(site.alice, seconds=200) == (200,)
    told, longer = timed(lambda: site.let_in(site.alice, seconds=300, label="alice-phone"))
    assert told == (300,)
    assert site.lease_end().can_be(longer.later(300), SLACK_S)
    assert [lease.label for lease in list_leases(site.nft)] == ["alice-phone"]
    (left_s,), shorter = timed(lambda: site.let_in(site.alice, seconds=5))
    # What is left is read and written anew, so the end may move by as long as that takes.
    due = Between(longer.first_s, longer.last_s + shorter.length_s).later(300)
    assert site.lease_end().can_be(due, SLACK_S)
    assert Between(shorter.first_s + left_s, shorter.last_s + left_s + 1).can_be(due, SLACK_S)


@pytest.mark.parametrize("version", FAMILIES)
def test_a_published_port_is_closed_until_leased(inner_site: Site, version: int) -> None:
    site, inner = inner_site, inner_site.lab.inner
    site.server.nft(
        "table inet containers { chain publish { type nat hook prerouting priority dstnat;\n"
        f"tcp dport 8443 dnat ip to {inner.ipv4}:80\n"
        f"tcp dport 8443 dnat ip6 to [{inner.ipv6}]:80\n}}\n}}\n"
    )
    to = site.server.address(version)
    with inner.listen_tcp(80):
        assert site.stranger.reaches_tcp(to, 8443), "published before the perimeter is up"
        site.close_up(service("web", tcp=(8443,)))
        assert site.stranger.is_kept_out(to, 8443)
        site.let_in(site.alice, version)
        assert site.alice.reaches_tcp(to, 8443)
        assert site.stranger.is_kept_out(to, 8443)


@pytest.mark.parametrize("version", FAMILIES)
def test_a_forwarded_host_is_closed_until_leased(inner_site: Site, version: int) -> None:
    site, inner = inner_site, inner_site.lab.inner
    site.close_up(service("db", tcp=(5432,), hosts=(inner.ipv4, inner.ipv6)))
    with inner.listen_tcp(5432):
        assert site.alice.is_kept_out(inner.address(version), 5432)
        site.let_in(site.alice, version)
        assert site.alice.reaches_tcp(inner.address(version), 5432)
        assert site.stranger.is_kept_out(inner.address(version), 5432)


@pytest.mark.parametrize("masquerade", [False, True])
@pytest.mark.parametrize("version", FAMILIES)
def test_forward_to_leads_to_the_inner_host_only_while_leased(inner_site: Site, version: int, masquerade: bool) -> None:
    site, inner = inner_site, inner_site.lab.inner
    targets = target(str(inner.ipv4), 443), target(str(inner.ipv6), 443)
    warnings = site.close_up(service("wiki", tcp=(8443,), forward_to=targets, masquerade=masquerade))
    to = site.server.address(version)
    with inner.listen_tcp(443) as listener:
        assert warnings == ()
        assert site.alice.is_kept_out(to, 8443)
        assert site.alice.is_kept_out(inner.address(version), 443), "nor around it, by routing"
        site.let_in(site.alice, version)
        with site.alice.connect_tcp(to, 8443) as client:
            server, peer = listener.accept()
            with server:
                assert echoes(client, server)
        seen = ip_address(peer[0])
        seen = getattr(seen, "ipv4_mapped", None) or seen
        assert (seen == site.alice.address(version)) is not masquerade
        assert site.stranger.is_kept_out(to, 8443)
        assert site.alice.is_kept_out(inner.address(version), 443)


@pytest.mark.parametrize("on_expiry", list(OnExpiry))
@pytest.mark.parametrize("version", FAMILIES)
def test_a_session_is_cut_or_kept_when_its_lease_ends(site: Site, version: int, on_expiry: OnExpiry) -> None:
    to, kept = site.server.address(version), on_expiry is OnExpiry.KEEP

    def attempt(lease_s: int) -> None:
        site.server.run(["nft", "flush", "ruleset"])
        with site.server.listen_tcp(8443) as listener, contextlib.ExitStack() as stack:
            earlier = stack.enter_context(site.alice.connect_tcp(to, 8443))
            earlier_server = stack.enter_context(listener.accept()[0])
            site.close_up(service("web", tcp=(8443,), on_expiry=on_expiry))
            assert not echoes(earlier, earlier_server, QUIET_S), "a flow from before the perimeter"
            client, server = stack.enter_context(session(site, listener, version, lease_s))
            _until_no_lease(site)
            assert echoes(client, server, PATIENCE_S if kept else QUIET_S) is kept
            assert site.alice.is_kept_out(to, 8443), "a new session"

    in_time(attempt)


@contextlib.contextmanager
def session(
    site: Site, listener: socket.socket, version: int, lease_s: int
) -> Iterator[tuple[socket.socket, socket.socket]]:
    """Alice's and the server's end of a connection that was made, and used, under a lease of so many seconds."""
    begun_s = time.monotonic()
    site.let_in(site.alice, version, seconds=lease_s)
    with contextlib.ExitStack() as stack:
        with before(begun_s + lease_s):
            client = stack.enter_context(site.alice.connect_tcp(site.server.address(version), 8443))
            server = stack.enter_context(listener.accept()[0])
            assert echoes(client, server)
        yield client, server


@pytest.mark.parametrize("version", FAMILIES)
def test_no_new_connection_takes_over_the_ports_of_a_kept_session(site: Site, version: int) -> None:
    """To connection tracking a SYN on an established entry is no new flow; the server's reset leaves the entry."""
    to = site.server.address(version)
    site.close_up(service("web", tcp=(8443,), on_expiry=OnExpiry.KEEP))

    def attempt(lease_s: int) -> None:
        with (
            site.server.listen_tcp(8443) as listener,
            session(site, listener, version, lease_s) as (client, server),
        ):
            own_port = client.getsockname()[1]
            _until_no_lease(site)
            server.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            server.close()
            client.close()
            with site.alice.new_socket(client.family, socket.SOCK_STREAM) as again:
                again.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                again.bind(("", own_port))
                again.settimeout(0.5)
                with pytest.raises(TimeoutError):
                    again.connect((str(to), 8443))

    in_time(attempt)


@pytest.mark.parametrize("version", FAMILIES)
def test_other_networks_stay_reachable_through_a_gateway_where_hosts_are_named(inner_site: Site, version: int) -> None:
    site, inner = inner_site, inner_site.lab.inner
    own = (site.server.ipv4, site.server.ipv6)
    targets = (target(str(inner.ipv4), 443), target(str(inner.ipv6), 443))
    site.close_up(service("wiki", tcp=(8443,), hosts=own, forward_to=targets))
    away = site.stranger.address(version)
    with site.stranger.listen_tcp(8443), inner.listen_tcp(443), site.server.listen_tcp(8443):
        assert inner.reaches_tcp(away, 8443), "the inner host's own way out"
        assert site.alice.is_kept_out(site.server.address(version), 8443)
        site.let_in(site.alice, version)
        assert site.alice.reaches_tcp(site.server.address(version), 8443)


@pytest.mark.parametrize("version", FAMILIES)
def test_knocks_at_other_servers_are_forwarded(inner_site: Site, version: int) -> None:
    site = inner_site
    site.close_up(service("web", tcp=(8443,)))
    with site.stranger.bind_udp(KNOCK_PORT) as other:
        assert receives_udp(other, site.lab.inner, site.stranger.address(version), KNOCK_PORT)


@pytest.mark.parametrize("version", FAMILIES)
def test_to_tcp_a_knock_port_is_silent_unless_a_service_has_it(site: Site, version: int) -> None:
    site.knock_ports = (KNOCK_PORT, 8443, 5353)
    site.close_up(WEB)
    to = site.server.address(version)
    site.let_in(site.alice, version)
    with site.server.listen_tcp(8443), site.server.listen_tcp(5353):
        assert site.alice.reaches_tcp(to, 8443)
        for port in site.knock_ports:
            assert site.stranger.is_kept_out(to, port)


@pytest.mark.parametrize("version", FAMILIES)
def test_a_service_forwarded_in_one_family_is_not_opened_in_the_other(inner_site: Site, version: int) -> None:
    site, inner = inner_site, inner_site.lab.inner
    one = (target(str(inner.address(version)), 443),)
    site.close_up(service("wiki", tcp=(8443,), forward_to=one))
    site.let_in(site.alice, version)
    with pytest.raises(NotReachable):
        site.let_in(site.alice, 10 - version)


def test_a_lease_from_before_the_maximum_was_lowered_is_cut_to_it(site: Site) -> None:
    wide = service("web", tcp=(8443,))
    site.close_up(wide)
    site.let_in(site.alice, seconds=300)
    site.close_up(replace(wide, max_lease_s=100, lease_s=100))
    _, cut = timed(lambda: site.let_in(site.alice, seconds=5))
    assert site.lease_end().can_be(cut.later(100), SLACK_S)


def test_a_forwarded_session_is_kept_by_its_original_port(inner_site: Site) -> None:
    site, inner = inner_site, inner_site.lab.inner
    site.close_up(service("wiki", tcp=(8443,), on_expiry=OnExpiry.KEEP, forward_to=(target(str(inner.ipv4), 443),)))

    def attempt(lease_s: int) -> None:
        with inner.listen_tcp(443) as listener:
            with session(site, listener, 4, lease_s) as (client, server):
                _until_no_lease(site)
                assert echoes(client, server)
            assert site.alice.is_kept_out(site.server.ipv4, 8443)

    in_time(attempt)


def test_a_lease_says_who_for_what_and_how_long(site: Site) -> None:
    site.close_up(WEB)
    _, let_in = timed(lambda: site.let_in(site.alice, 6, seconds=30))
    (tcp, udp), listed = timed(lambda: list_leases(site.nft))
    assert (tcp.label, tcp.service, tcp.protocol, tcp.port) == ("alice-laptop", "web", "tcp", 8443)
    assert (udp.protocol, udp.port) == ("udp", 5353)
    assert (tcp.source, tcp.destination) == (site.alice.ipv6, site.server.ipv6)
    assert listed.later(tcp.left_ms / 1000).can_be(let_in.later(30), SLACK_S)
    assert 'comment "alice-laptop"' in site.ruleset()


def _until_no_lease(site: Site) -> None:
    while left := site.leases_left_ms():
        time.sleep(max(left) / 1000)
