"""`spa-server log`: the audit trail for people and scripts; and `log verify`: whether it is as it was written."""

from __future__ import annotations

import grp
import json
import os
import re
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from spa_protocol.text import BadText, TextKind, decode_key
from spa_server.commands.completion import device_labels
from spa_server.commands.duration import Moment
from spa_server.commands.exits import EXIT_CODES, Exit, Stop, plain_errors, printable
from spa_server.commands.options import config_option, json_option
from spa_server.config import ServerConfig, load
from spa_server.remember.identity import identity_path, read_identity
from spa_server.remember.store import StateError
from spa_server.tell import chain, trail_check, trail_files
from spa_server.tell.event_types import CHECKPOINT, TYPES
from spa_server.tell.events import Outcome
from spa_server.tell.trail_search import Wanted, text, users

if TYPE_CHECKING:
    from rich.console import Console

LOOK_EVERY_S = 0.2
VERIFY_CODES = (
    EXIT_CODES
    + """
  10 log verify: the trail is not as it was written"""
)
_CHECKPOINTS = f'"action":"{CHECKPOINT.name}"'.encode()
_CHECKPOINT = re.compile(r"(\d{1,15}):([0-9a-fA-F]{8,64})")
_STYLES = {"success": "green", "failure": "red", "unknown": "yellow"}


class KnownRecord(click.ParamType[trail_check.Known]):
    """What somebody was told of the trail: SEQ:HEX."""

    name = "seq:hex"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> trail_check.Known:
        """Number and the beginning of the hash."""
        if isinstance(value, trail_check.Known):
            return value
        found = _CHECKPOINT.fullmatch(str(value))
        if found is None or not int(found[1]):
            self.fail(f"{str(value)!r} is no checkpoint; it looks like 4711:9f3c01d2…, as clients have it", param, ctx)
        return trail_check.Known(int(found[1]), found[2].lower(), "whoever has this checkpoint")


@click.group(invoke_without_command=True, epilog=EXIT_CODES)
@click.option("--user", default="", help="Whom it concerns, or who ran the command.")
@click.option("--device", default="", shell_complete=device_labels, help="A device's label, or LABEL+DELEGATE.")
@click.option("--service", default="", help="A service that was asked for, opened or closed.")
@click.option("--source", default="", help="The address that was opened, or that it came from.")
@click.option("--session", default="", help="All records of one knock or command.")
@click.option("--action", type=click.Choice(sorted(TYPES)), help="A kind of event.", metavar="EVENT")
@click.option(
    "--outcome",
    type=click.Choice([each.value for each in Outcome]),
    metavar="OUTCOME",
    help="success, failure, unknown.",
)
@click.option("--since", type=Moment(), help="From then on: 1h (ago), 2026-03-01, 2026-03-01T09:30 (UTC).")
@click.option("--until", type=Moment(), help="Before then.")
@click.option(
    "-n", "--lines", type=click.IntRange(0), default=50, show_default=True, help="The newest so many; 0 for all."
)
@click.option("-f", "--follow", is_flag=True, help="Go on with what is recorded from now on, until interrupted.")
@json_option
@config_option
@click.pass_context
def log(
    ctx: click.Context,
    /,
    lines: int,
    since: int | None,
    until: int | None,
    *,
    follow: bool,
    as_json: bool,
    config_path: Path,
    **said: str | None,
) -> None:
    """Search the audit trail: who was let in, refused, enrolled, put out, and what commands changed; the newest last.

    All options have to fit. With --json each record is printed as it is in the file, one a line. The table leaves out
    the server's checkpoints, unless --action asks for them.

    \b
    Examples:
      spa-server log --device alice-laptop --since 1d
      spa-server log --outcome failure --json
      spa-server log --follow
    """
    if ctx.invoked_subcommand is not None:
        ctx.obj = config_path
        return
    finds = Wanted(**{name: value or "" for name, value in said.items()}, since_ms=since, until_ms=until).finder()
    leaves_out = None if as_json or said["action"] else _CHECKPOINTS
    config = _config(config_path)
    console = None if as_json else _console()
    found = deque[bytes](maxlen=lines or None)
    shows = not lines
    if shows:
        _show(console, ())

    def wait() -> bool:
        """At the end of the trail: show what was found up to here, and, to follow, look again a little later."""
        nonlocal shows
        if not shows:
            _show(console, found)
            shows = True
        if follow:
            time.sleep(LOOK_EVERY_S)
        return follow

    with _reading(config):
        for line in trail_files.lines(config.audit_file, wait):
            if not line.is_whole or (leaves_out is not None and leaves_out in line.text) or not finds(line.text):
                continue
            if shows:
                _show(console, [line.text], is_first=False)
            else:
                found.append(line.text)
        if not shows:
            _show(console, found)


@log.command(short_help="Find what was changed in the audit trail.", epilog=VERIFY_CODES)
@click.option(
    "--checkpoint",
    "known",
    type=KnownRecord(),
    multiple=True,
    help="What a client was told of the trail; can be repeated. Shows whether it was cut or written anew.",
)
@click.option(
    "--key", "keys", multiple=True, help="The server's public key (spa-server1…), where server.key cannot be read."
)
@json_option
@config_option
@click.pass_context
def verify(
    ctx: click.Context, known: tuple[trail_check.Known, ...], keys: tuple[str, ...], *, as_json: bool, config_path: Path
) -> None:
    """Whether the audit trail is as it was written: every gap, edit, swap, bad signature and cut end, and where it is.

    \b
    Examples:
      spa-server log verify
      spa-server log verify --checkpoint 4711:9f3c01d25a7be804c66f10d93b2e4a71
    """
    if ctx.get_parameter_source("config_path") is click.core.ParameterSource.DEFAULT and isinstance(ctx.obj, Path):
        config_path = ctx.obj
    public = [_key(each) for each in keys]
    config = _config(config_path)
    with _reading(config):
        if not public:
            public = _own_key(config)
        noted = trail_files.note_of(config.audit_file)
        told = [*known, *([trail_check.Known(*noted, "the lock file")] if noted else [])]
        report = trail_check.check(trail_files.lines(config.audit_file, _once()), keys=public, known=told)
    if as_json:
        click.echo(json.dumps(_plain(report)))
    else:
        click.echo(printed(report))
    if report.findings:
        sys.exit(Exit.TAMPERED)


