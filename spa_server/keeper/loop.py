"""The keeper's one loop: the network process, root's orders, the kernel's notices, the service manager, signals.

It holds CAP_NET_ADMIN and reads nothing from the network. What is enforced is `standing`'s; how the table is kept up is
`kept`'s. One thread: while a ruleset is loaded no request is answered.
"""

from __future__ import annotations

import contextlib
import logging
import os
import selectors
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from spa_server import notify
from spa_server.config import ConfigError, ServerConfig
from spa_server.enforce.accounts import count
from spa_server.enforce.netlink import KernelError
from spa_server.enforce.nft_program import PerimeterError
from spa_server.enforce.requests import MESSAGE_LARGEST, Answer, Status
from spa_server.enforce.tags import disarm_all
from spa_server.keeper.channel import CONTROL, accept_network_process, bind_channel, has_hung_up
from spa_server.keeper.kept import KeptTable
from spa_server.keeper.orders import bind_orders, refuse_second_keeper, serve_one
from spa_server.keeper.standing import Standing

_log = logging.getLogger("spa.keeper")

LOOK_EVERY_S = 1.0
"""How often what nobody gives notice of is looked at."""
TRY_AGAIN_S = 0.1
LAST_WORDS_S = 5.0
"""How long a network process of this process's own may take to end."""
WARN_AFTER_S = 1.0
"""How long after the start it is looked for what there is to warn of: those who wait for their leases come first."""
TURN_S = 0.05
"""How long one turn serves requests: a network process that asks without end must not keep root's orders waiting."""


