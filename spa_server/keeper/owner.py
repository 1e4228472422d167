"""For root's commands: change the perimeter through whoever owns it, the running keeper, or directly when none runs.

Reading needs none of this: the kernel tells root everything.
"""

from __future__ import annotations

import contextlib
import errno
import json
import socket
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from spa_server.config import ServerConfig
from spa_server.digest import perimeter_digest
from spa_server.enforce import perimeter
from spa_server.enforce.leases import Ended
from spa_server.enforce.leases import revoke as revoke_directly
from spa_server.enforce.netlink import KernelError
from spa_server.enforce.nft_program import PerimeterError
from spa_server.enforce.ruleset import TABLE
from spa_server.enforce.table import OwnedElsewhere, TableSocket
from spa_server.keeper.applied import (
    acting_for,
    clear_unconfirmed,
    mark_unconfirmed,
    read_with_text,
    save_applied,
)
from spa_server.keeper.channel import CONTROL
from spa_server.keeper.orders import ANSWER_LARGEST, ended_from_json, read_line
from spa_server.service import Address

ANSWER_S = 60.0
"""How long the keeper may take: an `apply` runs the nft program twice."""


class NoKeeper(PerimeterError):
    """No keeper listens: nobody owns the table, unless it is one of another configuration."""


def status(folder: Path) -> dict[str, Any]:
    """What the keeper says of itself. Raises NoKeeper."""
    return _order(folder, {"ask": "status"})


def apply(config: ServerConfig, confirm_s: float | None = None) -> tuple[str, ...]:
    """Put the perimeter up from the file of this configuration; what there is to warn of.

    Raises NoKeeper where none runs, PerimeterError where it could not.
    """
    order = {"ask": "apply", "config": str(config.path.absolute()), "confirm_s": confirm_s}
    return tuple(map(str, _order(config.perimeter_folder, order)["warnings"]))


def apply_directly(config: ServerConfig, *, is_on_trial: bool = False) -> tuple[str, ...]:
    """The same without a keeper. What is on trial is not yet the last good configuration.

    Raises ConfigError, PerimeterError (OwnedElsewhere) or KernelError.
    """
    fresh, text = read_with_text(config.path)
    warnings = perimeter.apply(fresh.knock_ports, fresh.services)
    with acting_for(config.path):
        if is_on_trial:
            mark_unconfirmed(config.path, perimeter_digest(fresh.knock_ports, fresh.services))
        else:
            clear_unconfirmed(config.path)
            save_applied(config.path, text)
    return warnings


def remove(folder: Path) -> bool:
    """Take the perimeter down; whether one stood. Raises PerimeterError."""
    try:
        return bool(_order(folder, {"ask": "remove"})["removed"])
    except NoKeeper:
        return perimeter.remove()


def confirm(folder: Path) -> bool:
    """Keep what is on trial; whether anything was. Raises NoKeeper."""
    return bool(_order(folder, {"ask": "confirm"})["confirmed"])


def revoke(folder: Path, *, label: str | None, sources: Collection[Address]) -> Ended:
    """End the leases of a label and of addresses, and the flows they let in; nothing where no perimeter stands."""
    order = {"ask": "revoke", "label": label, "sources": [str(source) for source in sources]}
    try:
        return ended_from_json(_order(folder, order))
    except NoKeeper:
        pass
    except (KeyError, TypeError, ValueError) as error:
        raise PerimeterError(f"the firewall process answered nonsense: {error!r}") from error
    with TableSocket(TABLE) as nft:
        state = nft.state()
        if state is None:
            return Ended((), 0)
        if state.owner_port:
            raise OwnedElsewhere(TABLE)
        try:
            return revoke_directly(nft, label=label, sources=sources)
        except KernelError as error:
            if error.errno == errno.ENOENT:  # taken down meanwhile
                return Ended((), 0)
            raise


def _order(folder: Path, order: Mapping[str, object]) -> dict[str, Any]:
    path = folder / CONTROL
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(ANSWER_S)
        try:
            connection.connect(str(path))
        except (FileNotFoundError, ConnectionRefusedError, NotADirectoryError) as error:
            raise NoKeeper(f"no firewall process answers on {path}") from error
        connection.sendall(json.dumps(order).encode() + b"\n")
        reply = None
        with contextlib.suppress(ValueError):
            reply = json.loads(read_line(connection, ANSWER_S, ANSWER_LARGEST))
    if not isinstance(reply, dict):
        raise PerimeterError(f"the firewall process did not answer on {path}; its log may say why")
    if "error" in reply:
        raise PerimeterError(f"the firewall process says: {reply['error']}")
    return reply