def printed(report: trail_check.Report) -> str:
    """The report for people: what is wrong and where, and then what was looked at."""
    lines = [f"{each.trouble.value:<14}{_where(each)}: {each.what}" for each in report.findings]
    if report.more_findings:
        lines.append(f"{'':<14}and {report.more_findings} more")
    if report.first is None:
        lines.append("the audit trail holds no record")
    else:
        lines.append(f"looked at records {report.first} to {report.last}; files: {report.files}")
        if report.deleted_to:
            lines.append(f"those up to {report.deleted_to} were deleted to keep its size: of them nothing can be said")
        if report.chained_from is None:
            lines.append("none of them is chained: a server of an older version wrote them; nothing can be verified")
        elif report.chained_from > report.first:
            lines.append(f"those before {report.chained_from} are not chained: of them nothing can be verified")
    if report.signed_to is not None:
        lines.append(f"signatures of the server's: {report.signatures}, the newest of record {report.signed_to}")
    if report.unverified:
        lines.append(f"signatures not verified: {report.unverified}; run it as root, or give --key")
    lines += [f"of record {each.seq}, which {each.whose} was told of, nothing can be said" for each in report.beyond]
    lines.append("NOT as it was written" if report.findings else "it is as it was written")
    return "\n".join(lines)


def _where(finding: trail_check.Finding) -> str:
    where = f"{Path(finding.file).name} line {finding.line}"
    return where if finding.seq is None else f"{where}, record {finding.seq}"


def _plain(report: trail_check.Report) -> dict[str, object]:
    return {"intact": not report.findings, **asdict(report)}


def _config(path: Path) -> ServerConfig:
    with plain_errors():
        return load(path)


def _key(said: str) -> bytes:
    try:
        return decode_key(TextKind.SERVER, said)
    except BadText as error:
        raise Stop(Exit.USAGE, f"--key: {error}") from None


def _own_key(config: ServerConfig) -> list[bytes]:
    """The server's public key, for whoever may read its file; else none."""
    path = identity_path(config.path, config.state_folder)
    try:
        return [read_identity(path).public]
    except StateError:
        return []


def _once() -> Callable[[], bool]:
    """At the end look once more, a moment later: a record may just be being written."""
    left = iter((True,))

    def wait() -> bool:
        again = next(left, False)
        if again:
            time.sleep(LOOK_EVERY_S)
        return again

    return wait


@contextmanager
def _reading(config: ServerConfig) -> Iterator[None]:
    """What can go wrong in reading the trail, said well."""
    path = config.audit_file
    try:
        yield
    except FileNotFoundError:
        raise Stop(
            Exit.FAULT, f"there is no audit trail at {path}: nothing was recorded yet, or it was moved"
        ) from None
    except PermissionError:
        raise Stop(Exit.NOT_PERMITTED, f"{path} cannot be read: run it with sudo{_or_group(path)}") from None
    except KeyboardInterrupt:
        # How whoever follows ends it; nothing was under way.
        click.echo(err=True)
    except BrokenPipeError:
        # Whoever read it, such as head, has seen enough.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        raise Stop(Exit.FAULT, f"{path} cannot be read: {error.strerror}") from None


def _or_group(path: Path) -> str:
    """Who else may read it: members of the folder's group, where its mode lets them in."""
    try:
        folder = path.parent.stat()
        name = grp.getgrgid(folder.st_gid).gr_name
    except (OSError, KeyError):
        return ""
    return f", or as a member of the group {name}" if folder.st_mode & 0o050 == 0o050 else ""


def _console() -> Console:
    from rich.console import Console

    return Console(highlight=False, soft_wrap=True)


def _show(console: Console | None, lines: Sequence[bytes], *, is_first: bool = True) -> None:
    if console is None:
        for line in lines:
            if chain.link(line) is not None:  # for scripts, records only
                click.echo(line)
        return
    from rich.text import Text

    if is_first:
        console.print(Text(_columns("SEQ", "TIME (UTC)", "EVENT", "WHO", "SOURCE") + "  WHAT", style="bold"))

    for line in lines:
        try:
            told = json.loads(line)
        except (ValueError, RecursionError):
            told = None
        if not isinstance(told, dict):
            console.print(Text(printable(line.decode("utf-8", "replace")), style="red"))
            continue
        who = text(told, "device", "id") or ", ".join(users(told)) or "-"
        source = text(told, "source", "ip") or "-"
        at, action = text(told, "@timestamp")[:19].replace("T", " "), text(told, "event", "action")
        columns = _columns(str(told.get("seq", "")), at, action, who, source)
        shown = Text(printable(columns), style=_STYLES.get(text(told, "event", "outcome"), ""))
        console.print(shown.append("  " + printable(text(told, "message")), style="default"))


def _columns(seq: str, at: str, action: str, who: str, source: str) -> str:
    return f"{seq:>8}  {at:<19}  {action:<18}  {who:<20}  {source:<15}"
