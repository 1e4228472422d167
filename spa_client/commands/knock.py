"""`spa-client knock`."""

from __future__ import annotations

import click

from spa_client.commands import EXIT_CODES
from spa_client.commands.completing import perimeter_names, service_names
from spa_client.commands.options import code_option, passphrase_option, source_option, timeout_option
from spa_client.errors import ApprovalNeeded
from spa_client.knocking import Opened, OpenService, Request
from spa_client.opening import Wait, knock_and_leave
from spa_client.second_factor import CodeSource
from spa_client.steps import Step, tell
from spa_client.storage import Store


@click.command(
    "knock",
    epilog=EXIT_CODES,
    short_help="Knock, and say what opened for how long.",
)
@click.argument("name", required=False, shell_complete=perimeter_names)
@click.argument("services", metavar="[SERVICE]...", nargs=-1, shell_complete=service_names)
@click.option("--for", "lease_s", type=click.IntRange(1), metavar="SECONDS", help="Lease wanted; else the default.")
@source_option
@click.option("--wait", is_flag=True, help="Wait for an approval, if it takes one, and for the service's TCP port.")
@click.option("--port", type=click.IntRange(1, 65535), help="The TCP port to wait for; implies --wait.")
@timeout_option
@code_option
@passphrase_option
@click.option("--json", "as_json", is_flag=True, help="Print what opened as JSON.")
@click.option("--quiet", "-q", is_flag=True, help="Print nothing when it opened.")
@click.option("--explain", is_flag=True, help="Tell each step with its time, on standard error or in the JSON.")
def command(
    name: str | None,
    services: tuple[str, ...],
    lease_s: int | None,
    source: str | None,
    wait: bool,
    port: int | None,
    timeout_s: float,
    code: CodeSource,
    as_json: bool,
    quiet: bool,
    explain: bool,
) -> int:
    """Knock at a perimeter, wait for the answer, say what opened for how long.

    Without SERVICE all that this device may open is asked for. Without NAME the default perimeter is meant
    (`spa-client default`). Where somebody has to approve it first, --wait says whom to ask for what, and knocks until
    they have decided. With --explain the services' TCP ports are tried too, once they are open; that changes
    neither result nor exit code.

    \b
    Examples:
      spa-client knock office
      spa-client knock office web --for 120
      spa-client knock office web --wait && curl https://office.example.com:8443/
      spa-client knock office --source 203.0.113.9
      spa-client knock office --explain
    """
    request = Request(services, lease_s or 0, source, timeout_s, code=code)
    wanted = Wait(port or 0, always=True, approval=tell_approval) if wait or port else None
    steps: list[Step] | None = None
    if explain:
        from spa_client.commands.explaining import explained, tell_opened

        with explained(as_json=as_json) as steps:
            opened = _knocked(name, request, wanted)
            tell_opened(opened, try_ports=wanted is None)
    else:
        opened = _knocked(name, request, wanted)
    for warning in () if quiet else opened.warnings:
        click.echo(f"spa-client: warning: {warning}", err=True)
    if as_json:
        click.echo(_json(opened, steps))
    elif not quiet:
        for line in lines(opened):
            click.echo(line)
    return 0


def tell_approval(needed: ApprovalNeeded) -> None:
    """Say whom to ask, while it is waited for."""
    click.echo(f"spa-client: waiting: {needed.sentence}", err=True)


def _knocked(name: str | None, request: Request, wanted: Wait | None) -> Opened:
    store = Store.default()
    perimeter = store.load(name)
    tell("read", "the files of {} in {}", perimeter.name, store.path(perimeter.name))
    return knock_and_leave(store, perimeter, request, wanted)


def lines(opened: Opened) -> list[str]:
    """One line for each service and address."""
    if not opened.confirmed:
        return [f"open: {opened.perimeter} at {opened.addresses[0]}; the server did not say for how long"]
    return [
        f"open: {service.name} ({_ports(service.tcp_port, service.udp_port)}) at {opening.server}"
        f" for {service.left_s} s, for {'the named' if opening.named else 'this'} source {opening.source}"
        for opening in opened.openings
        for service in opening.services
    ]


def _ports(tcp_port: int, udp_port: int) -> str:
    named = (("tcp", tcp_port), ("udp", udp_port))
    return ", ".join(f"{protocol}/{port}" for protocol, port in named if port) or "no port"


def as_json_value(opened: Opened) -> dict[str, object]:
    """What opened, for scripts."""
    return {
        "perimeter": opened.perimeter,
        "confirmed": opened.confirmed,
        "left_s": opened.left_s,
        "services": [_service(service) for service in opened.services],
        "openings": [
            {"server": str(opening.server), "source": str(opening.source), "named": opening.named}
            for opening in opened.openings
        ],
        "warnings": list(opened.warnings),
    }


def _json(opened: Opened, steps: list[Step] | None) -> str:
    import json

    told = {} if steps is None else {"steps": [step.plain() for step in steps]}
    return json.dumps(told | as_json_value(opened))


def _service(service: OpenService) -> dict[str, object]:
    return {
        "name": service.name,
        "left_s": service.left_s,
        "tcp_port": service.tcp_port or None,
        "udp_port": service.udp_port or None,
        "addresses": [str(address) for address in service.addresses],
    }
