"""The firewall process: what it does for its peer, and what it cannot be talked into."""

from __future__ import annotations

import contextlib
import logging
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from ipaddress import ip_address

import pytest

from spa_server.enforce.client import (
    Events,
    FirewallClient,
    FirewallFailed,
    FirewallGone,
    FirewallRefused,
    FirewallSilent,
    FirewallStale,
)
from spa_server.enforce.firewall import Enforced, Firewall
from spa_server.enforce.leases import list_leases
from spa_server.enforce.requests import MESSAGE_LARGEST, Answer, Open, Status, Wanted
from spa_server.enforce.table import TableSocket
from tests.server.enforce.conftest import FAMILIES, PATIENCE_S, Site, service

WEB = replace(service("web", tcp=(8443,)), max_lease_s=60)
SIX = service("six", tcp=(6666,), hosts=(ip_address("2001:db8:1::1"),))
DIGEST, FORMER, FRESH = b"enforced", b"former..", b"fresh..."
SERVICES = (WEB, service("ssh", tcp=(22,)), SIX)


@dataclass(slots=True)
class Served:
    """A site whose firewall process (here a thread) answers `client`."""

    site: Site
    client: FirewallClient
    channel: socket.socket

    def opens(self, *wanted: Wanted, version: int = 4, label: str = "alice-laptop") -> tuple[int, ...]:
        source, destination = self.site.alice.address(version), self.site.server.address(version)
        return self.client.open_(source, destination, label, wanted)


@pytest.fixture
def served(site: Site) -> Iterator[Served]:
    site.close_up(*SERVICES)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with site.server.enter():
        nft = TableSocket("spa")
    enforced = Enforced(DIGEST, SERVICES, {DIGEST: ("web", "ssh", "six"), FORMER: ("gone", "ssh")})
    firewall = Firewall(nft, enforced, lambda digest: Status.DONE if digest == FRESH else Status.STALE, lambda: None)
    thread = threading.Thread(target=serve, args=(theirs, firewall))
    thread.start()
    client = FirewallClient(ours, DIGEST, time_limit_s=PATIENCE_S)
    yield Served(site, client, ours)
    client.close()
    thread.join(timeout=60)
    theirs.close()
    nft.close()
    assert not thread.is_alive(), "it ends when its peer has closed"


def serve(channel: socket.socket, firewall: Firewall) -> None:
    with contextlib.suppress(ConnectionError):
        while data := channel.recv(MESSAGE_LARGEST):
            channel.send(firewall.answer(data).pack())


@pytest.mark.parametrize("version", FAMILIES)
def test_it_opens_what_is_asked_in_one_go(served: Served, version: int) -> None:
    assert served.opens(Wanted(0, 20), Wanted(1, 30), version=version) == (20, 30)
    assert {(lease.service, lease.port) for lease in list_leases(served.site.nft)} == {
        ("web", 8443),
        ("ssh", 22),
    }
    with served.site.server.listen_tcp(8443):
        assert served.site.alice.reaches_tcp(served.site.server.address(version), 8443)


def test_it_arms_and_disarms(served: Served) -> None:
    tags = [number.to_bytes(8, "big") for number in range(5000)]
    served.client.arm(tags, 60_000)
    assert len(served.site.nft.dump("tags")) == 5000
    served.client.disarm(tags[1:])
    assert [element.key for element in served.site.nft.dump("tags")] == tags[:1]


