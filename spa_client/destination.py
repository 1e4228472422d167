"""Which door a HOST and a PORT mean, as a program such as ssh names them.

It must not know how anything is carried there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_address

from spa_client.addresses import resolve
from spa_client.errors import BadSurroundings, BadUsage
from spa_client.knocking import Opened
from spa_client.perimeter import KnownService, Perimeter
from spa_protocol.body import Address


@dataclass(frozen=True, slots=True)
class Destination:
    """What to open and where to connect.

    `services`: what to knock for. `beyond`: addresses of a host behind the server; none for the server itself.
    """

    services: tuple[str, ...]
    beyond: tuple[Address, ...]
    port: int

    def addresses(self, opened: Opened) -> Sequence[Address]:
        """Where to connect, now that it is open."""
        return self.beyond or opened.addresses


def find_destination(perimeter: Perimeter, host: str, port: int, service: str | None = None) -> Destination:
    """The service that has this port, at the server or at a host behind it. `service`: the caller knows which.

    Raises BadUsage where it is none of what this perimeter is known to protect.
    """
    services = (service,) if service else _services_at(perimeter, port)
    return Destination(services, () if _is_server(perimeter, host) else _beyond(perimeter, host, port), port)


def described(services: Sequence[KnownService]) -> str:
    """The services for people, such as "ssh (tcp/22), web (tcp/8443)"."""
    return ", ".join(f"{service.name} (tcp/{service.tcp_port})" for service in services if service.tcp_port) or "none"


def _services_at(perimeter: Perimeter, port: int) -> tuple[str, ...]:
    if not perimeter.services:
        # The server has told of none, so whatever this device may open has to do.
        return ()
    for service in perimeter.services:
        if service.tcp_port == port:
            return (service.name,)
    raise BadUsage(
        f"{perimeter.name} is not known to have a service at tcp/{port}, but {described(perimeter.services)}; if one of"
        f" them has this port too, name it with --service; spa-client knock {perimeter.name} asks the server anew"
    )


def _is_server(perimeter: Perimeter, host: str) -> bool:
    return _plain(host) in {_plain(known) for known in (perimeter.name, *perimeter.hosts)}


def _plain(host: str) -> str:
    bare = host.strip("[]").rstrip(".").lower()
    try:
        return str(ip_address(bare))
    except ValueError:
        return bare


def _beyond(perimeter: Perimeter, host: str, port: int) -> tuple[Address, ...]:
    try:
        return tuple(target.address for target in resolve((host.strip("[]"),), port))
    except BadSurroundings:
        raise BadUsage(
            f"{host} is not the server of {perimeter.name} ({', '.join(perimeter.hosts)}), and no host of that name is"
            f" known: say {perimeter.hosts[0]}, or the name or address of a host behind it"
        ) from None
