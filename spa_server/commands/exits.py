"""Exit codes, and how an error becomes one line that says what to do."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum

import click

from spa_server.tell.printable import printable as printable  # errors are not all that commands print

EXIT_CODES = """\b
Exit codes:
  0  done
  2  bad usage
  3  refused: what was asked of the registry or the leases cannot be
  5  bad configuration or state
  6  not permitted
  7  a fault of the surroundings: no nft, the port in use, no server running, ..."""


class Exit(IntEnum):
    """What the exit code means."""

    DONE = 0
    USAGE = 2
    REFUSED = 3
    CONFIGURATION = 5
    NOT_PERMITTED = 6
    FAULT = 7
    WARNING = 8
    """Only of `doctor`: something does not work, or will stop to."""
    DANGER = 9
    """Only of `doctor`: somebody gets in who should not, or could."""
    TAMPERED = 10
    """Only of `log verify`: the audit trail is not as it was written."""


class Stop(click.ClickException):
    """End with a code and a line."""

    def __init__(self, code: Exit, message: str) -> None:
        super().__init__(message)
        self.exit_code: int = int(code)  # type: ignore[misc]  # click declares it on the class, and reads the instance's

    def show(self, file: object = None) -> None:
        """Each line of the message, under the program's name."""
        for line in self.message.splitlines() or [""]:
            click.echo(f"spa-server: {printable(line)}", file=sys.stderr)


@contextmanager
def plain_errors() -> Iterator[None]:
    """Turn the errors an operator can meet into a line and a code; anything else is a bug and shows itself."""
    try:
        yield
    except click.ClickException:
        raise
    except Exception as error:
        stop = _as_stop(error)
        if stop is None:
            raise
        raise stop from error


def _as_stop(error: Exception) -> Stop | None:
    """What an operator is told of it. Only now are all of these imported: what serves has to start fast."""
    from spa_server.config import ConfigError, ConfigForbidden
    from spa_server.enforce.netlink import KernelError
    from spa_server.enforce.nft_program import NotPermitted, PerimeterError
    from spa_server.listen.sockets import PortTaken
    from spa_server.privilege import NoSuchUser
    from spa_server.remember.registry import RegistryError
    from spa_server.remember.store import StateError
    from spa_server.tell.control import AlreadyRunning, NotRunning

    match error:
        case ConfigForbidden():
            return Stop(Exit.NOT_PERMITTED, f"{error}; run it with sudo, or as a member of the file's group")
        case ConfigError() | StateError() | NoSuchUser():
            return Stop(Exit.CONFIGURATION, str(error))
        case RegistryError():
            return Stop(Exit.REFUSED, str(error))
        case NotPermitted() | PermissionError():
            return Stop(Exit.NOT_PERMITTED, f"{error}; run it as root: sudo spa-server ...")
        case PerimeterError() | KernelError() | PortTaken() | NotRunning() | AlreadyRunning() | OSError():
            return Stop(Exit.FAULT, str(error))
    return None


def need_root(what: str) -> None:
    """End unless root asks."""
    import os

    if os.geteuid() != 0:
        raise Stop(Exit.NOT_PERMITTED, f"{what} needs root: run it with sudo")