@pytest.mark.parametrize(
    "wanted",
    [
        pytest.param((Wanted(3, 20),), id="unknown service"),
        pytest.param((Wanted(0, 61),), id="longer than allowed"),
        pytest.param((Wanted(0, 0),), id="no time"),
        pytest.param((), id="no service"),
        pytest.param((Wanted(0, 20), Wanted(0, 20)), id="twice the same"),
        pytest.param((Wanted(0, 20), Wanted(2, 20)), id="no address in the family"),
        pytest.param(tuple(Wanted(number, 20) for number in range(33)), id="too many"),
    ],
)
def test_it_refuses_what_its_configuration_does_not_allow(
    served: Served, wanted: tuple[Wanted, ...], caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(FirewallRefused):
        served.opens(*wanted)
    assert list_leases(served.site.nft) == ()
    assert "refused" in caplog.text


def test_it_refuses_what_was_asked_too_long_ago(served: Served) -> None:
    """A firewall process that was stopped must not, when it goes on, open what the device was told is not open."""
    source, destination = served.site.alice.ipv4, served.site.server.ipv4
    late = Open(7, int(time.monotonic() * 1000) - 1, DIGEST, source, destination, "alice", (Wanted(0, 20),))
    served.channel.send(late.pack())
    served.channel.settimeout(PATIENCE_S)
    assert Answer.unpack(served.channel.recv(65536)) == Answer(7, Status.REFUSED)
    assert list_leases(served.site.nft) == ()


@pytest.mark.parametrize("label", ["", "-a", "a b", 'a"', "a" * 64, "a\n"])
def test_it_refuses_labels_of_other_characters(served: Served, label: str) -> None:
    with pytest.raises(FirewallRefused):
        served.opens(Wanted(0, 20), label=label)


@pytest.mark.parametrize(
    ("source", "destination"),
    [
        ("0.0.0.0", "198.51.100.1"),
        ("0.1.2.3", "198.51.100.1"),
        ("224.0.0.1", "198.51.100.1"),
        ("255.255.255.255", "198.51.100.1"),
        ("192.0.2.7", "0.0.0.0"),
        ("::", "2001:db8:1::1"),
        ("ff02::1", "2001:db8:1::1"),
        ("::ffff:192.0.2.7", "2001:db8:1::1"),
        ("192.0.2.7", "2001:db8:1::1"),
        ("2001:db8::7", "198.51.100.1"),
    ],
)
def test_it_refuses_addresses_that_are_not_one_hosts(served: Served, source: str, destination: str) -> None:
    with pytest.raises(FirewallRefused):
        served.client.open_(ip_address(source), ip_address(destination), "alice", [Wanted(0, 20)])
    assert list_leases(served.site.nft) == ()


@pytest.mark.parametrize("timeout_ms", [0, 2**32 - 1])
def test_it_refuses_to_arm_for_ever(served: Served, timeout_ms: int) -> None:
    with pytest.raises(FirewallRefused):
        served.client.arm([bytes(8)], timeout_ms)


@pytest.mark.parametrize("data", [b"x", bytes(8), b"\xff" * 40, b"\3" + bytes(60_000)])
def test_nonsense_is_refused_and_the_next_request_served(served: Served, data: bytes) -> None:
    served.channel.send(data)
    assert Answer.unpack(served.channel.recv(100)).status is Status.REFUSED
    assert served.opens(Wanted(0, 20)) == (20,)


def test_a_kernel_failure_is_an_answer_and_a_log_line(served: Served, caplog: pytest.LogCaptureFixture) -> None:
    served.site.server.run(["nft", "flush", "ruleset"])
    with pytest.raises(FirewallFailed):
        served.opens(Wanted(0, 20))
    assert "No such file" in caplog.text
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    served.site.close_up(*SERVICES)
    assert served.opens(Wanted(0, 20)) == (20,)


def test_a_late_answer_is_not_taken_for_the_next(site: Site) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    client = FirewallClient(ours, DIGEST, time_limit_s=1.5)
    with ours, theirs:
        with pytest.raises(FirewallSilent):
            client.open_(site.alice.ipv4, site.server.ipv4, "a", [Wanted(0, 1)])
        theirs.send(Answer(1, Status.DONE, (111,)).pack())
        theirs.send(Answer(2, Status.DONE, (222,)).pack())
        assert client.open_(site.alice.ipv4, site.server.ipv4, "a", [Wanted(0, 1)]) == (222,)


def test_a_dead_firewall_process_is_noticed(site: Site) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    theirs.close()
    with ours, pytest.raises(FirewallGone):
        FirewallClient(ours, DIGEST).arm([bytes(8)], 1000)


def test_by_another_configuration_it_opens_only_what_it_enforces_itself(served: Served) -> None:
    served.client.reload(FRESH)
    with pytest.raises(FirewallStale):
        served.opens(Wanted(0, 20))
    with pytest.raises(FirewallStale):
        served.client.reload(b"other...")
    source, destination = served.site.alice.ipv4, served.site.server.ipv4
    by_former = FirewallClient(served.channel, FORMER)
    with pytest.raises(FirewallStale):
        by_former.open_(source, destination, "alice", [Wanted(0, 20)])
    assert by_former.open_(source, destination, "alice", [Wanted(1, 20)]) == (20,)
    assert {lease.service for lease in list_leases(served.site.nft)} == {"ssh"}


def test_it_tells_what_was_counted_service_by_service(served: Served) -> None:
    served.opens(Wanted(1, 20))
    served.opens(Wanted(1, 20), version=6)
    assert served.client.counters() == (0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0)
    assert served.site.stranger.is_kept_out(served.site.server.ipv4, 8443)
    assert served.client.counters()[3] > 0


def test_word_that_comes_unasked_is_kept_until_it_is_taken(site: Site) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    client = FirewallClient(ours, DIGEST, time_limit_s=PATIENCE_S)
    with ours:
        with theirs:
            assert client.take_events() == Events(ended=False, disarmed=False)
            theirs.send(Answer(0, Status.DISARMED).pack())
            theirs.send(Answer(1, Status.DONE).pack())
            client.arm([bytes(8)], 1000)
            assert client.take_events() == Events(ended=False, disarmed=True)
            assert client.take_events() == Events(ended=False, disarmed=False)
        assert client.take_events() == Events(ended=True, disarmed=False)


def test_a_request_cannot_name_more_than_the_message_holds() -> None:
    one = ip_address("192.0.2.7")
    with pytest.raises(UnicodeEncodeError):
        Open(1, 0, bytes(8), one, one, "älice", ()).pack()


def test_the_client_side_imports_no_kernel_code() -> None:
    code = (
        "import sys, spa_server.enforce.client\n"
        "print(*sorted(m for m in sys.modules if m.startswith(('spa_server.enforce.', 'pyroute2'))))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [
        "spa_server.enforce.client",
        "spa_server.enforce.held",
        "spa_server.enforce.requests",
    ]


@pytest.mark.parametrize("version", FAMILIES)
def test_it_closes_what_the_label_has_open(served: Served, version: int) -> None:
    served.opens(Wanted(0, 20), Wanted(1, 30), version=version, label="alice-laptop+ci")
    source, destination = served.site.alice.address(version), served.site.server.address(version)
    assert served.client.close_leases(source, destination, "alice-laptop", [0, 1]) == (0, 0)
    assert served.client.close_leases(source, destination, "alice-laptop+ci", [0]) == (1,)
    assert {lease.service for lease in list_leases(served.site.nft)} == {"ssh"}
    assert served.client.close_leases(source, destination, "alice-laptop+ci", [0, 1]) == (0, 1)


def test_it_closes_nothing_for_a_request_that_could_not_have_opened_it(served: Served) -> None:
    served.opens(Wanted(0, 20))
    source, destination = served.site.alice.ipv4, served.site.server.ipv4
    for label, services in (("alice laptop", [0]), ("a+b+c", [0]), ("alice-laptop", []), ("alice-laptop", [9])):
        with pytest.raises(FirewallRefused):
            served.client.close_leases(source, destination, label, services)
    with pytest.raises(FirewallRefused):
        served.client.close_leases(ip_address("224.0.0.1"), destination, "alice-laptop", [0])
    assert len(list_leases(served.site.nft)) == 1