class Keeper:
    """The firewall process. Making one puts the perimeter up and binds its sockets; `run` serves.

    With a `channel` it serves the network process at its other end and ends with it; without, it listens for one
    process at a time in the perimeter folder and never ends by itself. `config_path` is the file that a reload reads;
    `config` may be an older good one. `own`: own the table where the kernel can. `stored`: what the service manager
    kept of the process before. `on_hang_up`: done at SIGHUP instead of a reload. Raises PerimeterError, KernelError or
    OSError.
    """

    def __init__(
        self,
        config_path: Path,
        config: ServerConfig,
        *,
        channel: socket.socket | None = None,
        own: bool = True,
        stored: socket.socket | None = None,
        on_hang_up: Callable[[], None] | None = None,
    ) -> None:
        self.is_told_to_stop = False
        self._on_hang_up = on_hang_up
        self._channel = channel
        self._serves_one_only = channel is not None
        self._untold = False
        refuse_second_keeper(config.perimeter_folder / CONTROL)
        self._table = KeptTable(own=own, stored=stored)
        self.standing = Standing(config_path, config, self._table, self._tell_disarmed)
        count()  # or its unit has done it: in a sandbox this process may not
        self._disarm_all()
        self._orders = bind_orders(config.perimeter_folder / CONTROL)
        self._listener = None if self._serves_one_only else bind_channel(config.perimeter_folder, config.user)
        self._watched: socket.socket | None = None
        self._end_s: float | None = None
        self._ended = False
        self._shown = ""
        self._warn_s: float | None = None

    def run(self) -> None:
        """Serve until SIGTERM or SIGINT, or, with a channel given, until its other end is closed.

        The perimeter stays: closed, leases running to their own end, no tag armed.
        """
        with selectors.DefaultSelector() as selector, _signals() as caught:
            self._selector = selector
            self._on_readable(caught, lambda: self._heed(caught))
            self._on_readable(self._orders, self._serve_order)
            self._on_readable(self.standing.firewall.accounts.socket, self.standing.firewall.accounts.take)
            if self._listener is not None:
                self._on_readable(self._listener, self._accept)
            if self._channel is not None:
                self._on_readable(self._channel, self._serve_channel)
            self._watch()
            heartbeat = notify.Heartbeat()
            self._shown = self._said()
            notify.ready(self._shown)
            self._warn_s = time.monotonic() + WARN_AFTER_S
            is_well = True
            while not self._is_over():
                heartbeat.beat()
                for key, _ in selector.select(self._sleep_s(heartbeat, is_well=is_well)):
                    key.data()
                is_well = self.standing.look_after()
                self._watch()
                self._show()
                self._warn()
                if self._untold:
                    self._tell_disarmed()
        self._close()

    def _sleep_s(self, heartbeat: notify.Heartbeat, *, is_well: bool) -> float | None:
        """How long to wait for an occasion; None: as long as it takes."""
        waits = [heartbeat.left_s()]
        if not is_well:
            waits.append(TRY_AGAIN_S)
        elif self.standing.needs_looks or self._untold or self._end_s is not None:
            waits.append(LOOK_EVERY_S)
        if self._warn_s is not None:
            waits.append(max(0.0, self._warn_s - time.monotonic()))
        return min((wait for wait in waits if wait is not None), default=None)

    def _warn(self) -> None:
        """Say what there is to warn of, once, when it is time."""
        if self._warn_s is not None and time.monotonic() >= self._warn_s:
            self._warn_s = None
            self.standing.warn()

    def let_go(self) -> None:
        """Close the sockets and change nothing: what a child process does with its copies of them."""
        for sock in (self._orders, self._listener, self._channel):
            if sock is not None:
                sock.close()
        self.standing.firewall.accounts.close()
        self._table.close()

    def _on_readable(self, sock: socket.socket, call: Callable[[], None]) -> None:
        self._selector.register(sock, selectors.EVENT_READ, call)

    def _watch(self) -> None:
        """Select on others' changes too, once there is something to see them by."""
        if self._table.watched is not self._watched and self._table.watched is not None:
            self._watched = self._table.watched
            self._on_readable(self._watched, lambda: None)  # looked after in every turn

    def _is_over(self) -> bool:
        return self._ended or (self._end_s is not None and time.monotonic() >= self._end_s)

    def _accept(self) -> None:
        if self._listener is None:
            return
        if self._channel is not None and has_hung_up(self._channel):
            self._part()
        user = self.standing.config.user
        connection = accept_network_process(self._listener, user, is_taken=self._channel is not None)
        if connection is not None:
            self._channel = connection
            self._on_readable(connection, self._serve_channel)
            _log.info("the network process has come")

    def _serve_channel(self) -> None:
        channel = self._channel
        end_s = time.monotonic() + TURN_S
        while channel is not None and channel is self._channel and time.monotonic() < end_s:
            try:
                data = channel.recv(MESSAGE_LARGEST, socket.MSG_DONTWAIT)
                if data:
                    # An answer that does not fit is for somebody who reads none.
                    channel.send(self.standing.firewall.answer(data).pack(), socket.MSG_DONTWAIT)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            if not data:
                self._part()

    def _part(self) -> None:
        """The network process has ended."""
        if self._channel is None:
            return
        self._selector.unregister(self._channel)
        self._channel.close()
        self._channel = None
        self._untold = False
        # A tag left alive would let a datagram through to a port where nobody listens: that draws an ICMP error.
        self._disarm_all()
        _log.info("the network process has ended")
        self._ended = self._serves_one_only

    def _disarm_all(self) -> None:
        with contextlib.suppress(KernelError):
            disarm_all(self._table.nft)

    def _tell_disarmed(self) -> None:
        if self._channel is None:
            return
        try:
            self._channel.send(Answer(0, Status.DISARMED).pack(), socket.MSG_DONTWAIT)
            self._untold = False
        except BlockingIOError:
            self._untold = True
        except OSError:
            self._untold = False

    def _serve_order(self) -> None:
        serve_one(self._orders, self.standing, {"pid": os.getpid(), "network_process": self._channel is not None})

    def _show(self) -> None:
        """Let `systemctl status` say how it stands."""
        said = self._said()
        if said != self._shown:
            self._shown = said
            notify.notify(f"STATUS={said}")

    def _heed(self, caught: socket.socket) -> None:
        for number in caught.recv(64):
            if number == signal.SIGHUP:
                self._reload()
            else:
                self._stop()

    def _reload(self) -> None:
        if self._on_hang_up is not None:
            self._on_hang_up()
            return
        notify.reloading()
        try:
            warnings = self.standing.apply()
        except (ConfigError, PerimeterError, KernelError) as error:
            for line in str(error).splitlines():
                _log.error("%s", line)
        else:
            for warning in warnings:
                _log.warning("%s", warning)
        notify.ready(self._said())

    def _stop(self) -> None:
        self.is_told_to_stop = True
        notify.stopping()
        if self._serves_one_only and self._channel is not None and self._end_s is None:
            # The network process sees it, finishes what it does, and closes its own end.
            with contextlib.suppress(OSError):
                self._channel.shutdown(socket.SHUT_WR)
            self._end_s = time.monotonic() + LAST_WORDS_S
        else:
            self._ended = True

    def _said(self) -> str:
        status = self.standing.status()
        if not status["standing"]:
            return "OPEN: root took the perimeter down"
        how = "owned" if status["owned"] else "watched"
        return f"closed ({how}): {', '.join(s.name for s in self.standing.config.services)}"

    def _close(self) -> None:
        self._disarm_all()
        self.let_go()
        _log.info("the firewall process ends; the perimeter stays closed and leases run to their own end")


@contextlib.contextmanager
def _signals() -> Iterator[socket.socket]:
    """A socket from which the numbers of caught signals are read."""
    read, write = socket.socketpair()
    read.setblocking(False)
    write.setblocking(False)
    signal.set_wakeup_fd(write.fileno())
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: None)
    with read, write:
        yield read
    signal.set_wakeup_fd(-1)
