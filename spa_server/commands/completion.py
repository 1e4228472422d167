"""`spa-server completion`, and the devices' labels that it offers."""

from __future__ import annotations

import contextlib

import click

from spa_server.commands.exits import EXIT_CODES


@click.command(epilog=EXIT_CODES)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the lines that make bash, zsh or fish complete spa-server: commands, options and, for root, devices.

    \b
    Examples:
      spa-server completion bash > /etc/bash_completion.d/spa-server
      spa-server completion zsh > /usr/local/share/zsh/site-functions/_spa-server
      spa-server completion fish > /etc/fish/completions/spa-server.fish
    """
    from click.shell_completion import ShellComplete, get_completion_class

    from spa_server.commands import group

    complete = get_completion_class(shell)
    if complete is None:
        raise AssertionError(f"click completes {shell}")
    # Not its own `source`, which for bash first runs one to ask for its version.
    click.echo(ShellComplete.source(complete(group, {}, "spa-server", "_SPA_SERVER_COMPLETE")))


def user_names(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """The users, likewise."""
    from spa_server.commands.exits import plain_errors
    from spa_server.commands.state import opened_store
    from spa_server.remember.users import Users

    names: list[str] = []
    with (
        contextlib.suppress(click.ClickException),
        plain_errors(),
        opened_store(ctx.params["config_path"]) as (_, store),
    ):
        names = [each.name for each in Users(store).users()]
    return [name for name in names if name.startswith(incomplete)]


def request_numbers(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """The numbers of what waits or is approved, likewise."""
    from spa_server.commands.exits import plain_errors
    from spa_server.commands.state import now_s, opened_store
    from spa_server.remember.requests import Requests

    numbers: list[str] = []
    with (
        contextlib.suppress(click.ClickException),
        plain_errors(),
        opened_store(ctx.params["config_path"]) as (_, store),
    ):
        found = Requests(store).requests()
        numbers = [str(each.number) for each in found if each.state(now_s()) in ("waiting", "approved")]
    return [number for number in numbers if number.startswith(incomplete)]


def device_labels(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """The devices, for whoever may read the registry; for others nothing, without a word."""
    from spa_server.commands.exits import plain_errors
    from spa_server.commands.state import opened_store
    from spa_server.remember.registry import Registry

    labels: list[str] = []
    with (
        contextlib.suppress(click.ClickException),
        plain_errors(),
        opened_store(ctx.params["config_path"]) as (_, store),
    ):
        labels = [device.label for device in Registry(store).devices()]
    return [label for label in labels if label.startswith(incomplete)]
