"""A server in the lab with the perimeter up, leases put in by hand, and its examination."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address

from spa_server.enforce.ruleset import TABLE, ruleset
from spa_server.examine.detours import ways_around
from spa_server.examine.findings import Finding, Severity
from spa_server.examine.obstacles import addresses_behind, obstacles, offloads
from spa_server.examine.reading import read_rules
from spa_server.examine.surroundings import read_surroundings
from spa_server.service import ForwardTarget, OnExpiry, PortRange, Service
from tests.lab import Host, Lab

KNOCK_PORT = 62201


def service(
    name: str, *tcp: int, forward_to: str = "", on_expiry: OnExpiry = OnExpiry.CUT, hosts: tuple[str, ...] = ()
) -> Service:
    """A service on TCP ports; `forward_to` is ADDRESS:PORT."""
    address, _, port = forward_to.rpartition(":")
    return Service(
        name,
        tcp=tuple(PortRange(each, each) for each in tcp),
        udp=(),
        roles=frozenset(("staff",)),
        on_expiry=on_expiry,
        hosts=tuple(map(ip_address, hosts)),
        forward_to=(ForwardTarget(ip_address(address), int(port)),) if forward_to else (),
    )


@dataclass(slots=True)
class Site:
    """The lab's server, closed for some services."""

    lab: Lab
    services: tuple[Service, ...] = ()

    @property
    def server(self) -> Host:
        return self.lab.server

    @property
    def alice(self) -> Host:
        return self.lab.clients["alice"]

    @property
    def stranger(self) -> Host:
        return self.lab.clients["stranger"]

    def close_up(self, *services: Service) -> None:
        """Put the perimeter up, and let alice in everywhere."""
        self.services = services
        self.server.nft(f"add table inet {TABLE}\n{ruleset((KNOCK_PORT,), services)}")
        for each in services:
            for _, port in each.ports():
                for version in (4, 6):
                    key = f"{self.alice.address(version)} . {self.server.address(version)} . tcp . {port}"
                    self.server.nft(f"add element inet {TABLE} leases{version} {{ {key} timeout 600s }}\n")

    def findings(self) -> tuple[Finding, ...]:
        """What is wrong with other tables' rules."""
        with self.server.enter():
            book = read_rules()
            around = read_surroundings(addresses_behind(book, self.services))
        found = [*obstacles(book, around, (KNOCK_PORT,), self.services), *offloads(book, self.services)]
        return (*found, *ways_around(book, around, self.services))

    def found(self, id: str) -> list[Finding]:
        """The findings of one kind."""
        return [each for each in self.findings() if each.id == id]

    def serious(self) -> list[Finding]:
        """Those that are worse than a note."""
        return [each for each in self.findings() if each.severity > Severity.NOTE]

    def mend(self, finding: Finding) -> None:
        """Run the command that a finding names, as it is printed."""
        self.server.run(["sh", "-c", finding.remedy])
