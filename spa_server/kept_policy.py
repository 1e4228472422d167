"""The last good policy: its text is kept beside the last good configuration, to go by when the file is bad at a start.

It must not know what a policy says.
"""

from __future__ import annotations

import logging
from pathlib import Path

from spa_server.config import ConfigError, ServerConfig
from spa_server.decide.policy import Policy
from spa_server.keeper.applied import applied_path, keep_text
from spa_server.policy_file import parsed, read_policy

APPLIED = "applied.cedar"

_log = logging.getLogger("spa.policy")


def starting_policy(config: ServerConfig) -> tuple[Policy, bool]:
    """The policy to start with, and whether it is the last good one because the present one is not good.

    Raises ConfigError when neither is good.
    """
    try:
        return read_policy(config), False
    except ConfigError as error:
        last = _last_good(config)
        if last is None:
            raise
        for line in str(error).splitlines():
            _log.error("%s", line)
        _log.error("knocks are judged by the last good policy until that is mended")
        return last, True


def keep_policy(config: ServerConfig, policy: Policy) -> None:
    """Keep the text as the last good one, beside the last good configuration. A failure is a warning."""
    keep_text(_kept_path(config), policy.text.encode())


def _last_good(config: ServerConfig) -> Policy | None:
    try:
        return parsed(_kept_path(config).read_text(encoding="utf-8"), config, _kept_path(config))
    except (OSError, UnicodeDecodeError, ConfigError):
        return None


def _kept_path(config: ServerConfig) -> Path:
    return applied_path(config.path).with_name(APPLIED)
