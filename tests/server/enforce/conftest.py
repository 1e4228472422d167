"""A server namespace with the perimeter up, shared by these tests."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_address

import pytest

from spa_server.enforce import perimeter
from spa_server.enforce.leases import Grant, list_leases, open_leases
from spa_server.enforce.nftset import NftSocket
from spa_server.service import Address, ForwardTarget, OnExpiry, PortRange, Service
from tests.lab import Host, Lab
from tests.stalls import Between, timed

KNOCK_PORT = 62201
PATIENCE_S = 10.0
"""How long what should come through is waited for; it comes at once unless the machine stands still."""
QUIET_S = 0.2
"""How long nothing must have come until nothing is believed to come: far longer than any way through here takes."""
FAMILIES = (4, 6)


def service(
    name: str = "web",
    *,
    tcp: tuple[int, ...] = (),
    udp: tuple[int, ...] = (),
    on_expiry: OnExpiry = OnExpiry.CUT,
    hosts: tuple[Address, ...] = (),
    forward_to: tuple[ForwardTarget, ...] = (),
    masquerade: bool = False,
) -> Service:
    """A service on single ports."""
    return Service(
        name,
        tcp=tuple(PortRange(port, port) for port in tcp),
        udp=tuple(PortRange(port, port) for port in udp),
        roles=frozenset(("staff",)),
        on_expiry=on_expiry,
        hosts=hosts,
        forward_to=forward_to,
        masquerade=masquerade,
    )


def target(text: str, port: int) -> ForwardTarget:
    return ForwardTarget(ip_address(text), port)


@dataclass(slots=True)
class Site:
    """A lab whose server has a perimeter."""

    lab: Lab
    nft: NftSocket
    services: tuple[Service, ...] = ()
    knock_ports: tuple[int, ...] = (KNOCK_PORT,)

    @property
    def server(self) -> Host:
        return self.lab.server

    @property
    def alice(self) -> Host:
        return self.lab.clients["alice"]

    @property
    def stranger(self) -> Host:
        return self.lab.clients["stranger"]

    def close_up(self, *services: Service) -> tuple[str, ...]:
        """Put the perimeter up for these services; returns the warnings."""
        self.services = services
        with self.server.enter():
            return perimeter.apply(self.knock_ports, services)

    def let_in(self, client: Host, version: int = 4, seconds: int = 30, label: str = "alice-laptop") -> tuple[int, ...]:
        """Open all services to a client, as if its knock had come to the server's address."""
        source, destination = client.address(version), self.server.address(version)
        return open_leases(self.nft, [Grant(each, source, destination, seconds, label) for each in self.services])

    def lease_end(self) -> Between:
        """When the only lease there is ends."""
        (lease,), at = timed(lambda: list_leases(self.nft))
        return at.later(lease.left_ms / 1000)

    def leases_left_ms(self) -> list[int]:
        return [lease.left_ms for lease in list_leases(self.nft)]

    def ruleset(self) -> str:
        return self.server.run(["nft", "list", "ruleset"]).stdout


def _site(lab: Lab) -> Iterator[Site]:
    with lab.server.enter():
        nft = NftSocket()
    with nft:
        yield Site(lab, nft)
    lab.server.run(["nft", "flush", "ruleset"])


@pytest.fixture
def site(module_lab: Lab) -> Iterator[Site]:
    """A server without any ruleset yet; what a test puts up is taken down after it."""
    yield from _site(module_lab)


@pytest.fixture
def inner_site(module_inner_lab: Lab) -> Iterator[Site]:
    """The same with an inner host."""
    yield from _site(module_inner_lab)
