"""`spa-server notify`: tells people what waits for their approval."""

from __future__ import annotations

from pathlib import Path

import click

from spa_server.commands.exits import EXIT_CODES, Exit, Stop, plain_errors
from spa_server.commands.options import config_option, log_format_option
from spa_server.config import load


@click.command(epilog=EXIT_CODES)
@log_format_option
@config_option
def notify(log_format: str, config_path: Path) -> None:
    """Tell people, by approval.hook and approval.webhook, what waits for approval and what was decided.

    Runs until it is ended. The unit spa-notify does it, as a user who can reach neither the registry nor the firewall.
    It takes a restart to follow an edited configuration.

    \b
    Example:
      spa-server notify
    """
    from spa_server import notify as manager
    from spa_server.announce.loop import follow, lanes_of
    from spa_server.tell.log import LogFormat, start_logging

    start_logging(verbose=False, form=LogFormat(log_format), identifier="spa-notify")
    with plain_errors():
        config = load(config_path)
    lanes = lanes_of(config.approval)
    if not lanes:
        raise Stop(Exit.CONFIGURATION, f"{config_path.name}: set approval.hook or approval.webhook first")
    try:
        follow(config.notice_board, lanes, manager.ready, lambda: True)
    except OSError as error:
        raise Stop(Exit.FAULT, f"{config.notice_board.parent} cannot be watched: {error.strerror}") from error
