"""The command line `spa-client`.

This module loads no command until it is called for: a knock runs before every connection, so its start is what users
wait for. Errors become one line on standard error and an exit code here, and nowhere else.
"""

from __future__ import annotations

import errno
import os
import sys
from importlib import import_module

import click

from spa_client.errors import BadUsage, SpaError

COMMANDS = {
    "join": ("join", "Enrol this device with an invite."),
    "list": ("listing", "List the perimeters joined."),
    "show": ("show", "Show a perimeter and this device's identity."),
    "rename": ("rename", "Give a perimeter another name."),
    "default": ("default", "Show or choose the perimeter meant where none is named."),
    "remove": ("remove", "Forget a perimeter, its key included."),
    "knock": ("knock", "Knock, and say what opened for how long."),
    "approve": ("approve", "Let somebody have what they asked for."),
    "deny": ("deny", "Do not let somebody have what they asked for."),
    "delegate": ("delegate", "Let another key open some services for a while."),
    "posture": ("posture", "Show what a server is told of this device's health."),
    "doctor": ("doctor", "Find what keeps this device out."),
    "exec": ("execute", "Knock, run a command, keep the lease while it runs."),
    "open": ("open_door", "A local door: connections to this computer knock and go through."),
    "proxy": ("proxy", "Knock, connect, relay standard input and output (for ssh)."),
    "ssh-config": ("ssh_config", "Print the lines that send ssh through a perimeter."),
    "keep": ("keep", "Hold a lease, wherever this computer goes."),
    "completion": ("completion", "Print what makes a shell complete this command."),
}
"""Name, module and summary of each command."""

EXIT_CODES = """\b
Exit codes:
  0  done, opened
  2  bad usage
  3  refused by the server
  4  no answer, or the port did not open
  5  bad configuration, or no such perimeter
  6  not permitted (file modes)
  7  a fault of the surroundings (network, host name, disk)
"""
EXEC_OFFSET = 120
_INTERRUPTED = 130


class LazyGroup(click.Group):
    """A group that loads a command's module when the command is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = import_module(f"{__name__}.{COMMANDS[cmd_name][0]}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, summary) in COMMANDS.items()])


def _print_version(ctx: click.Context, parameter: click.Parameter, wanted: bool) -> None:
    if wanted and not ctx.resilient_parsing:
        from importlib.metadata import version

        click.echo(f"spa-client {version('spa-perimeter')}")
        ctx.exit()


@click.command(
    cls=LazyGroup,
    name="spa-client",
    epilog=EXIT_CODES,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_print_version, help="Print the version."
)
def group() -> None:
    """Open ports that exist only for you, for seconds.

    \b
    Examples:
      spa-client join spa-invite1...
      spa-client knock office web
      spa-client exec office -- ssh bastion.example.com
    """


def main() -> None:
    """The console script: run, and exit with the documented code."""
    code = run(sys.argv[1:])
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except BrokenPipeError:
        code = SpaError.exit_code
    # All that was opened is closed by now. To take the interpreter apart costs a tenth of a knock.
    os._exit(code)


def run(arguments: list[str]) -> int:
    """The exit code of a command line; an error is told in one line on standard error."""
    inside_exec = False
    try:
        inside_exec = bool(arguments) and arguments[0] == "exec"
        result = group.main(arguments, prog_name="spa-client", standalone_mode=False)
        return result if isinstance(result, int) else 0
    except SpaError as error:
        return _fail(error.sentence, error.exit_code, inside_exec)
    except click.UsageError as error:
        from spa_client.commands.misplaced import explained

        return _fail(explained(error, arguments, COMMANDS), BadUsage.exit_code, inside_exec)
    except click.ClickException as error:
        return _fail(error.format_message(), SpaError.exit_code, inside_exec)
    except (click.Abort, KeyboardInterrupt):
        return _INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has gone; the interpreter must not complain about it at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return SpaError.exit_code
    except SystemExit as ended:
        # Click's own way to end a completion, with 0, and where the reader has gone, with 1.
        return SpaError.exit_code if ended.code else 0
    except OSError as error:
        return _fail(_explain(error), _os_code(error), inside_exec)


def _fail(sentence: str, code: int, inside_exec: bool) -> int:
    click.echo(f"spa-client: {' '.join(sentence.split())}", err=True)
    if inside_exec:
        # 127 is the shell's "not found", so a fault of the surroundings is "cannot run" too.
        return min(EXEC_OFFSET + code, 126)
    return code


def _explain(error: OSError) -> str:
    where = f"{error.filename}: " if error.filename else ""
    remedy = {
        errno.EACCES: "; run as its owner, or chown it",
        errno.EPERM: "; run as its owner, or chown it",
        errno.ENOSPC: "; make room on the disk",
        errno.ENOENT: "; make that folder, or correct the path",
        errno.EROFS: "; point SPA_CLIENT_FOLDER at a folder that can be written",
        errno.ENOTDIR: "; remove what stands in the way",
    }.get(error.errno or 0, "")
    return f"{where}{error.strerror or error}{remedy}"


def _os_code(error: OSError) -> int:
    return 6 if error.errno in (errno.EACCES, errno.EPERM) else 7
