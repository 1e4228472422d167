"""`spa-server request`: what waits for somebody's approval, and deciding on it at the server."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import click

from spa_server.announce.posting import post_requests
from spa_server.commands.completion import request_numbers
from spa_server.commands.duration import Duration
from spa_server.commands.exits import EXIT_CODES, need_root, plain_errors
from spa_server.commands.options import config_option, json_option
from spa_server.commands.recording import Edit, person
from spa_server.commands.shut_out import shut_out
from spa_server.commands.state import now_s, opened_store, store_to_edit
from spa_server.config import ServerConfig
from spa_server.remember.requests import Request, Requests
from spa_server.remember.sources import SourcesOfDevices
from spa_server.remember.store import Store
from spa_server.tell.event_types import APPROVAL_REVOKED, APPROVED, DENIED
from spa_server.tell.table import table, utc


@click.group(epilog=EXIT_CODES)
def request() -> None:
    """What waits for somebody's approval. Approvers can decide from their own devices, too: spa-client approve."""


@request.command("list", epilog=EXIT_CODES, short_help="What waits, and what came of the last ones.")
@click.option("--all", "all_", is_flag=True, help="Also what is over.")
@json_option
@config_option
def list_(all_: bool, as_json: bool, config_path: Path) -> None:
    """What waits for approval and what is approved now, the newest first.

    \b
    Example:
      spa-server request list --all
    """
    now = now_s()
    with plain_errors(), opened_store(config_path) as (_, store):
        found = [each for each in Requests(store).requests() if all_ or each.state(now) in ("waiting", "approved")]
    if as_json:
        click.echo(json.dumps([_as_json(each, now) for each in found]))
    elif not found:
        click.echo("nothing waits for approval")
    else:
        head = ("NUMBER", "USER", "DEVICE", "SERVICE", "ASKED", "STATE")
        click.echo(table(head, [_row(each, now) for each in found]))


@request.command(epilog=EXIT_CODES, short_help="One request.")
@click.argument("number", type=click.IntRange(1), shell_complete=request_numbers)
@json_option
@config_option
def show(number: int, as_json: bool, config_path: Path) -> None:
    """One request: who asked for what, with which device and when, and how it stands.

    \b
    Example:
      spa-server request show 482113
    """
    now = now_s()
    with plain_errors(), opened_store(config_path) as (_, store):
        found = Requests(store).request(number)
    if as_json:
        click.echo(json.dumps(_as_json(found, now)))
        return
    lines = {
        "request": found.number,
        "user": found.user,
        "device": found.device,
        "service": found.service,
        "asked": utc(found.asked_s),
        "waits until": utc(found.waits_until_s),
        "state": found.state(now).value,
        "approved by": ", ".join(f"{name} until {utc(until_s)}" for name, until_s in found.by) or "nobody",
        **({"denied by": found.denied_by} if found.denied_by else {}),
    }
    width = max(map(len, lines))
    for name, value in lines.items():
        click.echo(f"{name:{width}}  {value}")


@request.command(epilog=EXIT_CODES, short_help="Let somebody have what they asked for.")
@click.argument("number", type=click.IntRange(1), shell_complete=request_numbers)
@click.option("--for", "valid_s", type=Duration(), default=0, help="How long it holds. Default: approval.valid_s.")
@config_option
def approve(number: int, valid_s: int, config_path: Path) -> None:
    """Let somebody have what they asked for, for some time, in the name of who runs this; not one's own wish.

    \b
    Example:
      spa-server request approve 482113 --for 30m
    """
    need_root("approving")
    by = person()
    edit = Edit(APPROVED, f"approve request {number}", gives=True, request=number)
    with plain_errors(), store_to_edit(config_path, edit) as (config, store):
        until_s = config.approval.until_s(valid_s, now_s())
        done = Requests(store).decide(number, by, approve=True, until_s=until_s, now_s=now_s())
        _tell(config, store)
    click.echo(f"approved: {done.user} may have {done.service} until {utc(until_s)}")


@request.command(epilog=EXIT_CODES, short_help="Do not let them.")
@click.argument("number", type=click.IntRange(1), shell_complete=request_numbers)
@config_option
def deny(number: int, config_path: Path) -> None:
    """Do not let somebody have what they asked for. What the device that asked has open is ended.

    \b
    Example:
      spa-server request deny 482113
    """
    need_root("denying")
    edit = Edit(DENIED, f"deny request {number}", gives=False, request=number)
    by = person()
    done, ended = _taken_away(
        config_path, edit, lambda requests: requests.decide(number, by, approve=False, until_s=0, now_s=now_s())
    )
    click.echo(f"denied: {done.user} does not get {done.service} by it; {ended}")


@request.command(epilog=EXIT_CODES, short_help="Take back what was approved, and end what is open by it.")
@click.argument("number", type=click.IntRange(1), shell_complete=request_numbers)
@config_option
def revoke(number: int, config_path: Path) -> None:
    """Take back what was approved, and end what the device that asked has open.

    \b
    Example:
      spa-server request revoke 482113
    """
    need_root("taking an approval back")
    edit = Edit(APPROVAL_REVOKED, f"take back what request {number} approved", gives=False, request=number)
    done, ended = _taken_away(config_path, edit, lambda requests: requests.revoke(number))
    click.echo(f"revoked: {done.user}, {done.service}; {ended}")


def _taken_away(config_path: Path, edit: Edit, take: Callable[[Requests], Request]) -> tuple[Request, str]:
    """Take something away from who asked, and end what their device has open; the request, and what was ended."""
    with plain_errors():
        with store_to_edit(config_path, edit) as (config, store):
            done = take(Requests(store))
            sources = SourcesOfDevices(store).of(done.device)
            _tell(config, store)
        return done, shut_out(config, done.device, sources, edit)


def _tell(config: ServerConfig, store: Store) -> None:
    if config.approval.tells:
        post_requests(config.notice_board, Requests(store), now_s())


def _row(each: Request, now: int) -> tuple[object, ...]:
    state = each.state(now).value
    if each.by:
        state += f" by {', '.join(f'{name} until {utc(until_s)}' for name, until_s in each.by)}"
    return each.number, each.user, each.device, each.service, utc(each.asked_s), state


def _as_json(each: Request, now: int) -> dict[str, object]:
    return {**asdict(each), "by": dict(each.by), "state": each.state(now).value}
