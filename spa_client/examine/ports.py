"""The services' TCP ports once they are open: does each accept, at each address, and do connections go the knock's way?

It must not know how they were opened.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from spa_client.addresses import address_of, tcp_sockaddr
from spa_client.examine.findings import Finding, Severity
from spa_client.waiting import wait_open
from spa_protocol.body import Address

_AT_ONCE = 16


@dataclass(frozen=True, slots=True)
class Door:
    """A TCP port that a knock opened. `local`: where that knock left from; `source`: for whom it is open."""

    service: str
    server: Address
    port: int
    local: Address
    source: Address


def door_findings(doors: Sequence[Door], timeout_s: float) -> Iterator[Finding]:
    """What came of connecting to each, all at once; every connection is closed again at once."""
    with ThreadPoolExecutor(max_workers=_AT_ONCE) as pool:
        for found in pool.map(lambda door: _try(door, timeout_s), doors):
            yield from found


def _try(door: Door, timeout_s: float) -> tuple[Finding, ...]:
    leaves_from = connecting_from(door.server, door.port)
    elsewhere = () if leaves_from in (None, door.local) else (_other_way(door, leaves_from),)
    waited = wait_open((door.server,), door.port, timeout_s)
    place = f"tcp/{door.port} at {door.server}"
    if waited.address is not None:
        what = f"service {door.service} accepts connections"
        return (*elsewhere, Finding("service", Severity.OK, what, place))
    if waited.refused:
        what = f"service {door.service} is open, but nothing listens there"
        remedy = "start the service on the server, or ask whoever runs it"
        return (*elsewhere, Finding("service-not-listening", Severity.WARNING, what, f"{place} refused", remedy))
    return (*elsewhere, _swallowed(door, place, timeout_s))


def connecting_from(server: Address, port: int) -> Address | None:
    """The address that a connection to that place leaves from; None where none does."""
    family, sockaddr = tcp_sockaddr(server, port)
    try:
        with socket.socket(family, socket.SOCK_STREAM) as attempt:
            attempt.setblocking(False)
            attempt.connect_ex(sockaddr)
            return address_of(attempt.getsockname()[0])
    except OSError:
        return None


def _other_way(door: Door, leaves_from: Address | None) -> Finding:
    return Finding(
        "other-way",
        Severity.WARNING,
        f"connections to {door.server} leave from another address than knocks do (a VPN or a policy route)",
        f"knocks from {door.local}, connections from {leaves_from}",
        f"spa-client knock --source {leaves_from}, if the server sees that address, or mend the routes",
    )


def _swallowed(door: Door, place: str, timeout_s: float) -> Finding:
    translated = door.source != door.local
    reason = (
        f"it is open for {door.source}, and connections probably leave the network from another address (NAT)"
        if translated
        else "another firewall drops connections on the way or on the server, or the service is on a host behind it"
    )
    remedy = (
        f"spa-client knock --source {door.local}, if the server should see that address, or use another network"
        if translated
        else "on the server: spa-server doctor"
    )
    evidence = f"{place} did not accept within {timeout_s:g} s"
    what = f"service {door.service} is granted, but no connection gets through: {reason}"
    return Finding("service-silent", Severity.WARNING, what, evidence, remedy)
