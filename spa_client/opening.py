"""Knock until it is open: the knock, and where no answer comes, watching a TCP port open.

What `knock --wait`, `exec` and a pinhole share. It must not know of terminals.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from spa_client.errors import ApprovalNeeded, NeverOpened, NoAnswer, Refused, SlotsUsedUp
from spa_client.exchange import wall_ms
from spa_client.knocking import Opened, OpenService, Request, knock_perimeter
from spa_client.memory import PastRefusal
from spa_client.perimeter import Perimeter
from spa_client.storage import Store
from spa_protocol.body import Address

_APPROVAL_EVERY_S = 15.0
"""How often it is asked whether somebody has approved: over both families that takes half of the usual slots."""
_UNANSWERED_TRIES = 3
"""Knocks at a server that never answers, each followed by its share of the waiting."""


@dataclass(frozen=True, slots=True)
class Wait:
    """Whether and how to watch a TCP port open.

    `port`: which, 0 for the first that the services are known to have. `always`: also after the server confirmed;
    otherwise only where no answer came. `timeout_s`: for how long. `approval`: what to do when somebody has to approve
    first; it is called once, and then it is knocked until that is decided. None does not wait for it.
    """

    port: int = 0
    always: bool = False
    timeout_s: float = 5.0
    approval: Callable[[ApprovalNeeded], None] | None = None


def knock_once(store: Store, perimeter: Perimeter, request: Request) -> Opened:
    """Knock, and keep what the server told of itself."""
    memory = store.memory(perimeter.name, perimeter.slots)
    try:
        opened = knock_perimeter(perimeter, request, memory)
    except Refused as error:
        memory.refusal.write(PastRefusal(wall_ms(), error.sentence))
        _keep(store, perimeter, replace(perimeter, slots=error.slots or perimeter.slots))
        raise
    _keep(store, perimeter, informed(perimeter, opened))
    return opened


def knock_and_leave(store: Store, perimeter: Perimeter, request: Request, wait: Wait | None = None) -> Opened:
    """Knock, and note that what opened is to stay open for its time: whoever holds a lease meanwhile leaves it so.

    With `wait` as `knock_until_open`. Raises as that does.
    """
    if wait is None:
        opened = knock_once(store, perimeter, request)
    else:
        opened = knock_until_open(store, perimeter, request, wait)
    if opened.left_s:
        names = tuple(service.name for service in opened.services)
        store.memory(perimeter.name).holders.left_open(names, time.time() + opened.left_s)
    return opened


def close_once(store: Store, perimeter: Perimeter, opened: Opened) -> tuple[str, ...]:
    """Give back all that is open; the services that were closed. Raises as `close_opened` does."""
    from spa_client.closing import close_opened

    return close_opened(perimeter, opened, store.memory(perimeter.name, perimeter.slots))


def informed(perimeter: Perimeter, opened: Opened) -> Perimeter:
    """The perimeter with what the server told of its services and slots."""
    told = {service.name: service for service in opened.known_services()}
    merged = {service.name: service for service in perimeter.services} | told
    return replace(perimeter, services=tuple(merged.values()), slots=opened.slots or perimeter.slots)


def _keep(store: Store, known: Perimeter, told: Perimeter) -> None:
    if told != known:
        # Only a convenience for the next time.
        with contextlib.suppress(OSError):
            store.save(told)


def knock_until_open(store: Store, perimeter: Perimeter, request: Request, wait: Wait) -> Opened:
    """Knock, and make sure as `wait` says. Raises as `knock_perimeter` does, and NeverOpened."""
    tries = 1 if perimeter.answers else _UNANSWERED_TRIES
    for left in reversed(range(tries)):
        try:
            opened = _knock_until_approved(store, perimeter, request, wait)
        except NoAnswer as error:
            port = wait.port or _known_port(perimeter, request)
            if not port or not error.addresses:
                raise
            from spa_client.waiting import wait_open

            waited = wait_open(error.addresses, port, wait.timeout_s / tries)
            if waited.address is not None:
                return _unconfirmed(perimeter, request, waited.address)
            if not left:
                raise NeverOpened(f"{error.sentence}; and tcp/{port} did not open", error.addresses) from None
        else:
            if wait.always:
                _check_open(perimeter, opened, wait)
            return opened
    raise AssertionError("the last try returns or raises")


def _knock_until_approved(store: Store, perimeter: Perimeter, request: Request, wait: Wait) -> Opened:
    """Knock; where that takes an approval and it is waited for, until somebody has decided on that very request."""
    try:
        return knock_once(store, perimeter, request)
    except ApprovalNeeded as error:
        if wait.approval is None:
            raise
        asked = error
    wait.approval(asked)
    sparing = replace(request, sparing=True)
    pause_s = _APPROVAL_EVERY_S
    while True:
        time.sleep(pause_s)
        pause_s = _APPROVAL_EVERY_S
        try:
            return knock_once(store, perimeter, sparing)
        except SlotsUsedUp as used_up:
            pause_s = max(pause_s, used_up.wait_s)
        except ApprovalNeeded as error:
            if error.about != asked.about:
                was = (
                    f"request {asked.about} at {perimeter.name} was denied, or has expired; to ask again was a new one"
                )
                raise ApprovalNeeded(f"{was}: {error.sentence}", error.refusal, error.about, error.slots) from None
        except NoAnswer:
            # The server may be back before it is approved.
            continue


def _check_open(perimeter: Perimeter, opened: Opened, wait: Wait) -> None:
    port = wait.port or opened.tcp_port
    if not port:
        return
    from spa_client.waiting import wait_open

    waited = wait_open(opened.addresses, port, wait.timeout_s)
    if waited.address is not None:
        return
    places = " and ".join(map(str, opened.addresses))
    reason = (
        "the connection is refused, so nothing listens there"
        if waited.refused
        else "nothing listens there, or another firewall on the server drops it"
        " (on the server: spa-server perimeter show)"
    )
    raise NeverOpened(
        f"granted, but tcp/{port} on {places} did not open within {wait.timeout_s:g} s: {reason}", opened.addresses
    )


def _known_port(perimeter: Perimeter, request: Request) -> int:
    return next((service.tcp_port for service in perimeter.known(request.services) if service.tcp_port), 0)


def _unconfirmed(perimeter: Perimeter, request: Request, address: Address) -> Opened:
    services = tuple(
        OpenService(service.name, 0, service.tcp_port, service.udp_port, (address,))
        for service in perimeter.known(request.services)
    )
    return Opened(perimeter.name, services, (address,), (), confirmed=False)
