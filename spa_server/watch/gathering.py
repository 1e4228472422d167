"""Where the live view's values come from: the running server, the kernel, the registry and the trail.

Each is looked at as far as whoever looks may see it. It asks the server for its status and nothing else, and reads the
rest where every command of root's reads it. What cannot be had is said in the snapshot, and is no reason to stop
looking.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import cast

from spa_protocol.refusal import Refusal
from spa_server.config import ServerConfig
from spa_server.enforce.leases import list_leases
from spa_server.enforce.netlink import KernelError
from spa_server.enforce.nft_program import PerimeterError
from spa_server.enforce.nftset import NftSocket
from spa_server.keeper import owner
from spa_server.privilege import acting_as_owner_of
from spa_server.remember.refusals import RefusalRing
from spa_server.remember.registry import Registry
from spa_server.remember.store import StateError, Store, open_store
from spa_server.tell.control import NotRunning, ask
from spa_server.watch.newest import Newest
from spa_server.watch.snapshot import Counted, Inside, Snapshot, Turned

MOST_REFUSALS = 50
OPEN_AGAIN_S = 30.0
"""How long the state file is kept open: one that root puts in its place is seen then."""
STATUS_S = 5.0
BUSY_MS = 500
GATE = ""
"""The name of the gate among the doors: no service has it."""
FOR_ROOT = "who is inside, and the refusals: for root (sudo spa-server status --watch)"


class Gathering:
    """All sources of the view of one server. Not for threads."""

    def __init__(self, config: ServerConfig) -> None:
        self._config = config
        self._is_root = os.geteuid() == 0
        self._newest = Newest(config.audit_file)
        self._open = ExitStack()
        self._store: Store | None = None
        self._opened_s = -OPEN_AGAIN_S
        self._users: dict[str, str] = {}

    def close(self) -> None:
        """Close what is open."""
        self._newest.close()
        with acting_as_owner_of(self._config.state_folder):
            self._open.close()

    def look(self) -> Snapshot:
        """How it is now."""
        missing: list[str] = []
        server = self._server()
        kernel = cast("dict[str, object]", server.get("perimeter") or {})
        faults = [str(server["fault"])] if server.get("fault") else []
        if "error" in kernel:
            faults.append(str(kernel["error"]))
        inside: tuple[Inside, ...] | None = None
        refusals: tuple[Turned, ...] | None = None
        if self._is_root:
            refusals = self._refusals(missing)
            self._read_trail(missing)
            inside = self._inside(missing)
        else:
            missing.append(FOR_ROOT)
        return Snapshot(
            time_ms=time.time_ns() // 1_000_000,
            monotonic_s=time.monotonic(),
            perimeter=self._stands(kernel),
            is_running=bool(server),
            up_s=_whole(server.get("up_s")),
            processes=tuple(self._processes(server)),
            holders=_whole(server.get("holders")),
            tags_armed=_whole(server.get("tags_armed")),
            faults=tuple(faults),
            results=cast("Mapping[str, int]", server.get("results") or {}),
            doors=_doors(kernel),
            inside=inside,
            refusals=refusals,
            missing=tuple(missing),
        )

    def _server(self) -> dict[str, object]:
        with suppress(NotRunning):
            return ask(self._config.control_socket, "status", STATUS_S)
        return {}

    def _stands(self, kernel: Mapping[str, object]) -> bool | None:
        if kernel:
            return "error" not in kernel
        if not self._is_root:
            return None
        from spa_server.enforce import perimeter  # it runs the nft program: only where no server can be asked

        with suppress(PerimeterError, KernelError):
            return perimeter.standing(self._config.services)
        return None

    def _processes(self, server: Mapping[str, object]) -> list[str]:
        found = [f"network process {server['pid']}"] if server else []
        if self._is_root:
            try:
                found.append(f"firewall process {owner.status(self._config.perimeter_folder)['pid']}")
            except (PerimeterError, OSError, KeyError):
                found.append("no firewall process")
        return found

    def _inside(self, missing: list[str]) -> tuple[Inside, ...] | None:
        try:
            with NftSocket() as nft:
                leases = list_leases(nft)
        except OSError as error:
            if error.errno == errno.ENOENT:  # no perimeter stands, so there is nothing to be inside by
                return ()
            missing.append(f"who is inside: {error}")
            return None
        left: dict[tuple[str, str, str], int] = {}
        for lease in leases:
            key = (lease.label, lease.service, str(lease.source))
            left[key] = max(left.get(key, 0), lease.left_ms)
        return tuple(self._known(*key, left_ms) for key, left_ms in sorted(left.items()))

    def _known(self, whose: str, service: str, source: str, left_ms: int) -> Inside:
        device, _, delegate = whose.partition("+")
        stay = self._newest.stay(whose, service, source)
        user = self._users.get(device, "") or (stay.user if stay else "")
        if stay is None:
            return Inside(device, delegate, user, service, source, left_ms)
        return Inside(device, delegate, user, service, source, left_ms, stay.since_ms, stay.is_older, stay.risk)

    def _refusals(self, missing: list[str]) -> tuple[Turned, ...] | None:
        try:
            with acting_as_owner_of(self._config.state_folder):
                store = self._state()
                self._users = {device.label: device.user for device in Registry(store).devices()}
                recent = RefusalRing(store).recent(limit=MOST_REFUSALS)
        except (StateError, OSError) as error:
            self._opened_s = -OPEN_AGAIN_S
            missing.append(f"the refusals: {error}")
            return None
        return tuple(
            Turned(each.time_ms, each.label or "-", str(each.source), _sentence(each.reason, each.about, each.skew_ms))
            for each in recent
        )

    def _state(self) -> Store:
        now_s = time.monotonic()
        if self._store is None or now_s - self._opened_s >= OPEN_AGAIN_S:
            self._store = None
            self._open.close()
            self._store = self._open.enter_context(open_store(self._config.state_folder, busy_ms=BUSY_MS))
            self._opened_s = now_s
        return self._store

    def _read_trail(self, missing: list[str]) -> None:
        try:
            with acting_as_owner_of(self._config.audit_file.parent):
                self._newest.look()
        except OSError as error:
            missing.append(f"since when, and the risk: {Path(self._config.audit_file).name}: {error.strerror}")


def _doors(kernel: Mapping[str, object]) -> tuple[Counted, ...]:
    services = kernel.get("services")
    if not isinstance(services, dict):
        return ()
    doors = [Counted(GATE, _whole(kernel.get("knocks_admitted")), _whole(kernel.get("knocks_dropped")))]
    for name, counts in services.items():
        if isinstance(counts, dict):
            doors.append(Counted(str(name), _whole(counts.get("admitted")), _whole(counts.get("dropped"))))
    return tuple(doors)


def _sentence(reason: str, about: str, skew_ms: int) -> str:
    try:
        return Refusal[reason].sentence(about, skew_ms)
    except KeyError:
        return reason


def _whole(value: object) -> int:
    return value if isinstance(value, int) else 0
