"""A command line that cannot be read: what it says of itself, and what was probably meant.

It must not know what the commands do.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import click

from spa_client.meant import nearest


def explained(error: click.UsageError, arguments: Sequence[str], commands: Collection[str]) -> str:
    """The sentence for a command line that click could not read."""
    path = error.ctx.command_path if error.ctx else "spa-client"
    # Newer versions of click guess themselves; ours knows more.
    message = error.format_message().partition(" Did you mean")[0].partition(" (Possible")[0]
    meant = _meant(error, arguments, commands)
    return f"{message}{' ' if meant else ''}{meant} ({path} --help says more)"


def _meant(error: click.UsageError, arguments: Sequence[str], commands: Collection[str]) -> str:
    words = [word for word in arguments if not word.startswith("-")]
    if not words:
        return ""
    if words[0] not in commands:
        for later in words[1:]:
            if later in commands:
                return f"The command comes first: spa-client {later} {words[0]}"
        near = nearest(words[0], commands)
        return f"Did you mean: spa-client {' '.join([near, *words[1:]])}" if near else ""
    if words[0] == "exec" and "--" not in arguments:
        return "Put -- before the command to run: spa-client exec NAME -- COMMAND"
    if isinstance(error, click.NoSuchOption) and error.possibilities:
        return f"Did you mean {' or '.join(sorted(error.possibilities)[:2])}?"
    return ""
