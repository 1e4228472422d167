"""The network process: reads datagrams from strangers, and can do nothing but ask the firewall process.

It runs as an unprivileged user without any capability. One thread, one selector: the knock sockets, the control socket,
the channel to the firewall process (whose end is this process's end), and a wake-up for signals.
"""

from __future__ import annotations

import contextlib
import logging
import os
import selectors
import signal
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from spa_server.config import ServerConfig
from spa_server.enforce.client import FirewallError, FirewallGone
from spa_server.listen import sockets
from spa_server.listen.clock import Instant, system_clock
from spa_server.listen.firewall_link import FirewallLink
from spa_server.listen.gate import Gate
from spa_server.listen.knocks import Arrival, KnockHandler
from spa_server.listen.membership import Membership
from spa_server.remember.fence import enter_boot, read_boot_id
from spa_server.remember.identity import read_identity
from spa_server.remember.refusals import RefusalRing
from spa_server.remember.registry import Registry
from spa_server.remember.sources import SourcesOfDevices
from spa_server.remember.store import StateError, Store, open_store
from spa_server.remember.used import UsedSlots
from spa_server.tell.control import Answer, ControlListener

log = logging.getLogger("spa.network")

MOST_SLEEP_MS = 5_000
"""The longest sleep: how late a step of the wall clock may be noticed while no knock comes."""
HOUSEKEEPING_MS = 60_000
MOST_USED_SLOTS = 200_000
"""Used slots kept before the oldest windows are retired for good."""


@dataclass(frozen=True, slots=True)
class Inherited:
    """What the network process is given before it gives up its privileges."""

    knock_sockets: tuple[socket.socket, ...]
    control_socket: socket.socket
    channel: socket.socket


class NetworkProcess:
    """Everything between a datagram's arrival and its answer."""

    def __init__(self, config: ServerConfig, inherited: Inherited, clock: Callable[[], Instant] = system_clock) -> None:
        self._clock = clock
        self._inherited = inherited
        now = clock()
        self._started = now
        self._store: Store = open_store(config.state_folder)
        registry = Registry(self._store)
        fenced_at_boot_ms = enter_boot(self._store, read_boot_id(), now.boot_ms)
        self._used = UsedSlots(self._store)
        self._sources = SourcesOfDevices(self._store)
        self._link = link = FirewallLink(inherited.channel, config.services)
        max_skew_ms = config.max_skew_s * 1000
        self._membership = Membership(
            registry,
            Gate(link, slots=config.slots, max_skew_ms=max_skew_ms, used=self._used.of_window),
            fenced_at_boot_ms=fenced_at_boot_ms,
            floor_window=self._used.first_window(),
            max_skew_ms=max_skew_ms,
            now=now,
        )
        self._handler = KnockHandler(
            membership=self._membership,
            services=config.services,
            max_skew_ms=max_skew_ms,
            slots=config.slots,
            replies=config.replies,
            identity=read_identity(config.state_folder),
            used=self._used,
            sources=self._sources,
            ring=RefusalRing(self._store),
            leases=link,
            random_bytes=os.urandom,
        )
        self._control = ControlListener(inherited.control_socket, {"status": self._status, "refresh": self._refresh})
        self._housekept_ms = now.boot_ms
        self._fault = ""

    def run(self) -> None:
        """Serve until SIGTERM or SIGINT, or until the firewall process is gone."""
        wake, wake_write = socket.socketpair()
        wake.setblocking(False)
        wake_write.setblocking(False)
        signal.set_wakeup_fd(wake_write.fileno())
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: None)
        with selectors.DefaultSelector() as selector, self._store:
            for sock in (*self._inherited.knock_sockets, self._inherited.control_socket):
                selector.register(sock, selectors.EVENT_READ)
            selector.register(self._inherited.channel, selectors.EVENT_READ)
            selector.register(wake, selectors.EVENT_READ)
            log.info("ready: %d devices and invites, %d tags armed", len(self._membership.holders), self._armed())
            while True:
                ready = [key.fileobj for key, _ in selector.select(self._sleep_s())]
                if wake in ready or (self._inherited.channel in ready and self._link.has_ended()):
                    break
                self._turn(ready)
            with contextlib.suppress(StateError):
                self._store.checkpoint()
        log.info("the network process ends; the perimeter stays closed and leases run to their own end")

    def _turn(self, ready: Sequence[object]) -> None:
        try:
            self._keep_house()
            self._fault = ""
        except FirewallGone:
            raise
        except (StateError, FirewallError) as error:
            if str(error) != self._fault:
                self._fault = str(error)
                log.error("knocks may be refused until this is mended: %s", error)
        for sock in self._inherited.knock_sockets:
            if sock in ready:
                self._read(sock)
        if self._inherited.control_socket in ready:
            self._control.serve_one()

    def _read(self, sock: socket.socket) -> None:
        for received in sockets.receive(sock):
            arrival = Arrival(received.datagram, received.path, received.source_port, self._clock())
            try:
                reply = self._handler.handle(arrival)
            except Exception:
                # A fault in judging one datagram refuses that one; the others are still to be served.
                log.exception("a datagram from %s could not be judged", received.path.source)
                continue
            if reply is not None:
                sockets.answer(sock, received, reply)

    def _keep_house(self) -> None:
        now = self._clock()
        self._membership.keep_time(now)
        self._membership.catch_up(now)
        if now.boot_ms - self._housekept_ms >= HOUSEKEEPING_MS:
            self._housekept_ms = now.boot_ms
            self._membership.forget_expired(now)
            self._used.prune(max(MOST_USED_SLOTS, 4 * self._armed()))
            self._sources.prune()
            self._store.checkpoint()

    def _sleep_s(self) -> float:
        now_ms = self._clock().wall_ms
        renewal_ms = self._membership.gate.next_renewal_ms(now_ms) - now_ms
        return max(0, min(renewal_ms, MOST_SLEEP_MS)) / 1000

    def _armed(self) -> int:
        return len(self._membership.gate)

    def _refresh(self) -> Answer:
        try:
            self._membership.catch_up(self._clock())
        except (StateError, FirewallError) as error:
            log.error("an edit of the registry could not be taken in: %s", error)
            return {"error": str(error)}
        return {"ok": True}

    def _status(self) -> Answer:
        now = self._clock()
        return {
            "pid": os.getpid(),
            "up_s": (now.boot_ms - self._started.boot_ms) // 1000,
            "holders": len(self._membership.holders),
            "tags_armed": self._armed(),
            "fault": self._fault,
            "results": dict(self._handler.results),
        }
