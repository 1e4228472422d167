"""`spa-server run`, `spa-server reload` and `spa-server status`."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import cast

import click

from spa_server.commands.duration import Duration
from spa_server.commands.exits import EXIT_CODES, Exit, Stop, plain_errors
from spa_server.commands.options import config_option, json_option, log_format_option
from spa_server.config import ConfigError, ConfigForbidden, ServerConfig, control_socket_of, load

NOTHING_CHANGED = "nothing was changed; the server runs on as it was"
RELOAD_PATIENCE_S = 30.0
"""The nft program may have to wait for a loaded machine."""
LONGEST_PAUSE_S = 3600


@click.command(epilog=EXIT_CODES)
@click.option("-v", "--verbose", is_flag=True, help="Log more.")
@log_format_option
@config_option
def run(verbose: bool, log_format: str, config_path: Path) -> None:
    """Put the perimeter up and serve in the foreground until SIGTERM or Ctrl-C; SIGHUP is a reload.

    When it ends, however it ends, the perimeter stays closed and open leases run to their own end. As the user of
    server.user, not root, it serves beside a perimeter that another process keeps: what the systemd unit does.

    \b
    Example:
      spa-server run --config /etc/spa/server.toml
    """
    from spa_server.tell.log import LogFormat, start_logging

    start_logging(verbose=verbose, form=LogFormat(log_format))
    with plain_errors():
        sys.exit(_run_as_root(config_path) if os.geteuid() == 0 else _run_unprivileged(config_path))


def _run_as_root(config_path: Path) -> int:
    from spa_server import daemon

    return daemon.run(load(config_path))


def _run_unprivileged(config_path: Path) -> int:
    # Nothing that can change the firewall is imported here.
    from spa_server import unprivileged

    try:
        return unprivileged.run(config_path)
    except unprivileged.NotThisUser as error:
        raise Stop(Exit.NOT_PERMITTED, f"closing ports in the kernel needs root: run it with sudo ({error})") from error
    except unprivileged.NoPerimeter as error:
        raise Stop(Exit.FAULT, str(error)) from error


@click.command(epilog=EXIT_CODES)
@config_option
def reload(config_path: Path) -> None:
    """Have the running server take over server.toml as it is now: all of it or, where anything is wrong, nothing.

    Open leases and sessions of services that remain go on. state_folder, control_socket and user take a restart.

    \b
    Example:
      spa-server reload
    """
    from spa_server.tell.control import ask

    with plain_errors():
        # The file may be what is wrong, and then it does not say where the server listens.
        reply = ask(_control_socket(config_path), "reload", RELOAD_PATIENCE_S)
    if "ok" in reply:
        click.echo("reloaded")
        return
    if reply.get("not_permitted"):
        raise Stop(Exit.NOT_PERMITTED, f"{reply.get('error')}; run it with sudo")
    said = reply.get("error")
    reasons = [str(reason) for reason in said] if isinstance(said, list) else [str(said)]
    raise Stop(Exit.CONFIGURATION, "\n".join([*reasons, NOTHING_CHANGED]))


@click.command(epilog=EXIT_CODES)
@click.option("--watch", is_flag=True, help="Show it live on the terminal, and who is inside, until q or Ctrl-C.")
@click.option(
    "--every",
    "every_s",
    type=Duration(),
    metavar="DURATION",
    help="With --watch: how often to look, such as 5s; once a second unless told.",
)
@json_option
@config_option
def status(watch: bool, every_s: int | None, as_json: bool, config_path: Path) -> None:
    """Whether the perimeter stands and the server runs, and what both have counted.

    For root and the members of the server's group. Exits with 7 unless the perimeter stands and the server answers.
    With --watch root also sees who is inside, since when and at what risk, and the last refusals; it exits with 0.

    \b
    Examples:
      spa-server status --json
      spa-server status --watch
    """
    if watch:
        _watch(config_path, 1 if every_s is None else every_s, as_json=as_json)
        return
    if every_s is not None:
        raise click.UsageError("--every goes with --watch")
    from spa_server.tell.control import NotRunning, ask

    with plain_errors():
        config = load(config_path)
        try:
            server = ask(config.control_socket, "status")
        except NotRunning:
            server = {}
        told = cast("dict[str, object]", server.pop("perimeter", {}))
        kernel = _asked_of_the_kernel(config) if os.geteuid() == 0 else _told_by_the_server(told)
    numbers = {**kernel, "running": bool(server), "server": server}
    click.echo(json.dumps(numbers) if as_json else _for_people(numbers))
    if not (kernel["perimeter"] and server):
        sys.exit(Exit.FAULT)


def _watch(config_path: Path, every_s: int, *, as_json: bool) -> None:
    from spa_server.watch import terminal, view

    if as_json:
        raise click.UsageError("--watch is for people: a script runs `status --json` as often as it likes")
    if not 1 <= every_s <= LONGEST_PAUSE_S:
        raise click.UsageError("--every is from 1s to 1h")
    if not terminal.is_terminal():
        raise Stop(Exit.USAGE, "--watch needs a terminal; for a file or a program: spa-server status --json")
    with plain_errors():
        view.watch(load(config_path), every_s)


def _asked_of_the_kernel(config: ServerConfig) -> dict[str, object]:
    from spa_server.enforce import perimeter

    counters = perimeter.counters()
    return {
        "perimeter": perimeter.standing(config.services),
        "knocks": {"admitted": counters.knock_admitted.packets, "dropped": counters.knock_dropped.packets},
        "services": {
            item.name: {"admitted": item.admitted.packets, "dropped": item.dropped.packets}
            for item in counters.services
        },
    }


def _told_by_the_server(told: dict[str, object]) -> dict[str, object]:
    """The same for who may not ask the kernel; nothing is known when the server does not run."""
    services = cast("dict[str, dict[str, int]]", told.get("services", {}))
    return {
        "perimeter": None if not told else "error" not in told,
        "knocks": {"admitted": told.get("knocks_admitted", 0), "dropped": told.get("knocks_dropped", 0)},
        "services": {
            name: {"admitted": counts["admitted"], "dropped": counts["dropped"]} for name, counts in services.items()
        },
    }


def _for_people(numbers: dict[str, object]) -> str:
    server = cast("dict[str, object]", numbers["server"])
    knocks = cast("dict[str, int]", numbers["knocks"])
    services = cast("dict[str, dict[str, int]]", numbers["services"])
    perimeter = {
        True: "closed, standing in the kernel",
        False: "NOT UP as configured: spa-server perimeter apply",
        None: "not known: sudo spa-server status",
    }
    lines = [
        f"perimeter  {perimeter[cast('bool | None', numbers['perimeter'])]}",
        f"server     {_server_line(server)}",
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
    if not server:
        return "not running: systemctl start spa-server, or: spa-server run"
    return (
        f"running for {server['up_s']} s (pid {server['pid']}), {server['holders']} devices and invites, "
        f"{server['tags_armed']} tags armed"
    )


def _control_socket(config_path: Path) -> Path:
    """Where the running server listens, from a file that may be wrong elsewhere. Raises ConfigError."""
    try:
        return load(config_path).control_socket
    except ConfigForbidden:
        raise
    except ConfigError as error:
        path = control_socket_of(config_path)
        if path is None:
            raise Stop(Exit.CONFIGURATION, f"{error}\n{NOTHING_CHANGED}") from error
        return path
