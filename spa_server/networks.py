"""Networks as operators write them, and what is known of an address by the networks that it is in.

It must not know what is kept of a network, nor what for.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Network
from typing import Generic, TypeVar

from spa_server.service import Address
from spa_server.toml_table import Bad

Network = IPv4Network | IPv6Network
Kept = TypeVar("Kept")


def network(value: object) -> Network:
    """A network such as "192.0.2.0/24", or an address for itself alone. Raises Bad."""
    what = 'a network such as "192.0.2.0/24" or "2001:db8::/32", or an address'
    if not isinstance(value, str):
        raise Bad(what)
    try:
        found = ipaddress.ip_network(value, strict=False)
    except ValueError:
        raise Bad(what) from None
    if isinstance(found, IPv6Network) and found.network_address.scope_id is not None:
        raise Bad(f"{what}, without a zone (%...)")
    if isinstance(found, IPv6Network) and found.prefixlen >= 96 and found.network_address.ipv4_mapped is not None:
        raise Bad(f"{what}; write an IPv4 address as one")
    if ipaddress.ip_address(value.partition("/")[0]) != found.network_address:
        raise Bad(f"{what}; write this one as {found}")
    return found


class NetworkMap(Generic[Kept]):
    """Something kept of each of many networks, found by an address: that of the smallest network around it."""

    def __init__(self, items: Iterable[tuple[Network, Kept]] = ()) -> None:
        """Of two of the same network the latter stays."""
        self._lengths: dict[int, list[int]] = {4: [], 6: []}
        self._kept: dict[tuple[int, int], dict[int, Kept]] = {}
        for each, kept in items:
            self._kept.setdefault((each.version, each.prefixlen), {})[int(each.network_address)] = kept
        for version, length in self._kept:
            self._lengths[version].append(length)
        for lengths in self._lengths.values():
            lengths.sort(reverse=True)

    def __len__(self) -> int:
        return sum(map(len, self._kept.values()))

    def get(self, address: Address) -> Kept | None:
        """What is kept of the smallest network that the address is in, if it is in any."""
        number = int(address)
        for length in self._lengths[address.version]:
            shift = address.max_prefixlen - length
            found = self._kept[address.version, length].get(number >> shift << shift)
            if found is not None:
                return found
        return None
