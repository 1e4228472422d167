"""Options that several commands share, each defined once."""

from __future__ import annotations

import os

import click

from spa_client.knocking import DEFAULT_TIMEOUT_S
from spa_client.second_factor import CodeSource, given_once
from spa_client.signing.person import FILE_VARIABLE, typed_code

CODE_VARIABLE = "SPA_CODE"


def _name_passphrase_file(ctx: click.Context, parameter: click.Parameter, path: str | None) -> None:
    # Who asks for a passphrase looks there; a path is no secret.
    if path is not None and not ctx.resilient_parsing:
        os.environ[FILE_VARIABLE] = path


def _code_source(ctx: click.Context, parameter: click.Parameter, code: str | None) -> CodeSource:
    # The command that `exec` runs may be a client too, and the code counts once.
    given = code or (None if ctx.resilient_parsing else os.environ.pop(CODE_VARIABLE, None))
    return given_once(given, typed_code) if given else typed_code


code_option = click.option(
    "--code",
    metavar="CODE",
    callback=_code_source,
    help="The one-time code, if the server asks for one; others on this computer can read it, but it counts once. Also"
    f" ${CODE_VARIABLE}. Without it, a terminal is asked.",
)
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
