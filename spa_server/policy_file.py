"""The policy as a file, read and checked whole. It must not know what a policy says."""

from __future__ import annotations

from pathlib import Path

from spa_server.config import ConfigError, ServerConfig
from spa_server.decide.policy import Policy, PolicyError
from spa_server.decide.vocabulary import DEFAULT_POLICY
from spa_server.toml_table import Problem

FILE_NAME = "policy.cedar"
LARGEST_FILE = 1 << 20


def read_policy(config: ServerConfig) -> Policy:
    """The policy that the configuration names, or the one that holds where it names none. Raises ConfigError."""
    if config.policy_file is None:
        return parsed(DEFAULT_POLICY, config, Path("(built in)"))
    path = config.policy_file
    try:
        with path.open("rb") as file:
            raw = file.read(LARGEST_FILE + 1)
        text = raw.decode("utf-8")
    except FileNotFoundError:
        raise _wrong(path, f"there is no {path}; put it back, or take server.policy_file away") from None
    except OSError as error:
        raise _wrong(path, f"{path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise _wrong(path, "this is not UTF-8 text") from None
    if len(raw) > LARGEST_FILE:
        raise _wrong(path, f"it is larger than {LARGEST_FILE} bytes")
    return parsed(text, config, path)


def parsed(text: str, config: ServerConfig, path: Path) -> Policy:
    """The policy of this text, which stands in `path`. Raises ConfigError."""
    try:
        return Policy(text, config.services)
    except PolicyError as error:
        raise ConfigError(path, tuple(Problem("", "", problem) for problem in error.problems)) from error


def _wrong(path: Path, what: str) -> ConfigError:
    return ConfigError(path, (Problem("", "", what),))
