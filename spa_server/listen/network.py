"""The network process: reads datagrams from strangers, and can do nothing but ask the firewall process.

It runs as an unprivileged user without any capability. One thread, one selector: the knock sockets, the control socket
and its callers, the channel to the firewall process, word of clock steps, and a wake-up for signals. What fails is
tried again, at most a second apart, and nothing is opened meanwhile.
"""

from __future__ import annotations

import contextlib
import logging
import os
import selectors
import signal
import socket
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from enum import Enum, auto

from spa_protocol.keys import sign
from spa_server import notify
from spa_server.config import ServerConfig
from spa_server.decide.policy import Policy
from spa_server.enforce.client import FirewallError, FirewallGone, FirewallSilent
from spa_server.listen import knock_port, sockets
from spa_server.listen.arrival import Arrival
from spa_server.listen.clock import Instant, system_clock
from spa_server.listen.clock_steps import ClockSteps
from spa_server.listen.faults import Faults
from spa_server.listen.firewall_link import FirewallLink
from spa_server.listen.judge import Judge
from spa_server.listen.numbers import numbers
from spa_server.listen.rejoining import Reach, Rejoining
from spa_server.listen.reloading import CannotReload, read_again
from spa_server.remember.identity import ServerIdentity
from spa_server.remember.store import StateError, open_store
from spa_server.tell import event_types, metrics
from spa_server.tell.audit import AuditTrail, NotWritten
from spa_server.tell.control import Answer, ControlListener
from spa_server.tell.events import Event, Outcome, happened
from spa_server.tell.metrics_port import MetricsPort
from spa_server.tell.recorder import Recorder

log = logging.getLogger("spa.network")

MOST_SLEEP_S = 60.0
COUNTS_FRESH_MS = 1_000
"""How old the kernel's counts in a status may be: those who ask often must not keep the kernel busy."""


class Ending(Enum):
    """Why the network process ends."""

    TOLD = auto()
    """By SIGTERM or SIGINT."""
    ALONE = auto()
    """The firewall process is gone, or wants this one to end, and another one cannot come."""


@dataclass(frozen=True, slots=True)
class Inherited:
    """What the network process is given before it gives up its privileges."""

    knock_sockets: tuple[socket.socket, ...]
    control_socket: socket.socket
    channel: socket.socket
    identity: ServerIdentity
    policy: Policy
    metrics_socket: socket.socket | None = None
    is_last_good: bool = False
    """Whether configuration or policy are older ones, because a file is bad now; they are looked at until mended."""
    taken_over: Callable[[ServerConfig, Policy], None] = lambda _config, _policy: None
    """Called with each configuration and policy that is served by."""
    reach: Reach | None = None
    """How to come to the next firewall process; None where this process ends with the one that it has."""


