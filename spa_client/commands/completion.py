"""`spa-client completion`."""

from __future__ import annotations

import click
from click.shell_completion import ShellComplete, get_completion_class

from spa_client.commands import EXIT_CODES, group


@click.command("completion", epilog=EXIT_CODES, short_help="Print what makes a shell complete this command.")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def command(shell: str) -> None:
    """Print the lines that make bash, zsh or fish complete spa-client: commands, options, perimeters and services.

    Completing reads files of this computer only; it sends nothing and changes nothing.

    \b
    Examples:
      spa-client completion bash > ~/.local/share/bash-completion/completions/spa-client
      spa-client completion zsh > ~/.zfunc/_spa-client
      spa-client completion fish > ~/.config/fish/completions/spa-client.fish
    """
    complete = get_completion_class(shell)
    if complete is None:
        raise AssertionError(f"click completes {shell}")
    # Not its own `source`, which for bash first runs one to ask for its version.
    click.echo(ShellComplete.source(complete(group, {}, "spa-client", "_SPA_CLIENT_COMPLETE")))
