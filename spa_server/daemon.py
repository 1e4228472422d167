"""`spa-server run` as root: put the perimeter up, bind, split into two processes, and give privileges up.

The calling process becomes the firewall process; its child is the network process. When either ends, so does the other,
and the perimeter stays closed: the kernel keeps the door.
"""

from __future__ import annotations

import logging
import os
import pwd
import signal
import socket
import sys
from functools import partial
from typing import NoReturn

from spa_server import notify, privilege
from spa_server.config import ServerConfig
from spa_server.enforce import perimeter
from spa_server.keeper.loop import Keeper
from spa_server.kept_policy import starting_policy
from spa_server.listen import sockets
from spa_server.listen.network import Inherited
from spa_server.remember.identity import ServerIdentity, identity_path, read_identity
from spa_server.remember.witness import make_witness
from spa_server.serving import BAD_STATE, DONE, FAULT, serve
from spa_server.tell.control import bind_control, refuse_second_server, tell
from spa_server.tell.metrics_port import bind_metrics

log = logging.getLogger("spa.daemon")

CHILD_PATIENCE_S = 3
"""For its end after the keeper has given it time for its last words."""


def run(config: ServerConfig) -> int:
    """Run the server until it is told to stop; the exit code.

    Raises what keeps it from starting: ConfigError, StateError, NoSuchUser, PortTaken, AlreadyRunning, or an error of
    the perimeter.
    """
    refuse_second_server(config.control_socket)
    policy, is_last_good = starting_policy(config)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    knock_sockets, keeper = _close_ports_and_bind(config, ours)
    account = privilege.find_user(config.user)
    identity = _identity(config)
    control_socket = bind_control(config.control_socket, account.pw_gid)
    metrics_socket = bind_metrics(config.metrics, account.pw_gid)
    make_witness(config.newest_use_file, account)
    child = os.fork()
    if child == 0:
        keeper.let_go()
        inherited = Inherited(
            tuple(knock_sockets),
            control_socket,
            theirs,
            identity,
            policy,
            metrics_socket,
            is_last_good=is_last_good,
        )
        _network_process(config, inherited, account)
    theirs.close()
    for sock in (*knock_sockets, control_socket, metrics_socket):
        if sock is not None:
            sock.close()
    return _firewall_process(keeper, child)


def _identity(config: ServerConfig) -> ServerIdentity:
    path = identity_path(config.path, config.state_folder)
    with privilege.acting_as_owner_of(path.parent):
        return read_identity(path)


def _close_ports_and_bind(config: ServerConfig, channel: socket.socket) -> tuple[list[socket.socket], Keeper]:
    """Put the perimeter up before anything that can fail: a server that cannot start must not leave its ports open.

    With one exception: where another program has a knock port and a perimeter stands, that may be a second server's,
    whose ports this one's rules would open.
    """
    try:
        knock_sockets = sockets.bind_knock_sockets(config.listen, config.knock_ports)
    except sockets.PortTaken:
        if not perimeter.standing():
            perimeter.apply(config.knock_ports, config.services)
        raise
    hang_up = partial(tell, config.control_socket, "reload")
    return knock_sockets, Keeper(config.path, config, channel=channel, on_hang_up=hang_up)


def _network_process(config: ServerConfig, inherited: Inherited, account: pwd.struct_passwd) -> NoReturn:
    """The child: give up everything, then serve. Never returns into the parent's code."""
    code = FAULT
    try:
        # The service manager, if there is one, watches the parent.
        notify.silence()
        privilege.become_unprivileged(account)
        code = serve(config, inherited, alone=DONE)
    except BaseException:
        log.exception("the network process failed")
    finally:
        logging.shutdown()
        sys.stderr.flush()
        os._exit(code)


def _firewall_process(keeper: Keeper, child: int) -> int:
    """The parent: serve the child's requests until it ends or this process is told to stop."""
    privilege.keep_only_net_admin()
    keeper.run()
    # The channel is closed; the child ends when it sees that.
    signal.signal(signal.SIGALRM, lambda *_: _give_up(child))
    signal.alarm(CHILD_PATIENCE_S)
    _, status = os.waitpid(child, 0)
    signal.alarm(0)
    code = os.waitstatus_to_exitcode(status)
    if keeper.is_told_to_stop or code == DONE:
        log.info("the firewall process ends")
        return DONE
    if code == BAD_STATE:  # the network process has said what is wrong
        return BAD_STATE
    log.error("the network process ended with status %d; the perimeter stays closed", code)
    return FAULT


def _give_up(child: int) -> NoReturn:
    """End although the child does not.

    Without CAP_KILL this process cannot end another user's, nor does a parent-death signal reach it then (seen on Linux
    6.18); systemd kills what is left of a service.
    """
    log.error("the network process does not end and keeps the knock ports; end it with: kill -9 %d", child)
    os._exit(FAULT)
