"""`spa-server run` and `spa-server status`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import cast

import click

from spa_server.commands.exits import EXIT_CODES, Exit, need_root, plain_errors
from spa_server.commands.state import config_option, json_option
from spa_server.config import load


@click.command(epilog=EXIT_CODES)
@click.option("-v", "--verbose", is_flag=True, help="Log more.")
@config_option
def run(verbose: bool, config_path: Path) -> None:
    """Put the perimeter up and serve in the foreground until SIGTERM or Ctrl-C.

    When it ends, however it ends, the perimeter stays closed and open leases run to their own end.

    \b
    Example:
      spa-server run --config /etc/spa/server.toml
    """
    from spa_server import daemon
    from spa_server.tell.log import start_logging

    need_root("closing ports in the kernel")
    start_logging(verbose=verbose)
    with plain_errors():
        code = daemon.run(load(config_path))
    sys.exit(code)


@click.command(epilog=EXIT_CODES)
@json_option
@config_option
def status(as_json: bool, config_path: Path) -> None:
    """Whether the perimeter stands and the server runs, and what both have counted.

    Exits with 7 unless the perimeter stands and the server answers.

    \b
    Example:
      spa-server status --json
    """
    from spa_server.enforce import perimeter
    from spa_server.tell.control import NotRunning, ask

    need_root("reading the perimeter")
    with plain_errors():
        config = load(config_path)
        standing = perimeter.standing(config.services)
        counters = perimeter.counters()
        try:
            server = ask(config.control_socket, "status")
        except NotRunning:
            server = {}
    numbers = {
        "perimeter": standing,
        "running": bool(server),
        "server": server,
        "knocks": {"admitted": counters.knock_admitted.packets, "dropped": counters.knock_dropped.packets},
        "services": {
            item.name: {"admitted": item.admitted.packets, "dropped": item.dropped.packets}
            for item in counters.services
        },
    }
    click.echo(json.dumps(numbers) if as_json else _for_people(numbers))
    if not (standing and server):
        sys.exit(Exit.FAULT)


def _for_people(numbers: dict[str, object]) -> str:
    server = cast("dict[str, object]", numbers["server"])
    knocks = cast("dict[str, int]", numbers["knocks"])
    services = cast("dict[str, dict[str, int]]", numbers["services"])
    lines = [
        "perimeter  "
        + (
            "closed, standing in the kernel"
            if numbers["perimeter"]
            else "NOT UP as configured: spa-server perimeter apply"
        ),
        "server     " + (_server_line(server) if server else "not running: spa-server run"),
        f"gate       {knocks['admitted']} datagrams admitted by a tag, {knocks['dropped']} dropped",
    ]
    lines += [
        f"service    {name}: {counts['admitted']} packets admitted, {counts['dropped']} dropped"
        for name, counts in services.items()
    ]
    results = cast("dict[str, int]", server.get("results", {}))
    if results:
        counted = ", ".join(f"{name.replace('_', ' ')} {count}" for name, count in sorted(results.items()))
        lines.append(f"knocks     {counted}")
    if server.get("fault"):
        lines.append(f"fault      {server['fault']}")
    return "\n".join(lines)


def _server_line(server: dict[str, object]) -> str:
    return (
        f"running for {server['up_s']} s (pid {server['pid']}), {server['holders']} devices and invites, "
        f"{server['tags_armed']} tags armed"
    )
