"""Many devices at once, put straight into a server's registry, and many datagrams at once, sent at its pace."""

from __future__ import annotations

import contextlib
import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import islice, product
from pathlib import Path

from spa_client.perimeter import Perimeter
from spa_client.secret_file import make_folder, write_file
from spa_client.slots import SlotBook
from spa_client.storage import KEY_FILE, Store
from spa_protocol.keys import public_key
from spa_protocol.signature import SeedSigner
from spa_protocol.text import TextKind, encode
from spa_server.privilege import acting_as_owner_of
from spa_server.remember.identity import read_identity
from spa_server.remember.registry import Registry
from spa_server.remember.store import open_store
from spa_server.tell import control
from tests.end_to_end.crafting import Keys, now_ms
from tests.end_to_end.running import RunningServer, udp_socket, wait_until
from tests.lab import Address, Host

WINDOW_MS = 60_000
AT_ONCE = 40
"""Datagrams sent before the server is heard from: far fewer than its socket holds."""


def enrol_crowd(server: RunningServer, count: int, prefix: str = "device") -> list[Keys]:
    """So many devices of the role admin, in one import that lets them knock in any window; a running server is told."""
    identity = read_identity(server.folder / "server.key").public
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
        Keys(
            Perimeter("office", hosts, (server.knock_port,), identity, label, SeedSigner(seed), gate_secret),
            SlotBook(None),
        )
        for label, seed, gate_secret in made
    ]


def keep(keys: Keys, folder: Path) -> Store:
    """A client's store that holds the one device, as if it had joined."""
    signer = keys.perimeter.signer
    assert isinstance(signer, SeedSigner)
    store = Store(folder, folder / ".state")
    joining = store.joining_folder("crowd")
    make_folder(joining)
    write_file(joining / KEY_FILE, encode(TextKind.SECRET_KEY, signer.seed) + "\n")
    store.adopt(joining, keys.perimeter)
    return store


Place = tuple[Keys, int, int]
"""A device, a time in whose window it has live tags, and a slot."""


def live_places(crowd: Iterable[Keys], slots: int) -> Iterator[Place]:
    """Every place whose tag is live, once each: of this window, the next and the one before.

    The times are in the middle of their windows, and the windows those of the moment when a place is asked for. The
    server must allow four minutes of skew, so that a place stays live for as long as a test takes.
    """
    members = list(crowd)
    unused: dict[int, Iterator[tuple[Keys, int]]] = {}
    while True:
        present = now_ms() // WINDOW_MS
        for window in (present, present + 1, present - 1):
            places = unused.setdefault(window, product(members, range(slots)))
            if (place := next(places, None)) is not None:
                break
        else:
            return
        yield place[0], window * WINDOW_MS + WINDOW_MS // 2, place[1]


def send_all(server: RunningServer, host: Host, datagrams: Iterable[bytes], to: Address) -> Counter[str]:
    """Send them all, never more than the server's socket holds; what it made of them, by outcome."""
    before, counted, sent = Counter(server.results()), _at_the_gate(server), 0
    with udp_socket(host, to) as sock:
        waiting = iter(datagrams)
        while some := list(islice(waiting, AT_ONCE)):
            for datagram in some:
                sock.sendto(datagram, (str(to), server.knock_port))
            sent += len(some)
            server.status()
    # A busy kernel may put a packet off for a while; then it has not come to the gate when `sendto` returns.
    with contextlib.suppress(AssertionError):
        wait_until(lambda: _at_the_gate(server) >= counted + sent, "all at the gate", patience_s=5)
    return Counter(server.results()) - before


def _at_the_gate(server: RunningServer) -> int:
    """How many datagrams the kernel has judged at the knock port, whichever way."""
    listed = json.loads(server.host.run(["nft", "-j", "list", "counters", "table", "inet", "spa"]).stdout)["nftables"]
    counters = [item["counter"] for item in listed if "counter" in item]
    return sum(each["packets"] for each in counters if each["name"] in ("knock_admitted", "knock_dropped"))
