"""The command line of the server: `spa-server`.

Each group of commands is a file of its own, imported only when it is asked for. Errors are one line on standard error
that says what to do; the exit codes are in `exits`.
"""

from __future__ import annotations

import importlib
import sys

import click

from spa_server.commands.exits import EXIT_CODES, Exit

_MODULES = {
    "init": "setup",
    "run": "service",
    "status": "service",
    "perimeter": "perimeter",
    "invite": "invite",
    "device": "device",
    "lease": "lease",
    "why": "why",
}


class LazyGroup(click.Group):
    """A group whose commands are imported when they are needed."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The commands in the order a new operator meets them."""
        return list(_MODULES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one command."""
        if cmd_name not in _MODULES:
            return None
        module = importlib.import_module(f"spa_server.commands.{_MODULES[cmd_name]}")
        command = getattr(module, cmd_name)
        return command if isinstance(command, click.Command) else None


@click.group(
    cls=LazyGroup,
    name="spa-server",
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=EXIT_CODES,
)
@click.version_option(package_name="spa-perimeter", prog_name="spa-server")
def group() -> None:
    """Keep services closed in the kernel until a signed knock opens them, for one source, for seconds.

    \b
    First steps, as root:
      spa-server init --address gw.example.org
      spa-server run
      spa-server invite alice-laptop --user alice --role admin
    """


def main() -> None:
    """The console script: run, and exit with the documented code."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """The exit code of a command line; an error is told in one line on standard error."""
    try:
        result = group.main(arguments, prog_name="spa-server", standalone_mode=False)
    except click.UsageError as error:
        path = error.ctx.command_path if error.ctx else "spa-server"
        click.echo(f"spa-server: {error.format_message()} ({path} --help says more)", err=True)
        return Exit.USAGE
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("spa-server: stopped; nothing was changed", err=True)
        return Exit.USAGE
    return result if isinstance(result, int) else Exit.DONE