class NetworkProcess:
    """Everything between a datagram's arrival and its answer."""

    def __init__(self, config: ServerConfig, inherited: Inherited, clock: Callable[[], Instant] = system_clock) -> None:
        """Raises StateError and FirewallError."""
        self._clock = clock
        self._config = config
        self._started = now = clock()
        self._heartbeat = notify.Heartbeat()
        self._link = FirewallLink(inherited.channel, config.knock_ports, config.services, self._heartbeat.beat)
        # Both processes have read the same file, unless it was edited in between.
        self._link.reload(config.knock_ports, config.services)
        # That tags were lost before any was armed is no news.
        self._link.take_events()
        self._recorder = Recorder(
            AuditTrail(config.audit_file, largest_bytes=config.audit_file_mib << 20, most_files=config.audit_files),
            signer=lambda message: sign(inherited.identity.seed, message),
            is_required=config.audit_required,
        )
        logging.getLogger().addHandler(self._recorder)
        store = open_store(config.state_folder)
        self._judge = Judge(config, store, self._link, inherited.identity, self._recorder, now, policy=inherited.policy)
        self._selector = selectors.DefaultSelector()
        self._rejoining = Rejoining(self._link, inherited.channel, inherited.reach, self._selector)
        self._port = knock_port.KnockPort(inherited.knock_sockets, self._selector, self._read)
        asked = {"status": self._status, "refresh": self._refresh, "reload": self._reload}
        self._control = ControlListener(inherited.control_socket, self._selector, asked)
        self._metrics: MetricsPort | None = None
        if inherited.metrics_socket is not None:
            self._metrics = MetricsPort(inherited.metrics_socket, self._selector, self._metrics_page)
        self._ending: Ending | None = None
        self._faults = Faults(StateError, FirewallError, CannotReload, sockets.PortTaken, NotWritten)
        self._taken_over = inherited.taken_over
        self._is_unsure = inherited.is_last_good
        # The clock may have been stepped since the gate was armed, before there was anything to hear of it by.
        self._is_due = True
        self._counts: tuple[int, Answer] = (now.boot_ms - COUNTS_FRESH_MS, {})

    def run(self) -> Ending:
        """Serve until SIGTERM or SIGINT, or until the firewall process is gone and no other one can come."""
        wake, wake_write = socket.socketpair()
        wake.setblocking(False)
        wake_write.setblocking(False)
        signal.set_wakeup_fd(wake_write.fileno())
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, lambda *_: None)
        steps = ClockSteps()
        self._selector.register(wake, selectors.EVENT_READ, lambda _wake: self._heed_signals(wake))
        self._selector.register(steps, selectors.EVENT_READ, lambda _steps: self._heed_clock(steps))
        with self._selector, self._judge.store:
            message = f"ready: {self._judge.holders} devices and invites, {self._judge.armed} tags armed"
            happened(log, Event(event_types.STARTED, message, policy_hash=self._judge.policy_hash))
            notify.ready(self._summary())
            while self._ending is None:
                self._turn([key for key, _ in self._selector.select(self._sleep_s())])
                self._heartbeat.beat()
            notify.stopping()
            with contextlib.suppress(StateError):
                self._judge.store.checkpoint()
        message = "the network process ends; the perimeter stays closed and leases run to their own end"
        happened(log, Event(event_types.STOPPED, message, reason=self._ending.name.lower()))
        logging.getLogger().removeHandler(self._recorder)
        self._recorder.close()
        return self._ending

    def _turn(self, waking: list[selectors.SelectorKey]) -> None:
        self._is_due = False
        self._heed_firewall()
        if self._link.is_away:
            self._faults.attempt("firewall process", self._rejoin)
        now = self._clock()
        if not self._link.is_away:
            if self._is_unsure or self._link.is_stale:
                self._faults.attempt("configuration", self._take_over)
            self._faults.attempt("leases in doubt", self._link.close_unconfirmed)
            self._faults.attempt("gate", lambda: self._judge.keep_up(now))
            self._faults.attempt("live sessions", lambda: self._judge.keep_sessions(now))
        self._port.listen(not self._rejoining.holds_knocks)
        self._faults.attempt("state", lambda: self._judge.keep_house(now))
        self._faults.attempt("audit trail", self._recorder.settle)
        for key in waking:
            if any(each is key for each in self._selector.get_map().values()):  # or one that came before has closed it
                key.data(key.fileobj)
        self._control.give_up_late()
        if self._metrics is not None:
            self._metrics.give_up_late()
        # Word may have come with an answer; then the channel has nothing left to wake this process by.
        self._heed_firewall()

    def _heed_firewall(self) -> None:
        try:
            events = self._link.take_events()
        except FirewallError as error:
            log.error("%s", error)
            return
        if events.disarmed:
            log.warning("the perimeter was put up anew; arming the gate again", extra={"event": "perimeter-restored"})
            self._judge.tags_are_gone()
            self._is_due = True
        if events.ended and not self._rejoining.lose():
            self._ending = self._ending or Ending.ALONE

    def _rejoin(self) -> None:
        self._rejoining.join(self._config.knock_ports, self._config.services)
        self._judge.tags_are_gone()

    def _heed_clock(self, steps: ClockSteps) -> None:
        steps.take()
        # It may have been stepped once more since this turn looked at it, and that word is taken, too.
        self._is_due = True

    def _heed_signals(self, wake: socket.socket) -> None:
        numbers = wake.recv(64)
        if signal.SIGTERM in numbers or signal.SIGINT in numbers:
            self._ending = Ending.TOLD
        elif signal.SIGHUP in numbers:
            self._reload()

    def _read(self, sock: socket.socket) -> None:
        for received in sockets.receive(sock):
            arrival = Arrival(received.datagram, received.path, received.source_port, self._clock())
            try:
                reply = self._judge.handle(arrival)
            except Exception:
                # A fault in judging one datagram refuses that one; the others are still to be served.
                log.exception("a datagram from %s could not be judged", received.path.source)
                continue
            if reply is not None:
                sockets.answer(sock, received, reply)
        self._is_due |= self._link.is_stale

    def _sleep_s(self) -> float:
        hang_up_s = self._control.next_deadline_s()
        limits_s = (
            MOST_SLEEP_S,
            self._judge.next_renewal_s(now := self._clock()),
            self._judge.next_look_s(now),
            self._heartbeat.left_s(),
            self._faults.next_try_s(),
            self._rejoining.left_s(),
            self._recorder.left_s(),
            None if hang_up_s is None else hang_up_s - time.monotonic(),
            None if self._metrics is None else self._metrics.left_s(),
            0.0 if self._is_due else None,
        )
        return max(0.0, min(limit_s for limit_s in limits_s if limit_s is not None))

    def _reload(self) -> Answer:
        notify.reloading()
        try:
            self._take_over()
        except (CannotReload, FirewallError, sockets.PortTaken) as error:
            reasons = str(error).splitlines()
            for reason in reasons:
                message = f"not reloaded, everything stays as it was: {reason}"
                happened(log, Event(event_types.RELOAD_REFUSED, message, Outcome.FAILURE, reason=reason))
            return {"error": reasons}
        else:
            self._faults.attempt("configuration", lambda: None)
            message = f"reloaded: {self._summary()}"
            happened(log, Event(event_types.RELOADED, message, policy_hash=self._judge.policy_hash))
            return {"ok": True}
        finally:
            notify.ready(self._summary())

    def _take_over(self) -> None:
        """Go over to the configuration as its file has it now: all of it, or nothing.

        Raises CannotReload, PortTaken and FirewallError. The firewall process goes first; no datagram is judged before
        this one has followed.
        """
        config, policy = read_again(self._config)
        bound = self._port.bind(config.listen, config.knock_ports)
        try:
            self._link.reload(config.knock_ports, config.services)
        except BaseException as error:
            # After silence it may or may not have gone over; it is asked until it says so.
            self._is_unsure |= isinstance(error, FirewallSilent)
            self._port.abandon(bound)
            raise
        self._is_unsure = False
        self._config = config
        self._taken_over(config, policy)
        self._judge.follow(config, policy)
        if self._port.move(bound):
            knock_port.keep(bound)
        # A table that was replaced has no tags: whoever knocks once this is done must find the gate armed.
        self._heed_firewall()
        self._faults.attempt("gate", lambda: self._judge.keep_up(self._clock()))
        # Nobody stays inside whom the new policy shuts out: the reload is done when they are out.
        self._faults.attempt("live sessions", lambda: self._judge.keep_sessions(self._clock()))

    def _refresh(self) -> Answer:
        try:
            self._judge.keep_up(now := self._clock())
            self._judge.live.look_again()
            self._judge.keep_sessions(now)
        except (StateError, FirewallError) as error:
            log.error("an edit of the registry could not be taken in: %s", error)
            return {"error": str(error)}
        return {"ok": True}

    def _status(self) -> Answer:
        now = self._clock()
        if now.boot_ms - self._counts[0] >= COUNTS_FRESH_MS:
            # Its age counts from when it came, or a slow answer would be old at once, and be asked for by each caller.
            counted = self._count()
            self._counts = self._clock().boot_ms, counted
        return {
            "pid": os.getpid(),
            "up_s": (now.boot_ms - self._started.boot_ms) // 1000,
            "holders": self._judge.holders,
            "tags_armed": self._judge.armed,
            "fault": str(self._faults),
            "results": dict(self._judge.results),
            "perimeter": self._counts[1],
        }

    def _metrics_page(self) -> bytes:
        return metrics.page(numbers(self._judge, self._link, self._recorder, self._faults, self._started))

    def _count(self) -> Answer:
        try:
            return asdict(self._link.counts())
        except FirewallGone:
            return {}  # nothing is known of it
        except FirewallError as error:
            return {"error": str(error)}

    def _summary(self) -> str:
        return f"serving {self._judge.holders} devices and invites, {self._judge.armed} tags armed"
