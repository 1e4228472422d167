"""What of this host's network the rules are judged by: interfaces, addresses, forwarding, ways to inner hosts."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from spa_server.examine.reading import output
from spa_server.service import Address, Service

FORWARDING = {4: "net/ipv4/ip_forward", 6: "net/ipv6/conf/all/forwarding"}


@dataclass(frozen=True, slots=True)
class Interface:
    """A network interface. `bridge` is the one it is a port of; `program` the XDP program before its packets."""

    name: str
    addresses: tuple[Address, ...] = ()
    up: bool = True
    bridge: str = ""
    kind: str = ""
    program: str = ""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """The host's network at one moment. `ways` says through which interface an inner host is reached."""

    interfaces: tuple[Interface, ...] = ()
    forwards: frozenset[int] = frozenset()
    """IP versions whose packets this host forwards."""
    ways: Mapping[Address, str] = field(default_factory=dict)

    @property
    def addresses(self) -> frozenset[Address]:
        """This host's own."""
        return frozenset(address for interface in self.interfaces for address in interface.addresses)

    def entrances(self) -> tuple[str, ...]:
        """Interfaces through which strangers' packets come; one of no name where none is known, as during boot."""
        found = [each.name for each in self.interfaces if each.up and each.name != "lo" and not each.bridge]
        return tuple(found) or ("",)

    def has_global(self, version: int) -> bool:
        """Whether it has an address of the IP version that others could reach."""
        return any(
            address.version == version and not (address.is_loopback or address.is_link_local)
            for address in self.addresses
        )


def interfaces_in(listed: Iterable[Mapping[str, Any]]) -> tuple[Interface, ...]:
    """The interfaces of `ip -j -d addr`."""
    return tuple(_interface(found) for found in listed if found)


def _interface(found: Mapping[str, Any]) -> Interface:
    info = found.get("linkinfo", {})
    xdp = found.get("xdp", {})
    attached = xdp.get("prog") or next((each.get("prog") for each in xdp.get("attached", ())), None)
    return Interface(
        found["ifname"],
        tuple(ip_address(each["local"]) for each in found.get("addr_info", ()) if "local" in each),
        up="UP" in found.get("flags", ()),
        bridge=found.get("master", "") if info.get("info_slave_kind") == "bridge" else "",
        kind=info.get("info_kind", ""),
        program=f"id {attached.get('id')}" if attached else "",
    )


def read_surroundings(inner_hosts: Iterable[Address] = ()) -> Surroundings:
    """As things are now; of what cannot be seen, nothing."""
    interfaces: tuple[Interface, ...] = ()
    with contextlib.suppress(ValueError):
        interfaces = interfaces_in(json.loads(output("ip", "-j", "-d", "addr") or "[]"))
    forwards = frozenset(version for version, name in FORWARDING.items() if _is_on(name))
    return Surroundings(interfaces, forwards, {address: _way(address) for address in set(inner_hosts)})


def inner_hosts(services: Iterable[Service]) -> frozenset[Address]:
    """Every address that the services name."""
    return frozenset(
        address
        for service in services
        for address in (*service.hosts, *(target.address for target in service.forward_to))
    )


def _is_on(name: str) -> bool:
    with contextlib.suppress(OSError):
        return Path("/proc/sys", name).read_text().strip() not in ("", "0")
    return False


def _way(address: Address) -> str:
    with contextlib.suppress(ValueError, IndexError, KeyError):
        return str(json.loads(output("ip", "-j", "route", "get", str(address)) or "[]")[0]["dev"])
    return ""
