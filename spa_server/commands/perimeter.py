"""`spa-server perimeter`: the closed ruleset, with or without the server."""

from __future__ import annotations

import json
from pathlib import Path

import click

from spa_server.commands.exits import EXIT_CODES, Exit, Stop, need_root, plain_errors
from spa_server.commands.state import config_option, json_option
from spa_server.config import load
from spa_server.enforce import obstacles
from spa_server.enforce import perimeter as kernel


@click.group(epilog=EXIT_CODES)
def perimeter() -> None:
    """Put up, print or take down the closed ruleset; no server is needed."""


@perimeter.command(epilog=EXIT_CODES, short_help="Close every service in the kernel.")
@config_option
def apply(config_path: Path) -> None:
    """Close every configured service in the kernel, in one transaction; live leases stay.

    \b
    Example:
      spa-server perimeter apply
    """
    need_root("closing ports in the kernel")
    with plain_errors():
        config = load(config_path)
        warnings = kernel.apply(config.knock_port, config.services)
        warnings += obstacles.foreign_obstacles(config.knock_port, config.services)
    for warning in warnings:
        click.echo(f"spa-server: warning: {warning}", err=True)
    names = ", ".join(service.name for service in config.services)
    click.echo(f"closed: {names}; knocks are taken on udp/{config.knock_port}")


@perimeter.command(epilog=EXIT_CODES, short_help="Print the ruleset in the kernel.")
@json_option
def show(as_json: bool) -> None:
    """Print the ruleset as it stands in the kernel.

    \b
    Example:
      spa-server perimeter show
    """
    need_root("reading the ruleset")
    with plain_errors():
        text = kernel.show()
    if not text:
        raise Stop(Exit.FAULT, "no perimeter stands; put it up with: spa-server perimeter apply")
    click.echo(json.dumps({"ruleset": text}) if as_json else text, nl=as_json)


@perimeter.command(epilog=EXIT_CODES, short_help="Take the ruleset down.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def remove(yes: bool) -> None:
    """Take the perimeter down: every service is then as open as the rest of the firewall leaves it.

    \b
    Example:
      spa-server perimeter remove --yes
    """
    need_root("removing the ruleset")
    if not yes:
        click.confirm("Every protected port becomes reachable. Take the perimeter down?", abort=True)
    with plain_errors():
        removed = kernel.remove()
    click.echo("the perimeter is down" if removed else "there was no perimeter")
