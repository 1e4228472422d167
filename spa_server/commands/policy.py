"""`spa-server policy`: check, explain and test what decides, before it decides."""

from __future__ import annotations

import contextlib
import datetime
import json
from collections.abc import Iterator
from dataclasses import asdict, replace
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from spa_server.commands.completion import device_labels
from spa_server.commands.duration import Duration
from spa_server.commands.exits import EXIT_CODES, Exit, Stop, plain_errors
from spa_server.commands.options import config_option, json_option
from spa_server.config import ServerConfig, load

if TYPE_CHECKING:
    from spa_server.decide.policy import Judgement, Policy
    from spa_server.service import Service

_file_option = click.option(
    "--policy",
    "policy_path",
    type=click.Path(path_type=Path, readable=False),
    help="This file instead of the one that server.toml names.",
)


@click.group(epilog=EXIT_CODES)
def policy() -> None:
    """Check, explain and test the policy: who may open what, when, from where and in what state of health.

    \b
    Examples:
      spa-server policy check
      spa-server policy explain alice-laptop web
      spa-server policy test /etc/spa/policy-cases.toml
    """


@policy.command(epilog=EXIT_CODES)
@_file_option
@json_option
@config_option
def check(policy_path: Path | None, as_json: bool, config_path: Path) -> None:
    """Whether the policy can be taken over: read whole, every name and type held against the schema.

    \b
    Examples:
      spa-server policy check
      spa-server policy check --policy /root/new.cedar
    """
    with plain_errors():
        config = load(config_path)
        found = _policy(config, policy_path)
    if as_json:
        click.echo(json.dumps({"policies": found.ids, "hash": found.hash, "warnings": found.unknown}))
        return
    where = policy_path or config.policy_file or "the built-in policy"
    click.echo(f"{where}: good; {len(found.ids)} policies: {', '.join(found.ids) or 'so nothing is allowed'}")
    for warning in found.unknown:
        click.echo(f"warning: {warning}", err=True)


@policy.command(epilog=EXIT_CODES)
def schema() -> None:
    """Print the schema: all that a policy can speak of. Editors that know Cedar can use it.

    \b
    Example:
      spa-server policy schema > /etc/spa/policy.cedarschema
    """
    from spa_server.decide.vocabulary import SCHEMA

    click.echo(SCHEMA, nl=False)


@policy.command(epilog=EXIT_CODES)
@click.argument("label", metavar="DEVICE", shell_complete=device_labels)
@click.argument("service")
@click.option("--at", "at", metavar="TIME", help='Local time: "2026-03-01 23:00" or "23:00". Default: now.')
@click.option("--from", "source", metavar="ADDRESS", help="Where it would knock from. Default: an address of nobody's.")
@click.option(
    "--posture",
    "facts",
    metavar="FACT=VALUE,…",
    help="Its health, such as disk_encrypted=yes,patch_age_days=3. Default: nothing is said.",
)
@click.option(
    "--posture-age", "posture_age_s", type=click.IntRange(0), default=0, help="Seconds since it was looked at."
)
@click.option("--risk", type=click.IntRange(0, 100), default=0, help="The risk score.")
@click.option("--mfa-age", "mfa_age_s", type=click.IntRange(0), help="Seconds since a second factor. Default: none.")
@click.option("--approved-by", "approvers", multiple=True, metavar="USER", help="Who has approved it; repeatable.")
@click.option(
    "--action", type=click.Choice(["open", "renew", "approve"]), default="open", show_default=True, help="To do what."
)
@_file_option
@json_option
@config_option
def explain(
    label: str,
    service: str,
    at: str | None,
    source: str | None,
    facts: str | None,
    posture_age_s: int,
    risk: int,
    mfa_age_s: int | None,
    approvers: tuple[str, ...],
    action: str,
    policy_path: Path | None,
    as_json: bool,
    config_path: Path,
) -> None:
    """What the policy says to a device and a service, by which policies, and what would change the answer.

    Nothing is opened, and no risk or approval that the server knows of is looked up: the options say what is supposed.

    \b
    Examples:
      spa-server policy explain alice-laptop web
      spa-server policy explain alice-laptop vault --at 23:00 --posture disk_encrypted=yes --mfa-age 60
    """
    from spa_server.commands.state import opened_store
    from spa_server.decide.context import Approval
    from spa_server.decide.supposition import sentence, what_would_change
    from spa_server.decide.vocabulary import Action
    from spa_server.policy_case import local_time, plain_context, posture_of
    from spa_server.remember.registry import Registry
    from spa_server.toml_table import Bad

    with plain_errors(), opened_store(config_path) as (config, store):
        device = Registry(store).device(label)
        if device is None:
            raise Stop(Exit.REFUSED, f"there is no device {label}; see: spa-server device list")
        found = _policy(config, policy_path)
    wanted = _service(config, service)
    try:
        then = local_time(at) if at else datetime.datetime.now()
        address = ip_address(source) if source else ip_address("192.0.2.1")
        posture = posture_of(_words(facts)) if facts else None
    except Bad as error:
        raise Stop(Exit.USAGE, f"it takes {error}") from None
    except ValueError as error:
        raise Stop(Exit.USAGE, str(error)) from None
    context = replace(
        plain_context(device.user, device.roles, device.label, then, address),
        posture=posture,
        posture_age_s=None if posture is None else posture_age_s,
        risk=risk,
        mfa_age_s=mfa_age_s,
        approval=Approval(frozenset(approvers), 3600 if approvers else 0),
    )
    judgement = found.judge(context, wanted.name, Action(action))
    changes = what_would_change(found, context, wanted, Action(action))
    if as_json:
        told = {"supposed": [{"if": each.clause, **_as_json(each.judgement)} for each in changes]}
        click.echo(json.dumps({**_as_json(judgement), "enabled": device.enabled, "hash": found.hash, **told}))
        return
    click.echo(f"{device.label} ({device.user}; {', '.join(sorted(device.roles))}): {sentence(judgement, wanted.name)}")
    if not device.enabled:
        click.echo("But the device is disabled, so that nothing opens for it.")
    for each in changes:
        click.echo(f"  if {each.clause}: {sentence(each.judgement, wanted.name)}")


