"""A laptop whose address changes while it holds a lease: the new lease is there at once, the old one gone."""

from __future__ import annotations

import time
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

import pytest

from spa_server.enforce.leases import list_leases
from spa_server.enforce.nftset import NftSocket
from tests.end_to_end.running import Laptop, RunningServer
from tests.end_to_end.telling import causes, told_by
from tests.lab import Address, Lab
from tests.stalls import ATTEMPTS, PATIENCE_S, Between, timed, wait_until

NEW: dict[int, Address] = {4: IPv4Address("198.51.100.77"), 6: IPv6Address("2001:db8:1::77")}
WITHIN_S = 0.5
SERVICES = """
[service.web]
tcp = [8443]
roles = ["admin"]
lease_s = 300
"""


@pytest.fixture
def server(lab: Lab, folder: Path) -> Iterator[RunningServer]:
    """Leases so long that no renewal is due while a test runs."""
    with RunningServer(lab, folder, SERVICES, slots=64) as running:
        yield running


class Sources:
    """Whom leases are for, as the kernel has it."""

    def __init__(self, server: RunningServer) -> None:
        with server.host.enter():
            self._nft = NftSocket()

    def now(self) -> tuple[set[Address], Between]:
        """Whom there are leases for, at some moment between these two."""
        leases, at = timed(lambda: list_leases(self._nft))
        return {lease.source for lease in leases}, at

    def moved(self, before: Address, after: Address) -> tuple[float, float]:
        """Seconds (monotonic) by which the lease for the new address was there, and the one for the old was gone."""
        there_s = gone_s = float("inf")
        end_s = time.monotonic() + PATIENCE_S
        while max(there_s, gone_s) == float("inf"):
            assert time.monotonic() < end_s, f"{after} there: {there_s}, {before} gone: {gone_s}"
            sources, at = self.now()
            if after in sources:
                there_s = min(there_s, at.last_s)
            if before not in sources:
                gone_s = min(gone_s, at.last_s)
            time.sleep(0.002)
        return there_s, gone_s


def move(laptop: Laptop, before: Address, after: Address) -> Between:
    """Give the laptop another address in place of that one; when it was done."""
    length = 24 if before.version == 4 else 64
    nodad = " nodad" if before.version == 6 else ""
    lines = f"addr del {before}/{length} dev eth0\naddr add {after}/{length} dev eth0{nodad}\n"
    _, done = timed(lambda: laptop.host.run(["ip", "-batch", "-"], input=lines))
    return done


def follows(server: RunningServer, laptop: Laptop, version: int) -> None:
    """It moves to and fro, and at one of these moves at the latest the lease follows in time."""
    sources = Sources(server)
    places: list[Address] = [laptop.host.address(version), NEW[version]]
    took_s: list[float] = []
    for _ in range(ATTEMPTS):
        done = move(laptop, *places)
        there_s, gone_s = sources.moved(*places)
        places.reverse()
        took_s.append(there_s - done.first_s)
        print(
            f"\nIPv{version}: there after {took_s[-1] * 1000:.0f} ms, gone {gone_s - done.first_s:.3f} s after the move"
        )
        if took_s[-1] < WITHIN_S:
            break
    assert took_s[-1] < WITHIN_S, f"not within {WITHIN_S} s: {took_s}"


@pytest.mark.parametrize("version", [4, 6])
def test_keep_follows_an_address_that_changes(server: RunningServer, alice: Laptop, version: int) -> None:
    keeping = alice.start_client("keep", "office", "--json")
    events = told_by(keeping)
    wait_until(lambda: bool(events), "the lease")
    follows(server, alice, version)
    wait_until(lambda: "moved" in causes(events), "the line about it")
    keeping.terminate()
    assert keeping.wait(60) == 0
    assert server.leases() == [], "what was moved is given back too"


@pytest.mark.parametrize("version", [4, 6])
def test_open_follows_an_address_that_changes(server: RunningServer, alice: Laptop, lab: Lab, version: int) -> None:
    door = alice.start_client("open", "office", "web", "--json")
    events = told_by(door)
    wait_until(lambda: bool(events), "the door")
    port = int(events[0]["url"].rpartition(":")[2].strip("/"))
    with lab.server.listen_tcp(8443) as listener, alice.host.connect_tcp("127.0.0.1", port):
        listener.settimeout(PATIENCE_S)
        listener.accept()[0].close()
        follows(server, alice, version)
        with alice.host.connect_tcp("127.0.0.1", port):
            accepted, peer = listener.accept()
            accepted.close()
        assert peer[0].removeprefix("::ffff:") in {lease["source"] for lease in server.leases()}
    door.terminate()
    assert door.wait(60) == 0
    assert server.leases() == []


def test_a_network_that_goes_away_and_comes_back_elsewhere_is_followed(server: RunningServer, alice: Laptop) -> None:
    keeping = alice.start_client("keep", "office", "--json")
    events = told_by(keeping)
    wait_until(lambda: bool(events), "the lease")
    alice.host.run(["ip", "link", "set", "eth0", "down"])
    lines = f"addr flush dev eth0\naddr add {NEW[4]}/24 dev eth0\naddr add {NEW[6]}/64 dev eth0 nodad\n"
    alice.host.run(["ip", "-batch", "-"], input=lines)
    alice.host.run(["ip", "link", "set", "eth0", "up"])
    wait_until(lambda: Sources(server).now()[0] == set(NEW.values()), "both leases, and only those")
    keeping.terminate()
    assert keeping.wait(60) == 0
