"""The options that many commands have. Nothing heavy is imported here: what serves has to start fast."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from spa_server.config import DEFAULT_PATH

_Command = TypeVar("_Command", bound=Callable[..., Any])


def config_option(command: _Command) -> _Command:
    """`--config FILE`, on every command that needs the configuration."""
    return click.option(
        "--config",
        "config_path",
        type=click.Path(path_type=Path, readable=False),
        default=DEFAULT_PATH,
        envvar="SPA_SERVER_CONFIG",
        show_default=True,
        help="The server's configuration.",
    )(command)


def json_option(command: _Command) -> _Command:
    """`--json`, on every command that prints data."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON for scripts.")(command)


def log_format_option(command: _Command) -> _Command:
    """`--log-format`, on the commands that serve."""
    return click.option(
        "--log-format",
        type=click.Choice(["text", "json"]),
        default="text",
        show_default=True,
        help="How lines look on standard error, where that is not the journal.",
    )(command)
