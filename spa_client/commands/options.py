"""Options that several commands share, each defined once."""

from __future__ import annotations

import click

from spa_client.knocking import DEFAULT_TIMEOUT_S

source_option = click.option(
    "--source", metavar="seen|local|ADDRESS", help="Whom to open for; 'local' or an address is signed."
)
timeout_option = click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(0.05, 3600),
    default=DEFAULT_TIMEOUT_S,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait for the answer.",
)