@policy.command(epilog=EXIT_CODES)
@click.argument("cases_path", metavar="FILE", type=click.Path(path_type=Path, readable=False))
@_file_option
@json_option
@config_option
def test(cases_path: Path, policy_path: Path | None, as_json: bool, config_path: Path) -> int:
    """Put the cases of a TOML file to the policy; exits with 3 when an answer is not as expected.

    Each case is a table [[case]]: user, roles, service and expect ("allow", "refuse", "step up" or "approval"); and as
    it needs: name, device, delegate, action, at, from, posture, posture_age_s, attested, risk, mfa_age_s, approved_by,
    approval_left_s, policies (ids that must be among those that decided).

    \b
    Example:
      spa-server policy test /etc/spa/policy-cases.toml
    """
    from spa_server.policy_case import read_cases

    with plain_errors():
        config = load(config_path)
        found, cases = _policy(config, policy_path), read_cases(cases_path)
    failures = {case.name: failure for case in cases if (failure := case.failure(found))}
    if as_json:
        click.echo(json.dumps({"cases": len(cases), "failed": failures}))
    else:
        for name, failure in failures.items():
            click.echo(f"FAILED  {name}: {failure}")
        click.echo(f"{len(cases)} cases, {len(failures)} failed")
    return int(Exit.REFUSED) if failures else int(Exit.DONE)


@policy.command("show-log", epilog=EXIT_CODES)
@click.option("--since", type=Duration(), default="7d", show_default=True, help="How far back.")
@_file_option
@json_option
@config_option
def show_log(since: int, policy_path: Path | None, as_json: bool, config_path: Path) -> None:
    """Put the knocks of the audit trail to a policy, and list what would have been different.

    Roles are those that devices have now. A second factor and approvals are not in the trail: what was granted is taken
    to have had both, what was refused neither.

    \b
    Examples:
      spa-server policy show-log --policy /root/new.cedar
      spa-server policy show-log --policy /root/new.cedar --since 30d --json
    """
    from spa_server.commands.state import now_s, opened_store
    from spa_server.decide.supposition import sentence
    from spa_server.policy_replay import Replay
    from spa_server.remember.registry import Registry
    from spa_server.tell.ecs import utc_ms
    from spa_server.tell.table import table

    with plain_errors(), opened_store(config_path) as (config, store):
        roles = {device.label: device.roles for device in Registry(store).devices()}
        replay = Replay(_policy(config, policy_path), frozenset(each.name for each in config.services), roles)
        first = utc_ms((now_s() - since) * 1000)
        found = list(replay.differences(_records(config, first)))
    if as_json:
        told = [{**asdict(each), "judgement": _as_json(each.judgement)} for each in found]
        click.echo(json.dumps({"asked": replay.asked, "unknown": replay.unknown, "different": told}))
        return
    if found:
        head = ("TIME", "DEVICE", "SERVICE", "SOURCE", "WAS", "WOULD BE")
        rows = [
            (each.time, each.device, each.service, each.source, each.was, sentence(each.judgement, each.service))
            for each in found
        ]
        click.echo(table(head, rows))
    unknown = f"; of {replay.unknown} nothing can be said" if replay.unknown else ""
    click.echo(f"{replay.asked} services asked for, {len(found)} would have ended otherwise{unknown}")


def _records(config: ServerConfig, first: str) -> Iterator[dict[str, Any]]:
    """The trail's records from that time on. Raises OSError."""
    from spa_server.tell import trail_files

    with contextlib.suppress(FileNotFoundError):
        for line in trail_files.lines(config.audit_file):
            if not (b'"action":"granted"' in line.text or b'"action":"refused"' in line.text):
                continue
            with contextlib.suppress(ValueError):
                record = json.loads(line.text)
                if isinstance(record, dict) and str(record.get("@timestamp", "")) >= first:
                    yield record


def _policy(config: ServerConfig, path: Path | None) -> Policy:
    from spa_server.policy_file import read_policy

    return read_policy(config if path is None else replace(config, policy_file=path))


def _service(config: ServerConfig, name: str) -> Service:
    for service in config.services:
        if service.name == name:
            return service
    known = ", ".join(service.name for service in config.services)
    raise Stop(Exit.REFUSED, f"there is no service {name}; server.toml has: {known}")


def _words(facts: str) -> dict[str, str]:
    """Of `name=value,name=value`."""
    pairs = [part.partition("=") for part in facts.split(",") if part]
    return {name.strip(): value.strip() for name, _, value in pairs}


def _as_json(judgement: Judgement) -> dict[str, object]:
    return {
        "outcome": judgement.outcome.name.lower(),
        "allowed": judgement.is_allowed,
        "policies": judgement.policies,
        "errors": judgement.errors,
    }
