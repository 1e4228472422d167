"""Many devices at once, put straight into a server's registry, and many datagrams at once, sent at its pace."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import islice

from spa_client.perimeter import Perimeter
from spa_client.slots import SlotBook
from spa_protocol.keys import public_key
from spa_server.privilege import acting_as_owner_of
from spa_server.remember.identity import read_identity
from spa_server.remember.registry import Registry
from spa_server.remember.store import open_store
from spa_server.tell import control
from tests.end_to_end.crafting import Keys, now_ms
from tests.end_to_end.running import RunningServer, udp_socket
from tests.lab import Address, Host

WINDOW_MS = 60_000
AT_ONCE = 40
"""Datagrams sent before the server is heard from: far fewer than its socket holds."""


def enrol_crowd(server: RunningServer, count: int, prefix: str = "device") -> list[Keys]:
    """So many devices of the role admin, in one import that lets them knock in any window; a running server is told."""
    with acting_as_owner_of(server.state):
        identity = read_identity(server.state).public
    made = [(f"{prefix}-{number}", os.urandom(32), os.urandom(32)) for number in range(count)]
    records = [
        {
            "label": label,
            "user": "crowd",
            "roles": ["admin"],
            "enabled": True,
            "created_s": 0,
            "credentials": [
                {
                    "public_key": public_key(seed).hex(),
                    "gate_secret": gate_secret.hex(),
                    "created_s": 0,
                    "retires_s": None,
                }
            ],
        }
        for label, seed, gate_secret in made
    ]
    with acting_as_owner_of(server.state), open_store(server.state) as store:
        Registry(store).import_(records, 0)
    if server.process is not None:
        control.ask(server.control_socket, "refresh")
    hosts = (str(server.host.ipv4), str(server.host.ipv6))
    return [
        Keys(Perimeter("office", hosts, server.knock_port, identity, label, seed, gate_secret), SlotBook(None))
        for label, seed, gate_secret in made
    ]


Place = tuple[Keys, int, int]
"""A device, a time in whose window it has live tags, and a slot."""


def live_places(crowd: Iterable[Keys], slots: int) -> Iterator[Place]:
    """Every place whose tag is live, once each: of this window, the next and the one before.

    The times are in the middle of their windows. The server must allow four minutes of skew, so that they stay live
    for as long as a folder of tests takes.
    """
    present = now_ms() // WINDOW_MS
    members = list(crowd)
    for window in (present, present + 1, present - 1):
        for keys in members:
            for slot in range(slots):
                yield keys, window * WINDOW_MS + WINDOW_MS // 2, slot


def send_all(server: RunningServer, host: Host, datagrams: Iterable[bytes], to: Address) -> Counter[str]:
    """Send them all, never more than the server's socket holds; what it made of them, by outcome."""
    before = Counter(server.results())
    with udp_socket(host, to) as sock:
        waiting = iter(datagrams)
        while some := list(islice(waiting, AT_ONCE)):
            for datagram in some:
                sock.sendto(datagram, (str(to), server.knock_port))
            server.status()
    return Counter(server.results()) - before
