"""The client from Python: one call to knock, one block that keeps a door open while it runs.

`spa_client` itself names these without loading them, so that importing it costs nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from spa_client.holding import Holding
from spa_client.knocking import DEFAULT_TIMEOUT_S, Opened, Request
from spa_client.opening import Wait, knock_and_leave
from spa_client.second_factor import CodeSource, code_source
from spa_client.storage import Store
from spa_protocol.body import Address


@dataclass(frozen=True, slots=True)
class Pinhole:
    """An open door.

    `host`: the server's name as joined. `port`: the TCP port of the first service opened, or 0. `addresses`: the
    server's addresses where it is open; connect to one of these, for a name may lead elsewhere. `opened`: all of what
    the first knock opened.
    """

    host: str
    port: int
    addresses: tuple[Address, ...]
    opened: Opened

    @property
    def address(self) -> tuple[str, int]:
        """What `socket.create_connection` takes."""
        return str(self.addresses[0]), self.port


def knock(
    name: str | None = None,
    *services: str,
    lease_s: int = 0,
    source: str | None = None,
    timeout_s: float = DEFAULT_TIMEOUT_S,
    code: str | CodeSource | None = None,
    store: Store | None = None,
) -> Opened:
    """Knock at a perimeter, and return what opened.

    `name` may be left out for the default perimeter; no services means all that this device may open. `lease_s`: 0
    for each service's default. `source`: "seen", "local" or an address; None for the perimeter's setting. `timeout_s`:
    how long to wait for the answer. `code`: a one-time code, or what is called for one, when the server asks for a
    second factor; it is sent then and only once. Raises a subclass of SpaError, or OSError.
    """
    store = store or Store.default()
    return knock_and_leave(
        store, store.load(name), Request(services, lease_s, source, timeout_s, code=code_source(code))
    )


@contextmanager
def pinhole(
    name: str | None = None,
    *services: str,
    lease_s: int = 0,
    source: str | None = None,
    timeout_s: float = DEFAULT_TIMEOUT_S,
    code: str | CodeSource | None = None,
    port: int = 0,
    wait: bool = False,
    store: Store | None = None,
) -> Iterator[Pinhole]:
    """Open, keep open while the block runs, give back afterwards.

        with spa_client.pinhole("office", "web") as door:
            connection = socket.create_connection(door.address)

    The arguments of `knock`, and: `port`, the TCP port meant where the service has several; `wait`, to make sure that
    the port accepts, which costs one connection. Where the server gives no answer that is done in any case.
    Raises a subclass of SpaError, or OSError.
    """
    store = store or Store.default()
    perimeter = store.load(name)
    request = Request(services, lease_s, source, timeout_s, code=code_source(code))
    with Holding(store, perimeter, request, wait=Wait(port=port, always=wait)) as held:
        opened = held.opened
        yield Pinhole(perimeter.hosts[0], port or opened.tcp_port, opened.addresses, opened)
