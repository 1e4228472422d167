"""The table that is kept up: owned where the kernel can, otherwise watched, and put up again when others change it.

It must not know of sockets to other processes, nor of configuration files.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import time
from collections.abc import Mapping, Sequence

from spa_server import notify
from spa_server.enforce import owned, perimeter
from spa_server.enforce.netlink import KernelError
from spa_server.enforce.nftset import Add, Delete, Element, Operation
from spa_server.enforce.ruleset import TABLE, rules_in, ruleset
from spa_server.enforce.shut import nothing_comes_in
from spa_server.enforce.table import NotOwnable, TableSocket
from spa_server.enforce.watch import Seen, Watcher
from spa_server.seldom import Seldom
from spa_server.service import Service

_log = logging.getLogger("spa.keeper")

STORED_AS = "table"
"""The owning socket's name in the service manager's store: it owns the table while this process is restarted."""
LOOK_EVERY_S = 0.9
"""How often the table is looked at without any occasion: a little less than `loop` turns."""


class KeptTable:
    """The perimeter in the kernel, and the one socket through which this process changes it."""

    def __init__(self, *, own: bool, stored: socket.socket | None = None) -> None:
        """`own`: own the table where the kernel can; `stored`: the socket that owned it for the process before."""
        self.is_owned = False
        self._own = own
        self.nft = TableSocket(TABLE, existing=stored) if stored else TableSocket(TABLE)
        self._watcher: Watcher | None = None
        self._wanted: tuple[tuple[int, ...], tuple[Service, ...]] | None = None
        self._rules: Mapping[str, int] = {}
        self._looked_s = 0.0
        self._tampered = Seldom(_log)

    @property
    def watched(self) -> socket.socket | None:
        """The socket to select on: others' changes are seen there."""
        return self._watcher.socket if self._watcher else None

    def put_up(self, knock_ports: Sequence[int], services: Sequence[Service]) -> bool:
        """Bring the perimeter to this; whether armed tags lived through it. Leases do. Raises PerimeterError."""
        tags_live = False
        if self._own:
            try:
                self._take(owned.put_up(knock_ports, services, self.nft))
            except NotOwnable:
                _log.warning("this kernel (before Linux 6.9) has no tables that only their owner can change")
                _log.warning("so the perimeter is watched, and put up again when others change it")
                self._own = False
        if not self._own:
            tags_live = self._put_up_unowned(knock_ports, services)
        self._wanted = tuple(knock_ports), tuple(services)
        self._rules = rules_in(ruleset(knock_ports, services))
        return tags_live

    def take_down(self) -> bool:
        """Remove the perimeter on purpose; whether one stood. It is not put up again until `put_up`."""
        self._wanted = None
        stood = self.nft.delete()
        stood = perimeter.remove() or stood
        if self._watcher:
            self._watcher.discard()
        return stood

    def see_to_it(self) -> bool:
        """Undo what others did, if anything; whether the perimeter had to be put up again (armed tags are gone then).

        Raises PerimeterError or KernelError when it could not be; to be tried again.
        """
        seen = self._watcher.take(self.nft.netlink.port) if self._watcher else Seen()
        if self._wanted is None:
            return False
        knock_ports, services = self._wanted
        begun_s = time.monotonic()
        # Asking the kernel after every lease would double what one costs.
        is_due = seen.lost or begun_s - self._looked_s >= LOOK_EVERY_S
        if is_due:
            self._looked_s = begun_s
        if self.is_owned:
            if not is_due or self.nft.owns():
                return False
            self._looked_s = 0.0  # should this fail, the next look is not to wait
            self.put_up(knock_ports, services)
            self._say("the perimeter's table was gone")
        elif seen.removed or seen.changed or (is_due and self.nft.rules() != self._rules):
            self._looked_s = 0.0
            with nothing_comes_in():
                self._say(f"the perimeter was {'removed' if seen.removed else 'changed'}{_by(seen)}")
                perimeter.apply_anew(knock_ports, services)
            self._forget_own()
        else:
            self._undo_elements(seen)
            return False
        self._looked_s = time.monotonic()
        took_ms = (self._looked_s - begun_s) * 1000
        _log.warning("the perimeter was put up again in %.0f ms", took_ms, extra={"event": "perimeter-restored"})
        return True

    def close(self) -> None:
        self.nft.close()
        if self._watcher:
            self._watcher.close()

    def _take(self, owner: TableSocket) -> None:
        former, self.nft = self.nft, owner
        former.close()
        self.is_owned = True
        notify.unstore(STORED_AS)
        notify.store(STORED_AS, [owner.netlink.socket])

    def _put_up_unowned(self, knock_ports: Sequence[int], services: Sequence[Service]) -> bool:
        if self._watcher is None:
            self._watcher = Watcher(TABLE)
            perimeter.apply_anew(knock_ports, services)
            self._forget_own()
            return False
        perimeter.apply(knock_ports, services)
        self._forget_own()
        return True

    def _forget_own(self) -> None:
        """What nft did for this process is seen as anybody else's; what came between is looked for afterwards."""
        if self._watcher:
            self._watcher.discard()

    def _undo_elements(self, seen: Seen) -> None:
        if seen.elements:
            undone: list[Operation] = [Add(name, Element(key, timeout_ms=1000)) for name, key in seen.elements]
            undone += [Delete(name, key) for name, key in seen.elements]
            with contextlib.suppress(KernelError):  # the set is gone, which the next look finds
                self.nft.commit(undone)
            self._say(f"{len(seen.elements)} leases or tags were put in by hand{_by(seen)} and taken out again")
        elif seen.taken_out:
            self._say(f"leases or tags were taken out by hand{_by(seen)}")

    def _say(self, line: str) -> None:
        self._tampered.warn(line, {"event": "perimeter-tampered"})


def _by(seen: Seen) -> str:
    return f" by {seen.who}" if seen.who else ""
