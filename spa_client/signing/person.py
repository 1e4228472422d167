"""What only a person can do: type a passphrase or a code, touch a key.

A passphrase is asked for at the terminal, never where there is none. Scripts name a file that holds it in the variable
SPA_PASSPHRASE_FILE (`--passphrase-file`); it is never taken from a command line, which everybody can read.
"""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path

from spa_client.errors import BadConfiguration, NotPermitted

FILE_VARIABLE = "SPA_PASSPHRASE_FILE"
_LONGEST = 1024


def passphrase(what: str) -> bytes:
    """The passphrase of `what`, from the file or the person. Raises NotPermitted and BadConfiguration."""
    return _from_file() or _typed(f"Passphrase of {what}: ", what)


def new_passphrase(what: str) -> bytes:
    """A passphrase for `what`, typed twice. Raises NotPermitted and BadConfiguration."""
    if given := _from_file():
        return given
    typed = _typed(f"New passphrase for {what}: ", what)
    if typed != _typed("The same again: ", what):
        raise NotPermitted("the two passphrases differ; nothing was done")
    return typed


def typed_code() -> str:
    """A one-time code; "" where there is no terminal, or nothing was typed. What is typed is not shown."""
    if not _has_terminal():
        return ""
    import getpass

    try:
        return getpass.getpass("A code is needed: ")
    except EOFError:
        return ""


def say(sentence: str) -> None:
    """Tell whoever sits at the terminal; nobody, where there is none."""
    if sys.stderr is not None and sys.stderr.isatty():
        sys.stderr.write(f"spa-client: {sentence}\n")
        sys.stderr.flush()


def _from_file() -> bytes:
    """What the file named in the environment holds, up to the end of its line; nothing where none is named."""
    named = os.environ.get(FILE_VARIABLE)
    if not named:
        return b""
    try:
        with Path(named).open("rb") as file:
            status = os.fstat(file.fileno())
            # A pipe is the shell's `<(...)`; a group may be that of a service manager's credentials.
            if sys.platform != "win32" and stat.S_ISREG(status.st_mode) and status.st_mode & 0o007:
                raise NotPermitted(f"{named} can be read by everybody: chmod 600 '{named}'")
            line = file.readline(_LONGEST + 2).rstrip(b"\r\n")
    except OSError as error:
        raise BadConfiguration(f"the passphrase file {named} cannot be read: {error.strerror or error}") from None
    if not 1 <= len(line) <= _LONGEST:
        raise BadConfiguration(f"the first line of {named} is no passphrase: it has 1 to {_LONGEST} bytes")
    return line


def _typed(prompt: str, what: str) -> bytes:
    if not _has_terminal():
        raise NotPermitted(f"{what} is locked, and there is no terminal to ask at: name a --passphrase-file")
    import getpass

    try:
        typed = getpass.getpass(prompt)
    except EOFError:
        typed = ""
    if not typed:
        raise NotPermitted(f"no passphrase was typed: {what} stays locked")
    return typed.encode("utf-8")


def _has_terminal() -> bool:
    if sys.platform == "win32":
        return sys.stdin is not None and sys.stdin.isatty()
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True
