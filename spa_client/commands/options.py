"""Options that several commands share, each defined once."""

from __future__ import annotations

import os

import click

from spa_client.knocking import DEFAULT_TIMEOUT_S
from spa_client.signing.person import FILE_VARIABLE


def _name_passphrase_file(ctx: click.Context, parameter: click.Parameter, path: str | None) -> None:
    # Who asks for a passphrase looks there; a path is no secret.
    if path is not None and not ctx.resilient_parsing:
        os.environ[FILE_VARIABLE] = path


passphrase_option = click.option(
    "--passphrase-file",
    metavar="FILE",
    expose_value=False,
    callback=_name_passphrase_file,
    help=f"Read the key's passphrase from there instead of asking; also ${FILE_VARIABLE}.",
)
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
