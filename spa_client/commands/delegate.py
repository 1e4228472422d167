"""`spa-client delegate`."""

from __future__ import annotations

import click

from spa_client.commands import EXIT_CODES
from spa_client.commands.completing import perimeter_names, service_names
from spa_client.commands.duration import Duration
from spa_client.commands.options import passphrase_option
from spa_client.delegating import delegate
from spa_client.exchange import wall_ms
from spa_client.storage import Store


@click.command("delegate", epilog=EXIT_CODES, short_help="Let another key open some services for a while.")
@click.argument("name", required=False, shell_complete=perimeter_names)
@click.option(
    "--service",
    "-s",
    "services",
    multiple=True,
    required=True,
    shell_complete=service_names,
    help="What it may open; may be repeated.",
)
@click.option("--for", "for_s", type=Duration(), required=True, help="For how long: 90s, 15m, 2h, 7d.")
@click.option("--to", default="delegate", show_default=True, help="What to call it, in the server's logs.")
@passphrase_option
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
def command(name: str | None, services: tuple[str, ...], for_s: int, to: str, as_json: bool) -> None:
    """Make a key that may open some of this device's services for a while: for a CI job, or for a contractor.

    Prints one line, which is a secret: whoever has it can use it, with `spa-client join -`. The server needs no change.
    The delegate never gets more than this device has; it is out as soon as this device is, or alone, by
    `spa-server delegation revoke`.

    \b
    Examples:
      spa-client delegate office --service web --for 2h --to ci
      spa-client delegate office -s web -s ssh --for 7d --to bob > bob.txt
    """
    perimeter = Store.default().load(name)
    made = delegate(perimeter, services, to=to, for_s=for_s, now_ms=wall_ms())
    if as_json:
        import json

        certificate = made.certificate
        click.echo(
            json.dumps(
                {
                    "delegation": made.text(),
                    "perimeter": perimeter.name,
                    "by": perimeter.label,
                    "to": certificate.name,
                    "services": list(certificate.services),
                    "issued_s": certificate.issued_s,
                    "expires_s": certificate.expires_s,
                }
            )
        )
        return
    click.echo(
        f"{to} may open {', '.join(services)} for {perimeter.label} until {_utc(made.certificate.expires_s)}:", err=True
    )
    click.echo("  spa-client join -        (and there the line below, which is a secret)", err=True)
    click.echo(made.text())


def _utc(time_s: int) -> str:
    from datetime import UTC, datetime

    return datetime.fromtimestamp(time_s, UTC).strftime("%Y-%m-%d %H:%M UTC")
