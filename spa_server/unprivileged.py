"""`spa-server run` as an unprivileged user: the network process alone, as a service of its own.

The perimeter is another service's (`spa-server perimeter keep`), reached through a socket. This process holds no
capability and cannot change the firewall. When the perimeter's process goes, this one waits for the next; when this one
goes, the service manager starts it again, and the sockets on the knock ports stay open meanwhile.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

from spa_server import notify, privilege
from spa_server.config import ConfigError, ServerConfig
from spa_server.decide.policy import Policy
from spa_server.keeper.applied import read_with_text, save_applied, starting_config
from spa_server.keeper.channel import CHANNEL
from spa_server.kept_policy import keep_policy, starting_policy
from spa_server.listen.knock_port import open_knock_sockets
from spa_server.listen.network import Inherited
from spa_server.remember.identity import identity_path, read_identity
from spa_server.serving import FAULT, serve
from spa_server.tell.control import bind_control, refuse_second_server
from spa_server.tell.metrics_port import bind_metrics

log = logging.getLogger("spa.daemon")

KEEPER_PATIENCE_S = 10.0
_BETWEEN_TRIES_S = 0.05
_CONNECT_S = 1.0


class NotThisUser(Exception):
    """The server cannot be run by this user; the message says by whom."""


class NoPerimeter(Exception):
    """Nobody keeps the perimeter; the message says what to start."""


def run(config_path: Path) -> int:
    """Serve until told to stop; the exit code. Where the configuration is bad, by the last good one until it is mended.

    Raises what keeps it from starting: ConfigError where neither is good, NotThisUser, NoSuchUser, StateError,
    PortTaken, AlreadyRunning, NoPerimeter.
    """
    found = starting_config(config_path)
    config = replace(found, path=config_path)
    policy, policy_is_last_good = starting_policy(config)
    if os.geteuid() != privilege.find_user(config.user).pw_uid:
        raise NotThisUser(f"the server runs as root or, beside a kept perimeter, as user {config.user}")
    identity = read_identity(identity_path(config.path, config.state_folder))
    refuse_second_server(config.control_socket)
    knock_sockets = open_knock_sockets(config.listen, config.knock_ports)
    privilege.give_up_the_rest()
    control_socket = bind_control(config.control_socket)
    metrics_socket = bind_metrics(config.metrics)
    path = config.perimeter_folder / CHANNEL
    channel = reach_perimeter(path)
    inherited = Inherited(
        tuple(knock_sockets),
        control_socket,
        channel,
        identity,
        policy,
        metrics_socket,
        is_last_good=found.path != config_path or policy_is_last_good,
        taken_over=_keep,
        reach=partial(connect, path),
    )
    if not inherited.is_last_good:
        _keep(config, policy)
    return serve(config, inherited, alone=FAULT)


def _keep(config: ServerConfig, policy: Policy) -> None:
    """Have a copy to go by should the file be bad when this process next starts, in the unit's own folder."""
    if os.environ.get("STATE_DIRECTORY"):
        with contextlib.suppress(ConfigError):
            found, text = read_with_text(config.path)
            if found == config:
                save_applied(config.path, text)
        keep_policy(config, policy)


def reach_perimeter(path: Path, patience_s: float = KEEPER_PATIENCE_S) -> socket.socket:
    """A connection to the perimeter's process, which may be starting just now. Raises NoPerimeter."""
    end_s = time.monotonic() + patience_s
    notify.notify("STATUS=waiting for the perimeter")
    while True:
        try:
            return connect(path)
        except OSError as error:
            if time.monotonic() >= end_s:
                raise NoPerimeter(
                    f"nobody keeps the perimeter ({path}: {error.strerror}); start it: systemctl start spa-perimeter, "
                    "or without systemd run the whole server as root"
                ) from error
            time.sleep(_BETWEEN_TRIES_S)


def connect(path: Path) -> socket.socket:
    """A connection to the perimeter's process. Raises OSError where none listens."""
    channel = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        channel.settimeout(_CONNECT_S)  # one that has stopped accepting must not hold this process up
        channel.connect(str(path))
    except OSError:
        channel.close()
        raise
    return channel
