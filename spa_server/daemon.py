"""`spa-server run`: put the perimeter up, bind, split into two processes, and give privileges up.

The calling process becomes the firewall process; its child is the network process. When either ends, so does the other,
and the perimeter stays closed: the kernel keeps the door.
"""

from __future__ import annotations

import contextlib
import logging
import os
import pwd
import signal
import socket
import sys
from typing import NoReturn

from spa_server import privilege
from spa_server.config import ServerConfig
from spa_server.enforce import firewall, obstacles, perimeter
from spa_server.listen import sockets
from spa_server.listen.network import Inherited, NetworkProcess
from spa_server.remember.store import StateError
from spa_server.tell.control import bind_control, refuse_second_server

log = logging.getLogger("spa.daemon")

CHILD_PATIENCE_S = 5
BAD_STATE, FAULT = 5, 7
"""Exit codes, as the command line documents them."""


def run(config: ServerConfig) -> int:
    """Run the server until it is told to stop; the exit code.

    Raises what keeps it from starting: StateError, NoSuchUser, PortTaken, AlreadyRunning, or an error of the perimeter.
    """
    refuse_second_server(config.control_socket)
    knock_sockets = _close_ports_and_bind(config)
    account = privilege.find_user(config.user)
    control_socket = bind_control(config.control_socket)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    child = os.fork()
    if child == 0:
        ours.close()
        _network_process(config, Inherited(tuple(knock_sockets), control_socket, theirs), account)
    theirs.close()
    for sock in (*knock_sockets, control_socket):
        sock.close()
    return _firewall_process(config, ours, child)


def _close_ports_and_bind(config: ServerConfig) -> list[socket.socket]:
    """Put the perimeter up before anything that can fail: a server that cannot start must not leave its ports open.

    With one exception: where another program has the knock port and a perimeter stands, that may be a second server's,
    whose ports this one's rules would open.
    """
    try:
        knock_sockets = sockets.bind_knock_sockets(config.listen, config.knock_port)
    except sockets.PortTaken:
        if not perimeter.standing():
            perimeter.apply(config.knock_port, config.services)
        raise
    warnings = perimeter.apply(config.knock_port, config.services)
    for warning in (*warnings, *obstacles.foreign_obstacles(config.knock_port, config.services)):
        log.warning("%s", warning)
    return knock_sockets


def _network_process(config: ServerConfig, inherited: Inherited, account: pwd.struct_passwd) -> NoReturn:
    """The child: give up everything, then serve. Never returns into the parent's code."""
    code = FAULT
    try:
        privilege.become_unprivileged(account)
        NetworkProcess(config, inherited).run()
        code = 0
    except StateError as error:
        log.error("%s", error)
        code = BAD_STATE
    except BaseException:
        log.exception("the network process failed")
    finally:
        logging.shutdown()
        sys.stderr.flush()
        os._exit(code)


def _firewall_process(config: ServerConfig, channel: socket.socket, child: int) -> int:
    """The parent: serve the child's requests until it ends or this process is told to stop."""
    stopping = False

    def stop(*_: object) -> None:
        nonlocal stopping
        stopping = True
        # The child sees the end of the channel; serving ends when it has closed its own.
        with contextlib.suppress(OSError):
            channel.shutdown(socket.SHUT_WR)
        signal.alarm(CHILD_PATIENCE_S)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    signal.signal(signal.SIGALRM, lambda *_: _give_up(child))
    try:
        privilege.keep_only_net_admin()
        firewall.serve(channel, config.services)
    finally:
        channel.close()
    # The child ends when its channel does.
    signal.alarm(CHILD_PATIENCE_S)
    _, status = os.waitpid(child, 0)
    signal.alarm(0)
    code = os.waitstatus_to_exitcode(status)
    if stopping or code == 0:
        log.info("the firewall process ends")
        return 0
    if code == BAD_STATE:  # the network process has said what is wrong
        return BAD_STATE
    log.error("the network process ended with status %d; the perimeter stays closed", code)
    return FAULT


def _give_up(child: int) -> NoReturn:
    """End although the child does not.

    Without CAP_KILL this process cannot end another user's, nor does a parent-death signal reach it then (seen on Linux
    6.18); systemd kills what is left of a service.
    """
    log.error("the network process does not end and keeps the knock port; end it with: kill -9 %d", child)
    os._exit(FAULT)
