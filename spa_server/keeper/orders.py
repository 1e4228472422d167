"""Root's orders to the keeper, and its answers: one line of JSON each, over a Unix socket that root alone may use.

    {"ask": "status"}
    {"ask": "apply", "config": PATH, "confirm_s": SECONDS or null}
    {"ask": "remove"}
    {"ask": "revoke", "label": LABEL or null, "sources": [ADDRESS, ...]}
    {"ask": "confirm"}

An answer is an object; {"error": SENTENCE} where the order was not carried out. It must not know how one is.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import socket
import time
from collections.abc import Mapping, Sequence
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from spa_server.config import ConfigError
from spa_server.enforce.leases import Ended, Lease
from spa_server.enforce.netlink import KernelError
from spa_server.enforce.nft_program import PerimeterError
from spa_server.keeper.channel import peer
from spa_server.keeper.standing import Standing
from spa_server.keeper.trial import LONGEST_S, SHORTEST_S

_log = logging.getLogger("spa.keeper")

PATIENCE_S = 0.5
"""How long root's command may take for its one line."""
ORDER_LARGEST = 1 << 20
ANSWER_LARGEST = 1 << 26

Values = Mapping[str, Any]


class BadOrder(Exception):
    """No order of this format; the message says what is wrong."""


class KeptAlready(PerimeterError):
    """Another firewall process keeps this perimeter."""


def refuse_second_keeper(path: Path) -> None:
    """Raise KeptAlready where one listens on the path."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection, contextlib.suppress(OSError):
        connection.settimeout(PATIENCE_S)
        connection.connect(str(path))
        raise KeptAlready(f"a firewall process is running already ({path} answers); stop it first")


def bind_orders(path: Path) -> socket.socket:
    """Listen for root's commands, in the place of a keeper that died."""
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    with contextlib.suppress(FileNotFoundError):
        path.unlink()
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    old = os.umask(0o177)
    try:
        listener.bind(str(path))
    except BaseException:
        listener.close()
        raise
    finally:
        os.umask(old)
    listener.listen(8)
    return listener


def serve_one(listener: socket.socket, standing: Standing, more: Values) -> None:
    """Take one caller, if one waits, carry its order out and answer it; `more` is added to what `status` says."""
    try:
        connection, _ = listener.accept()
    except OSError:
        return
    with connection:
        try:
            if peer(connection)[1] != 0:
                return
            reply = _carried_out(read_line(connection, PATIENCE_S, ORDER_LARGEST), standing, more)
            connection.settimeout(PATIENCE_S)
            connection.sendall(json.dumps(reply).encode() + b"\n")
        except OSError as error:
            _log.debug("a caller on the control socket went away: %s", error)


def read_line(connection: socket.socket, patience_s: float, most: int) -> bytes:
    """What comes up to a line's end; raises TimeoutError when that takes longer than `patience_s` in all."""
    line = bytearray()
    end_s = time.monotonic() + patience_s
    while not line.endswith(b"\n") and len(line) <= most:
        connection.settimeout(max(end_s - time.monotonic(), 0.001))
        piece = connection.recv(1 << 16)
        if not piece:
            break
        line += piece
    return bytes(line)


def leases_as_json(leases: Sequence[Lease]) -> list[dict[str, object]]:
    """Leases as they go over the socket."""
    return [
        {
            "label": lease.label,
            "service": lease.service,
            "source": str(lease.source),
            "destination": str(lease.destination),
            "protocol": lease.protocol,
            "port": lease.port,
            "left_ms": lease.left_ms,
        }
        for lease in leases
    ]


def ended_from_json(answer: Values) -> Ended:
    """What a revocation's answer says. Raises KeyError, TypeError or ValueError for what is none."""
    leases = tuple(
        Lease(**{**values, "source": ip_address(values["source"]), "destination": ip_address(values["destination"])})
        for values in answer["leases"]
    )
    return Ended(leases, int(answer["flows"]))


def _carried_out(line: bytes, standing: Standing, more: Values) -> Values:
    try:
        return _answer(json.loads(line), standing, more)
    except (ValueError, RecursionError, BadOrder) as error:
        return {"error": f"not an order: {error}"}
    except (ConfigError, PerimeterError, KernelError) as error:
        return {"error": str(error)}


def _answer(order: object, standing: Standing, more: Values) -> Values:
    if not isinstance(order, dict):
        raise BadOrder("an order is an object")
    match order.get("ask"):
        case "status":
            return {**standing.status(), **more}
        case "apply":
            _same_file(order.get("config"), standing)
            return {"warnings": list(standing.apply(_seconds(order.get("confirm_s"))))}
        case "remove":
            return {"removed": standing.remove()}
        case "revoke":
            label, sources = order.get("label"), order.get("sources", [])
            if not isinstance(label, str | None) or not isinstance(sources, list):
                raise BadOrder("label and sources")
            ended = standing.revoke(label, frozenset(ip_address(str(source)) for source in sources))
            return {"leases": leases_as_json(ended.leases), "flows": ended.flows}
        case "confirm":
            return {"confirmed": standing.confirm()}
    raise BadOrder(f"unknown: {order.get('ask')!r}")


def _seconds(value: object) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not SHORTEST_S <= value <= LONGEST_S:
        raise BadOrder(f"confirm_s is {SHORTEST_S} to {LONGEST_S}")
    return float(value)


def _same_file(path: object, standing: Standing) -> None:
    if path is not None and Path(str(path)) != standing.path:
        raise BadOrder(f"the running firewall process works from {standing.path}, not from {path}")
