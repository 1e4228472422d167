"""The option of commands that hold a lease; apart from the others, which a mere knock has to load too."""

from __future__ import annotations

import click

from spa_client.commands.duration import Duration
from spa_client.session_key import TOUCH_EVERY_S

touch_option = click.option(
    "--touch-every",
    "touch_every_s",
    type=Duration(),
    default=TOUCH_EVERY_S,
    show_default="8h",
    metavar="DURATION",
    help="How long one touch of a security key holds the lease: 30m, 8h.",
)
