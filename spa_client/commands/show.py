"""`spa-client show`."""

from __future__ import annotations

from datetime import UTC, datetime

import click

from spa_client.addresses import udp_ports
from spa_client.checkpoints import CheckpointNote, checkpoint_text
from spa_client.commands import EXIT_CODES
from spa_client.commands.completing import perimeter_names
from spa_client.perimeter import Perimeter
from spa_client.storage import Store
from spa_protocol.openssh import fingerprint, key_type


@click.command("show", epilog=EXIT_CODES, short_help="Show a perimeter and this device's identity.")
@click.argument("name", required=False, shell_complete=perimeter_names)
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
def command(name: str | None, as_json: bool) -> None:
    """Show a perimeter: its server, and this device's public identity. Secrets are never shown.

    The audit trail's newest checkpoint is what the server last told of its records: with it an operator sees whether
    their end was cut off (`spa-server log verify --checkpoint`).

    \b
    Examples:
      spa-client show office
      spa-client show office --json
    """
    store = Store.default()
    perimeter = store.load(name)
    checkpoint = store.memory(perimeter.name).checkpoint
    if as_json:
        click.echo(as_json_text(perimeter, checkpoint))
        return
    key = perimeter.signer.key
    rows = [
        ("perimeter", perimeter.name),
        ("hosts", ", ".join(perimeter.hosts)),
        ("knock ports", udp_ports(perimeter.knock_ports)),
        ("this device", perimeter.label),
        ("its identity", perimeter.device_text),
        ("its key", f"{key_type(key)} {fingerprint(key)}, in {perimeter.place}"),
        ("server identity", perimeter.server_text),
        *_delegation(perimeter),
        ("source", perimeter.source),
        ("posture", perimeter.posture.value),
        ("answers", "yes" if perimeter.answers else "no"),
        *_trail(checkpoint),
        ("files", str(store.path(perimeter.name))),
    ]
    for service in perimeter.services:
        ports = [
            f"{protocol}/{port}" for protocol, port in (("tcp", service.tcp_port), ("udp", service.udp_port)) if port
        ]
        signed = ["source must be signed"] if service.needs_signed_source else []
        rows.append(("service", ", ".join([service.name, *ports, *signed])))
    for title, value in rows:
        click.echo(f"{title + ':':<17}{value}")


def _delegation(perimeter: Perimeter) -> list[tuple[str, str]]:
    certificate = perimeter.certificate
    if certificate is None:
        return []
    until = datetime.fromtimestamp(certificate.expires_s, UTC).strftime("%Y-%m-%d %H:%M UTC")
    return [
        ("delegated", f"by {perimeter.label} to {certificate.name}, until {until}"),
        ("may open", ", ".join(certificate.services)),
    ]


def _trail(note: CheckpointNote) -> list[tuple[str, str]]:
    newest, step = note.read(), note.step_back()
    rows = [] if newest is None else [("audit trail", f"was at {checkpoint_text(newest)}")]
    if step is not None:
        when = datetime.fromtimestamp(step.time_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M UTC")
        rows.append(("WARNING", f"{when}: {step.sentence}"))
    return rows


def _trail_object(note: CheckpointNote) -> dict[str, object]:
    newest, step = note.read(), note.step_back()
    return {
        "checkpoint": newest and checkpoint_text(newest),
        "trail_stepped_back": step
        and {
            "before": checkpoint_text(step.before),
            "now": checkpoint_text(step.now),
            "time": datetime.fromtimestamp(step.time_ms / 1000, UTC).isoformat(timespec="seconds"),
        },
    }


def as_json_text(perimeter: Perimeter, checkpoint: CheckpointNote) -> str:
    """What is public of a perimeter, as JSON."""
    import json

    certificate = perimeter.certificate
    return json.dumps(
        {
            "name": perimeter.name,
            "hosts": list(perimeter.hosts),
            "knock_ports": list(perimeter.knock_ports),
            "label": perimeter.label,
            "device_identity": perimeter.device_text,
            "key": {
                "kept_in": perimeter.place.kind.value,
                "file": perimeter.place.path or None,
                "openssh": key_type(perimeter.signer.key),
                "fingerprint": fingerprint(perimeter.signer.key),
            },
            "server_identity": perimeter.server_text,
            "delegation": None
            if certificate is None
            else {
                "to": certificate.name,
                "services": list(certificate.services),
                "issued_s": certificate.issued_s,
                "expires_s": certificate.expires_s,
            },
            "source": perimeter.source,
            "posture": perimeter.posture.value,
            "answers": perimeter.answers,
            **_trail_object(checkpoint),
            "services": [
                {
                    "name": service.name,
                    "tcp_port": service.tcp_port or None,
                    "udp_port": service.udp_port or None,
                    "needs_signed_source": service.needs_signed_source,
                }
                for service in perimeter.services
            ],
        }
    )
