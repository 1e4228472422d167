"""Addresses as the configuration writes them, and which of them can stand where.

Pure checks on text: whether an address is this host's, or a name resolves, is not known here.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

from spa_server.service import Address, ForwardTarget
from spa_server.toml_table import Bad

_HOST_NAME = re.compile(
    r"(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)*[A-Za-z](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
)
_LONGEST_NAME = 253
_TARGET = re.compile(r"(?:\[([^\[\]]*)\]|([^:\[\]]*)):([0-9]{1,5})")
_BROADCAST = ipaddress.IPv4Address("255.255.255.255")


@dataclass(frozen=True, slots=True)
class LoopbackPort:
    """A TCP port that only this host reaches."""

    address: Address
    port: int


def loopback_port(value: object) -> LoopbackPort:
    """A loopback address and a port."""
    what = 'a loopback address and a port such as "127.0.0.1:9462" or "[::1]:9462", or the absolute path of a socket'
    found = _TARGET.fullmatch(value) if isinstance(value, str) else None
    if found is None or not 1 <= int(found[3]) <= 65535:
        raise Bad(what)
    address = _address(found[2] if found[1] is None else found[1], what)
    if not address.is_loopback or (address.version == 6) != (found[1] is not None):
        raise Bad(what)
    return LoopbackPort(address, int(found[3]))


def listen_address(value: object) -> Address:
    """An address to listen on; "0.0.0.0" and "::" are all of a family."""
    return _address(value, "an IPv4 or IPv6 address of this host", any_of_family=True)


def host(value: object) -> Address:
    """An address at which a service is reached."""
    return _address(value, "an IPv4 or IPv6 address at which the service is reached")


def target(value: object) -> ForwardTarget:
    """An inner host and port."""
    what = 'an inner host and port such as "10.0.0.5:443" or "[fd00::5]:443"'
    found = _TARGET.fullmatch(value) if isinstance(value, str) else None
    if found is None or not 1 <= int(found[3]) <= 65535:
        raise Bad(what)
    address = _address(found[2] if found[1] is None else found[1], what)
    if (address.version == 6) != (found[1] is not None):
        raise Bad(what)
    if address.is_loopback or address.is_link_local:
        raise Bad(f"{what}, and no loopback or link-local address: the kernel forwards nothing there")
    return ForwardTarget(address, int(found[3]))


def reach_address(value: object) -> str:
    """A host name, or an address, that a client can be told."""
    what = "a host name or an IP address, without a port"
    if not isinstance(value, str):
        raise Bad(what)
    if len(value) <= _LONGEST_NAME and _HOST_NAME.fullmatch(value):
        return value
    return str(_address(value, what))


def _address(value: object, what: str, *, any_of_family: bool = False) -> Address:
    if not isinstance(value, str):
        raise Bad(what)
    try:
        address = ipaddress.ip_address(value)
    except ValueError:
        raise Bad(what) from None
    if isinstance(address, ipaddress.IPv6Address):
        if address.scope_id is not None:
            raise Bad(f"{what}, without a zone (%...)")
        if address.ipv4_mapped is not None:
            raise Bad(f"{what}; write this one as {address.ipv4_mapped}")
    if address.is_multicast or address == _BROADCAST:
        raise Bad(f"{what}, and no multicast or broadcast address")
    if address.is_unspecified and not any_of_family:
        raise Bad(f"{what}, and not the unspecified address")
    return address
