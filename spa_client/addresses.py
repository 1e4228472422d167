"""From host names to the addresses that are knocked at: at most one of each family.

It must not know what is sent there.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any

from spa_client.errors import BadSurroundings
from spa_client.steps import tell
from spa_protocol.body import Address


@dataclass(frozen=True, slots=True)
class Target:
    """One address of the server.

    `sockaddr` is what connect() takes, its scope included. `further_ports`: others that lead to the same.
    """

    address: Address
    sockaddr: tuple[Any, ...]
    further_ports: tuple[int, ...] = ()

    @property
    def family(self) -> socket.AddressFamily:
        """The socket family that reaches it."""
        return socket.AF_INET if self.address.version == 4 else socket.AF_INET6

    @property
    def sockaddrs(self) -> tuple[tuple[Any, ...], ...]:
        """What connect() takes for each of the ports."""
        host, _, *rest = self.sockaddr
        return (self.sockaddr, *((host, port, *rest) for port in self.further_ports))


def resolve(hosts: tuple[str, ...], port: int, *further_ports: int) -> tuple[Target, ...]:
    """The server's first address of each family, in the order that the resolver prefers (RFC 6724).

    A later host is asked for only while a family is missing. Raises BadSurroundings when no host has an address.
    """
    found: dict[int, Target] = {}
    failures: list[str] = []
    for host in hosts:
        if len(found) == 2:
            break
        try:
            entries = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)
        except (socket.gaierror, UnicodeError) as error:
            failures.append(f"{host} ({error.strerror or error})" if isinstance(error, OSError) else host)
            continue
        for family, _, _, _, sockaddr in entries:
            address = address_of(str(sockaddr[0]))
            # An IPv4-mapped AAAA record would be an IPv4 path under another name.
            mapped = isinstance(address, IPv6Address) and address.ipv4_mapped is not None
            if family in (socket.AF_INET, socket.AF_INET6) and not mapped:
                found.setdefault(address.version, Target(address, tuple(sockaddr), further_ports))
    if not found:
        raise BadSurroundings(
            f"no address for the server: {'; '.join(failures) or ', '.join(hosts)}; check the network and the name"
        )
    tell("resolved", "{} to {}", ", ".join(hosts), ", ".join(str(target.address) for target in found.values()))
    return tuple(found.values())


def no_network(targets: Sequence[Target], error: OSError) -> str:
    """The sentence about targets that this computer has no route to."""
    families = {target.address.version for target in targets}
    what = f"no network that leads to {places(targets)}: {error.strerror or error}"
    if len(families) == 1:
        (version,) = families
        return f"{what}; the server has an IPv{version} address only: connect to a network that has IPv{version}"
    return f"{what}; connect this computer to a network"


def places(targets: Sequence[Target]) -> str:
    """The targets' addresses, for a sentence."""
    return " and ".join(str(target.address) for target in targets)


def udp_ports(ports: Sequence[int]) -> str:
    """UDP ports, for a sentence."""
    return ", ".join(f"udp/{port}" for port in ports)


def address_of(text: str) -> IPv4Address | IPv6Address:
    """The address in a socket name, without its zone."""
    return ip_address(text.partition("%")[0])


def tcp_sockaddr(address: Address, port: int) -> tuple[socket.AddressFamily, tuple[Any, ...]]:
    """Family and connect() argument for a TCP port of an address."""
    return socket.AF_INET if address.version == 4 else socket.AF_INET6, sockaddr_of(address, port)


def sockaddr_of(address: Address, port: int) -> tuple[Any, ...]:
    """What connect() takes for a port of an address that needs no zone."""
    return (str(address), port) if address.version == 4 else (str(address), port, 0, 0)
