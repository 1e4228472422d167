"""`spa-server report`: what happened in a period, as one page to be looked at in a browser."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from spa_server.commands.exits import EXIT_CODES, Exit, Stop, plain_errors
from spa_server.commands.options import config_option
from spa_server.config import ServerConfig, load
from spa_server.privilege import acting_as_owner_of
from spa_server.report.period import BadTime, Period, time_of

OLDEST = "7d"


@click.command(epilog=EXIT_CODES)
@click.option(
    "--html",
    "target",
    required=True,
    type=click.Path(path_type=Path, dir_okay=False, allow_dash=True),
    metavar="FILE",
    help="Where to write the page, readable for you alone; - is standard output.",
)
@click.option(
    "--since",
    default=OLDEST,
    show_default=True,
    metavar="TIME",
    help="From then on: 7d (that long ago), 2026-03-01 or 2026-03-01T09:30 (UTC).",
)
@click.option("--until", default="now", show_default=True, metavar="TIME", help="Before then, written likewise.")
@config_option
def report(target: Path, since: str, until: str, config_path: Path) -> None:
    """Write what happened in a period as one page of HTML: knocks, refusals, leases, risk, who, and what operators did.

    It is made from the audit trail and needs nothing from anywhere to be shown. It names users, devices and addresses.

    \b
    Examples:
      spa-server report --html week.html
      spa-server report --html march.html --since 2026-03-01 --until 2026-04-01
    """
    now_ms = time.time_ns() // 1_000_000
    period = _period(since, until, now_ms)
    with plain_errors():
        config = load(config_path)
        text = _made(config, period, now_ms)
        if str(target) == "-":
            click.echo(text, nl=False)
        else:
            write_private(target, text)


def write_private(target: Path, text: str) -> None:
    """Write a file for its owner alone, whole or not at all, in the place of one that is there. Raises OSError."""
    handle, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)  # made with mode 0600
    try:
        with open(handle, "w", encoding="utf-8") as file:  # noqa: PTH123 - a handle, not a path
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(target)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _made(config: ServerConfig, period: Period, now_ms: int) -> str:
    from spa_server.report.figures import LEAD_MS, Figures
    from spa_server.report.page import About, page
    from spa_server.tell.reading import Trail

    figures, is_root = Figures(period), os.geteuid() == 0
    with acting_as_owner_of(config.audit_file.parent):
        try:
            trail = Trail(config.audit_file)
            oldest = trail.oldest()
            with _progress(trail.size()) as advance:
                trail.on_bytes = advance
                figures.take(trail.records(period.since_ms - LEAD_MS, period.until_ms))
        except OSError as error:
            if isinstance(error, PermissionError) and not is_root:
                raise Stop(Exit.NOT_PERMITTED, "the audit trail is for root: run it with sudo") from error
            raise Stop(Exit.FAULT, f"{config.audit_file}: {error.strerror}") from error
    figures.finish()
    host = ", ".join(config.addresses)
    return page(figures, About(host, str(config.audit_file), now_ms, trail.passed, oldest))


@contextmanager
def _progress(total: int) -> Iterator[Callable[[int], None]]:
    """Shown on standard error while the block runs, if that is a terminal."""
    if not sys.stderr.isatty():
        yield lambda _count: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as shown:
        task = shown.add_task("reading the audit trail", total=total)
        yield lambda count: shown.advance(task, count)


def _period(since: str, until: str, now_ms: int) -> Period:
    try:
        period = Period(time_of(since, now_ms), time_of(until, now_ms))
    except BadTime as error:
        raise click.UsageError(str(error)) from error
    if period.since_ms >= period.until_ms:
        raise click.UsageError(f"nothing lies between {since} and {until}: --since comes before --until")
    return period
