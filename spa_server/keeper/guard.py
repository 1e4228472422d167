"""`perimeter apply --confirm` where no keeper runs: a process of its own that puts the old state back in time.

It outlives the command and the terminal. It takes the perimeter back unless `perimeter confirm` came, or a lease was
opened, which only a knock does. A keeper that was started meanwhile is told to, where nothing stood before.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import syslog
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn

from spa_server.config import ServerConfig
from spa_server.enforce import perimeter
from spa_server.enforce.leases import list_leases
from spa_server.enforce.netlink import KernelError
from spa_server.enforce.nft_program import PerimeterError, load
from spa_server.enforce.ruleset import TABLE
from spa_server.enforce.table import TableSocket
from spa_server.keeper import owner
from spa_server.keeper.applied import acting_for, clear_unconfirmed
from spa_server.keeper.channel import peer
from spa_server.keeper.orders import bind_orders

GUARD = "guard"
LOOK_EVERY_S = 0.5
LATER_S = 1.0
ANSWER_S = 5.0
CONFIRM, CONFIRMED = b"confirm\n", b"confirmed\n"

_LASTING = re.compile(r"^\tflags[^\n;]*\n+", re.MULTILINE)
"""How nft shows what a keeper's table had beyond others, which nft up to 1.0.6 can neither write out nor load."""

Ends = Mapping[tuple[object, ...], float]


def start(config: ServerConfig, confirm_s: float) -> None:
    """Remember how the perimeter stands now, and put that back in `confirm_s`. To be called before it is changed.

    Raises PerimeterError where something is on trial already.
    """
    if _ask(config.perimeter_folder, b"") is not None:
        raise PerimeterError("a perimeter is on trial already: wait for its end, or: spa-server perimeter confirm")
    old, known = _LASTING.sub("", perimeter.show()), _ends_of_leases()
    listener = bind_orders(config.perimeter_folder / GUARD)
    if os.fork() == 0:
        _guard(config, listener, old, known, time.monotonic() + confirm_s)
    listener.close()


def confirm(folder: Path) -> bool:
    """Tell the guard that all is well; whether one was there."""
    return _ask(folder, CONFIRM) == CONFIRMED


def _ask(folder: Path, said: bytes) -> bytes | None:
    """What the guard answers; None where there is none."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        try:
            connection.settimeout(ANSWER_S)
            connection.connect(str(folder / GUARD))
            connection.sendall(said)
            connection.shutdown(socket.SHUT_WR)
            return connection.recv(len(CONFIRMED))
        except OSError:
            return None


def _guard(config: ServerConfig, listener: socket.socket, old: str, known: Ends, end_s: float) -> NoReturn:
    """The process itself: it waits, and never returns into the command's code."""
    code = 1
    try:
        os.setsid()
        null = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(null, stream)
        if _is_confirmed(listener, known, end_s):
            with acting_for(config.path):
                clear_unconfirmed(config.path)
        else:
            _put_back(config.perimeter_folder, old)
        code = 0
    finally:
        with contextlib.suppress(OSError):
            (config.perimeter_folder / GUARD).unlink()
        os._exit(code)


def _is_confirmed(listener: socket.socket, known: Ends, end_s: float) -> bool:
    while (left_s := end_s - time.monotonic()) > 0:
        listener.settimeout(min(left_s, LOOK_EVERY_S))
        with contextlib.suppress(OSError):
            connection, _ = listener.accept()
            with connection:
                connection.settimeout(LOOK_EVERY_S)
                if peer(connection)[1] == 0 and connection.recv(len(CONFIRM)) == CONFIRM:
                    connection.sendall(CONFIRMED)
                    return True
        if any(end > known.get(lease, 0.0) + LATER_S for lease, end in _ends_of_leases().items()):
            return True
    return False


def _ends_of_leases() -> Ends:
    """When each lease ends, on the monotonic clock: later than before only if it was opened anew."""
    with contextlib.suppress(KernelError), TableSocket(TABLE) as nft:
        now_s = time.monotonic()
        return {
            (each.label, each.source, each.destination, each.protocol, each.port): now_s + each.left_ms / 1000
            for each in list_leases(nft)
        }
    return {}


def _put_back(folder: Path, old: str) -> None:
    syslog.openlog("spa-server", facility=syslog.LOG_DAEMON)
    try:
        syslog.syslog(syslog.LOG_WARNING, "nobody confirmed the perimeter in time: the old state is put back")
        if not old:
            owner.remove(folder)
        else:
            load(f"add table inet {TABLE}\ndelete table inet {TABLE}\n{old}")
    except (PerimeterError, KernelError) as error:
        syslog.syslog(syslog.LOG_ERR, f"the old state could not be put back: {error}")
