"""The command line of the server: `spa-server`.

Each group of commands is a file of its own, imported only when it is asked for. Errors are one line on standard error
that says what to do; the exit codes are in `exits`.
"""

from __future__ import annotations

import importlib
import sys

import click

from spa_server.commands.exits import EXIT_CODES, Exit

COMMANDS = {
    "init": ("setup", "Make keys, server.toml and the state folder."),
    "install": ("install", "Make it a service of systemd: units, users, perimeter."),
    "uninstall": ("install", "Take the service off this host again."),
    "run": ("service", "Close the ports and serve in the foreground."),
    "reload": ("service", "Take over server.toml as it is now, or nothing."),
    "status": ("service", "Whether all stands and runs, and what was counted."),
    "perimeter": ("perimeter", "Put up, print or take down the closed ruleset."),
    "invite": ("invite", "Make the one line that enrols a device."),
    "device": ("device", "Show and change who may knock."),
    "user": ("user", "Show and change whose devices may knock; second factors."),
    "request": ("request", "Show, approve and deny what waits for approval."),
    "notify": ("notify", "Tell people what waits for their approval."),
    "delegation": ("delegation", "Show and take back what devices delegated."),
    "lease": ("lease", "Show and end what is open now."),
    "policy": ("policy", "Check, explain and test what decides."),
    "doctor": ("doctor", "Find what is wrong, and what mends it."),
    "log": ("log", "Search and verify the audit trail."),
    "why": ("why", "Why a device or an address was refused."),
    "report": ("report", "What happened in a period, as a page for a browser."),
    "completion": ("completion", "Print what makes a shell complete this command."),
}
"""Name, module and summary of each command, in the order a new operator meets them."""


class LazyGroup(click.Group):
    """A group whose commands are imported when they are needed."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"spa_server.commands.{COMMANDS[cmd_name][0]}")
        command = getattr(module, cmd_name)
        return command if isinstance(command, click.Command) else None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, summary) in COMMANDS.items()])


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
