"""A new configuration for a running server: read and checked whole before anything is changed.

It must not know how the change is made, only whether it can be.
"""

from __future__ import annotations

import os

from spa_server.config import ConfigError, ServerConfig, load
from spa_server.decide.policy import Policy
from spa_server.policy_file import read_policy
from spa_server.risk_lists import read_lists

_AUDIT = ("audit_file", "audit_file_mib", "audit_files", "audit_required")
FIXED = ("state_folder", "control_socket", "user", *_AUDIT, "metrics")
"""Keys of [server] that a process is built on."""


class CannotReload(Exception):
    """The configuration stays as it was; `reasons` has a line for each thing that is wrong."""

    def __init__(self, *reasons: str) -> None:
        self.reasons = reasons
        super().__init__("\n".join(reasons))


def read_again(running: ServerConfig) -> tuple[ServerConfig, Policy]:
    """Configuration and policy as their files have them now, if a server that runs by the other can take them over.

    Raises CannotReload.
    """
    try:
        config = load(running.path)
        policy = read_policy(config)
        read_lists(config.risk)
    except ConfigError as error:
        hint: tuple[str, ...] = ()
        if running.path.exists() and not os.access(running.path, os.R_OK):
            hint = (f"the part that reads packets runs as user {running.user}, which must be able to read it",)
        raise CannotReload(*str(error).splitlines(), *hint) from error
    changed = [key for key in FIXED if getattr(config, key) != getattr(running, key)]
    if changed:
        raise CannotReload(*(f"server.{key} takes a restart; put it back or restart spa-server" for key in changed))
    return config, policy
