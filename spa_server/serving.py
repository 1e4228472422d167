"""Serving as the network process, to its exit code: what each way to end is called to whoever started it."""

from __future__ import annotations

import logging

from spa_server.config import ConfigError, ServerConfig
from spa_server.enforce.client import FirewallError
from spa_server.listen.network import Ending, Inherited, NetworkProcess
from spa_server.remember.damaged import keep_copy
from spa_server.remember.store import FILE_NAME, StateDamaged, StateError

log = logging.getLogger("spa.daemon")

DONE, BAD_STATE, FAULT = 0, 5, 7
"""Exit codes, as the command line documents them."""


def serve(config: ServerConfig, inherited: Inherited, *, alone: int) -> int:
    """Serve until told to stop; the exit code. `alone`: the one for when the firewall process is gone."""
    try:
        ending = NetworkProcess(config, inherited).run()
    except StateDamaged as error:
        copy = keep_copy(config.state_folder / FILE_NAME)
        kept = f"a copy is kept as {copy}; " if copy else ""
        log.error("%s", error, extra={"event": "state-corrupted"})
        log.error(
            "nobody can knock until then: %sput back a backup of the file, or move it away and run: "
            "spa-server init --state-only, then: spa-server device import FILE",
            kept,
        )
        return BAD_STATE
    except (StateError, ConfigError) as error:
        log.error("%s", error)
        return BAD_STATE
    except FirewallError as error:
        log.error("not serving: %s", error)
        return FAULT
    return DONE if ending is Ending.TOLD else alone
