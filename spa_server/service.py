"""What a protected service is: its ports, who may open it, and how a lease on it behaves.

Pure data, read from the configuration and shared by the decision core and the kernel side. It must not know how
either uses it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Address, IPv4Network, IPv6Address

Address = IPv4Address | IPv6Address

MAX_PORTS = 256
"""Most ports, TCP and UDP together, that one service may name: each is a set element of its own in every lease."""
MAX_LEASED = 1024
"""Most pairs of a host and a port in one service: a lease on it is that many elements, set in one transaction."""
_THIS_NETWORK = IPv4Network("0.0.0.0/8")
_CLASS_E = IPv4Network("240.0.0.0/4")


class SourcePolicy(StrEnum):
    """Whose word a service takes for the address that a lease opens."""

    SIGNED = "signed"
    """Only an address named inside the signed knock."""
    SEEN = "seen"
    """The datagram's source address, unless the knock names one."""


class Sensitivity(StrEnum):
    """How much harm whoever gets in can do; what follows from it is the policy's affair."""

    LOW = "low"
    NORMAL = "normal"
    HIGH = "high"


class OnExpiry(StrEnum):
    """What happens to sessions that are open when their lease ends."""

    CUT = "cut"
    KEEP = "keep"


@dataclass(frozen=True, slots=True)
class PortRange:
    """Ports `first` to `last`, both included."""

    first: int
    last: int

    def __str__(self) -> str:
        return str(self.first) if self.first == self.last else f"{self.first}-{self.last}"


@dataclass(frozen=True, slots=True)
class ForwardTarget:
    """An inner host and port to which leased packets are redirected (DNAT)."""

    address: Address
    port: int

    def __str__(self) -> str:
        host = f"[{self.address}]" if self.address.version == 6 else str(self.address)
        return f"{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Service:
    """A named set of ports that does not exist on the network until leased."""

    name: str
    tcp: tuple[PortRange, ...]
    udp: tuple[PortRange, ...]
    roles: frozenset[str]
    lease_s: int = 30
    max_lease_s: int = 300
    source: SourcePolicy = SourcePolicy.SEEN
    on_expiry: OnExpiry = OnExpiry.CUT
    hosts: tuple[Address, ...] = ()
    forward_to: tuple[ForwardTarget, ...] = ()
    masquerade: bool = False
    groups: frozenset[str] = frozenset()
    sensitivity: Sensitivity = Sensitivity.NORMAL
    needs_approval: bool = False

    def reaches(self, version: int) -> bool:
        """Whether the service is to be had over IP version 4 or 6: its hosts and inner hosts, if any, say so."""
        places = (self.hosts, tuple(target.address for target in self.forward_to))
        return all(any(address.version == version for address in group) for group in places if group)

    def ports(self) -> Iterator[tuple[str, int]]:
        """Every (protocol, port) of the service, protocol being "tcp" or "udp"."""
        for protocol, ranges in (("tcp", self.tcp), ("udp", self.udp)):
            for ports in ranges:
                for port in range(ports.first, ports.last + 1):
                    yield protocol, port


def is_unicast(address: Address) -> bool:
    """Whether it can be one host's: not unspecified, multicast, broadcast or reserved, nor IPv4 dressed as IPv6."""
    if address.is_unspecified or address.is_multicast:
        return False
    if isinstance(address, IPv4Address):
        return address not in _THIS_NETWORK and address not in _CLASS_E
    return address.ipv4_mapped is None
