"""What is enforced now, and every way in which that changes: reload, root's orders, a trial that ends.

It must not know of sockets and signals: `loop` brings requests here and tells the network process what came of it.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Collection, Iterable
from pathlib import Path

from spa_server.config import ConfigError, ServerConfig
from spa_server.digest import perimeter_digest
from spa_server.enforce import perimeter
from spa_server.enforce.carried import is_served
from spa_server.enforce.firewall import Enforced, Firewall
from spa_server.enforce.flows import Target, end_flows
from spa_server.enforce.leases import Ended, Lease, list_leases, revoke
from spa_server.enforce.netlink import KernelError
from spa_server.enforce.nft_program import PerimeterError
from spa_server.enforce.requests import Status
from spa_server.keeper.applied import (
    clear_unconfirmed,
    mark_unconfirmed,
    read_with_text,
    save_applied,
    unconfirmed,
)
from spa_server.keeper.closed import save_closed
from spa_server.keeper.kept import KeptTable
from spa_server.keeper.trial import Trial
from spa_server.seldom import Seldom
from spa_server.service import Address

_log = logging.getLogger("spa.keeper")

CONFIGURATIONS_KNOWN = 8


class Standing:
    """The perimeter as it is kept up now, from which configuration, and on trial or not."""

    def __init__(
        self, config_path: Path, config: ServerConfig, table: KeptTable, tell_disarmed: Callable[[], None]
    ) -> None:
        """Puts the perimeter up. Raises PerimeterError or KernelError when it cannot be."""
        self.config = config
        self.is_removed = False
        self.trial: Trial | None = None
        self._fault = ""
        self._amiss = Seldom(_log)
        self._taken_back = unconfirmed(config_path)
        self.path = config_path
        self._table = table
        self._tell_disarmed = tell_disarmed
        self._names: dict[bytes, tuple[str, ...]] = {}
        self.firewall = Firewall(table.nft, self._enforced(config), self.reload, self._opened)
        self._enforce(config)
        save_closed(config.knock_ports, config.services)
        if config.path == config_path:
            self._save()

    def warn(self) -> None:
        """Log what there is to warn of."""
        for warning in self._warnings():
            _log.warning("%s", warning)

    def reload(self, digest: bytes) -> Status:
        """Work from the configuration file anew, if it is the one that the network process has read."""
        try:
            config, text = read_with_text(self.path)
        except ConfigError as error:
            self._amiss.error("; ".join(str(error).splitlines()))
            # The network process goes by the last good one, too, until the file is mended.
            return Status.DONE if digest == self.firewall.enforced.digest else Status.FAILED
        fresh = perimeter_digest(config.knock_ports, config.services)
        if fresh != digest:
            self._amiss.warn(f"the network process has read another {self.path} than stands there now")
            return Status.STALE
        if self.trial is None and fresh == self._taken_back:
            self._amiss.warn(f"{self.path} was on trial and was taken back; to apply it: spa-server perimeter apply")
            self._know(fresh, config)
            return Status.DONE
        if fresh != self.firewall.enforced.digest and not self.is_removed:
            try:
                self._enforce(config)
            except (PerimeterError, KernelError) as error:
                self._amiss.error(f"the perimeter stays as it was: {error}")
                return Status.FAILED
            _log.info(
                "the perimeter was brought to the new configuration; live leases stay",
                extra={"event": "perimeter-applied"},
            )
        self.config = config
        self.firewall.enforced = self._enforced(config)
        if self.trial is None and not self.is_removed:
            self._is_good(text)
        return Status.DONE

    def apply(self, confirm_s: float | None = None) -> tuple[str, ...]:
        """Put the perimeter up from the configuration file; what there is to warn of.

        With `confirm_s` it is taken back after so many seconds unless a lease is opened or `confirm` comes. Raises
        ConfigError, PerimeterError or KernelError; then all is as it was.
        """
        config, text = read_with_text(self.path)
        previous = self.trial.previous if self.trial else None if self.is_removed else self.config
        self._enforce(config)
        self.is_removed = False
        self.trial = Trial(previous, _boot_s() + confirm_s) if confirm_s else None
        self._taken_back = b""
        clear_unconfirmed(self.path)
        if confirm_s:
            mark_unconfirmed(self.path, self.firewall.enforced.digest)
            _log.warning("on trial: the old state is put back in %.0f s unless a knock succeeds", confirm_s)
        else:
            self._is_good(text)
        return self._warnings()

    def remove(self) -> bool:
        """Take the perimeter down on purpose: it stays down until `apply`, or until this process starts again."""
        stood = self._table.take_down()
        self.is_removed, self.trial = True, None
        _log.warning(
            "root took the perimeter down: every service is as open as the rest of the firewall leaves it",
            extra={"event": "perimeter-removed"},
        )
        return stood

    def revoke(self, label: str | None, sources: Collection[Address]) -> Ended:
        """End the leases of a label and of addresses, flows included."""
        if self.is_removed:
            return Ended((), 0)
        return revoke(self.firewall.nft, label=label, sources=sources, claims=self.firewall.claims)

    def confirm(self) -> bool:
        """End a trial: what stands stays. Whether there was one."""
        if self.trial is None:
            return False
        self.trial = None
        clear_unconfirmed(self.path)
        _log.info("confirmed: the perimeter stays as it is")
        self._save()
        return True

    @property
    def needs_looks(self) -> bool:
        """Whether something can come about of which nobody gives notice."""
        return self.trial is not None or not (self._table.is_owned or self.is_removed)

    def look_after(self) -> bool:
        """Take back what is on trial when its time is over, and undo what others did to the table.

        Whether all is as it should be; otherwise it is to be tried again soon.
        """
        try:
            if self.trial and self.trial.is_over(_boot_s()):
                self._take_back(self.trial)
            if self._table.see_to_it():
                self._has_new_table()
        except (PerimeterError, KernelError) as error:
            if str(error) != self._fault:
                self._fault = str(error)
                _log.error("the perimeter is not as it should be, and is tried again and again: %s", error)
            return False
        self._fault = ""
        return True

    def status(self) -> dict[str, object]:
        """For `status` and for people."""
        return {
            "standing": not self.is_removed,
            "owned": self._table.is_owned,
            "services": [service.name for service in self.config.services],
            "knock_ports": self.config.knock_ports,
            "config": str(self.config.path),
            "confirm_left_s": round(self.trial.left_s(_boot_s()), 1) if self.trial else None,
        }

    def _opened(self) -> None:
        if self.trial is not None:
            _log.info("a knock opened a lease: whoever sent it can get in")
            self.confirm()

    def _take_back(self, trial: Trial) -> None:
        _log.warning("nobody confirmed in time: the old state is put back")
        self._taken_back = self.firewall.enforced.digest
        if trial.previous is None:
            self.remove()
        else:
            self._enforce(trial.previous)
        self.trial = None

    def _enforce(self, config: ServerConfig) -> None:
        leases = self._leases()
        tags_live = self._table.put_up(config.knock_ports, config.services)
        self.config = config
        self.firewall.enforced = self._enforced(config)
        if tags_live:
            self.firewall.nft = self._table.nft
        else:
            self._has_new_table()
        self._end_sessions(lease for lease in leases if not is_served(lease, config.services))

    def _leases(self) -> tuple[Lease, ...]:
        with contextlib.suppress(KernelError):  # there is no table yet
            return list_leases(self._table.nft)
        return ()

    def _end_sessions(self, leases: Iterable[Lease]) -> None:
        """End what is open by leases that are no more: without the service's rules its packets would pass."""
        targets = {Target(lease.source, lease.destination, lease.protocol, lease.port) for lease in leases}
        try:
            ended = end_flows(targets) if targets else 0
        except (KernelError, OSError) as error:
            _log.error("sessions of services that are gone could not be ended: %s", error)
        else:
            if ended:
                _log.info("%d sessions of services that are gone were ended", ended)

    def _has_new_table(self) -> None:
        self.firewall.nft = self._table.nft
        self._tell_disarmed()

    def _enforced(self, config: ServerConfig) -> Enforced:
        digest = perimeter_digest(config.knock_ports, config.services)
        self._know(digest, config)
        return Enforced(digest, config.services, self._names)

    def _know(self, digest: bytes, config: ServerConfig) -> None:
        """Understand requests by that configuration, too."""
        self._names.pop(digest, None)
        self._names[digest] = tuple(service.name for service in config.services)
        for old in list(self._names)[:-CONFIGURATIONS_KNOWN]:
            del self._names[old]

    def _save(self) -> None:
        try:
            config, text = read_with_text(self.path)
        except ConfigError:
            return
        if config == self.config:
            self._is_good(text)

    def _is_good(self, text: bytes) -> None:
        """Go by what is enforced now should the next start find no good file, or should there be no next start."""
        save_applied(self.path, text)
        save_closed(self.config.knock_ports, self.config.services)

    def _warnings(self) -> tuple[str, ...]:
        from spa_server.examine import obstacles  # not before the perimeter stands: it takes its time to import

        services = self.config.services
        try:
            found = obstacles.foreign_obstacles(self.config.knock_ports, services)
        except Exception as error:
            # What others put into the kernel, and how nft shows it, must not keep anything from being served.
            _log.warning("other tables could not be looked through for what they drop: %s", error)
            found = ()
        return (*perimeter.forwarding_warnings(services), *found)


def _boot_s() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)
