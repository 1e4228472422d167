"""`spa-client list`."""

from __future__ import annotations

import click

from spa_client.commands import EXIT_CODES
from spa_client.errors import SpaError
from spa_client.storage import Store


@click.command("list", epilog=EXIT_CODES, short_help="List the perimeters joined.")
@click.option("--json", "as_json", is_flag=True, help="Print them as JSON.")
def command(as_json: bool) -> None:
    """List the perimeters that this device has joined; one that cannot be used is listed with the reason.

    \b
    Examples:
      spa-client list
      spa-client list --json
    """
    store = Store.default()
    meant = _meant(store)
    rows: list[dict[str, object]] = []
    for name in store.names():
        try:
            perimeter = store.load(name)
        except SpaError as error:
            rows.append({"name": name, "default": name == meant, "error": error.sentence})
        else:
            hosts = list(perimeter.hosts)
            rows.append({"name": name, "default": name == meant, "label": perimeter.label, "hosts": hosts})
    if as_json:
        import json

        click.echo(json.dumps(rows))
        return
    if not rows:
        click.echo("no perimeter is joined yet: spa-client join INVITE", err=True)
    for row in rows:
        click.echo(_line(row, marked=len(rows) > 1))


def _meant(store: Store) -> str | None:
    try:
        return store.default_name()
    except SpaError:
        return None


def _line(row: dict[str, object], *, marked: bool) -> str:
    hosts = row.get("hosts")
    detail = f"{', '.join(hosts)}  as {row['label']}" if isinstance(hosts, list) else f"unusable: {row['error']}"
    return f"{row['name']}  {detail}{'  (default)' if marked and row['default'] else ''}"
