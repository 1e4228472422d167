"""What commands change goes into the audit trail too: before it is done, and what came of it.

A command appends by itself, under the trail's lock, so that nothing is lost when no server runs. A command that gives
someone more is refused where that cannot be recorded; one that takes away, or that root's way back in may hang on, goes
on, with a warning and a line in the journal. What stood on the command line is not recorded: it may hold a secret.
"""

from __future__ import annotations

import logging
import os
import pwd
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import click

from spa_server.commands.exits import Exit, Stop
from spa_server.config import ServerConfig
from spa_server.privilege import acting_as_owner_of
from spa_server.service import Address
from spa_server.tell.audit import AuditTrail, NotWritten
from spa_server.tell.event_types import EventType
from spa_server.tell.events import Actor, Event, Outcome
from spa_server.tell.journal import JournalHandler

_NO_LOGIN = 2**32 - 1


@dataclass(frozen=True, slots=True)
class Edit:
    """What a command is about to do. `gives`: somebody can do more afterwards, so it is not done unrecorded."""

    type: EventType
    message: str
    gives: bool
    device: str = ""
    user: str = ""
    source: Address | None = None
    reason: str = ""
    request: int = 0


@contextmanager
def recorded(config: ServerConfig, edit: Edit) -> Iterator[None]:
    """Record an edit before and after the block that makes it. Raises Stop, and then the block is not entered."""
    event = Event(
        edit.type,
        edit.message,
        Outcome.UNKNOWN,
        reason=edit.reason,
        device=edit.device,
        user=edit.user,
        source=edit.source,
        session=os.urandom(8).hex(),
        actor=_actor(),
        request=edit.request,
    )
    try:
        _append(config, event)
    except NotWritten as error:
        if edit.gives and config.audit_required:
            raise Stop(Exit.FAULT, f"nothing was changed, since it cannot be recorded: {error}") from error
        _warn(event, f"this is not recorded: {error}")
    try:
        yield
    except BaseException as error:
        _append_after(config, replace(event, outcome=Outcome.FAILURE, about=str(error) or type(error).__name__))
        raise
    _append_after(config, replace(event, outcome=Outcome.SUCCESS))


def trail_of(config: ServerConfig) -> AuditTrail:
    """The trail that the configuration names."""
    return AuditTrail(config.audit_file, largest_bytes=config.audit_file_mib << 20, most_files=config.audit_files)


def _append(config: ServerConfig, event: Event) -> None:
    with acting_as_owner_of(config.audit_file.parent):
        trail = trail_of(config)
        try:
            trail.append(event)
        finally:
            trail.close()


def _append_after(config: ServerConfig, event: Event) -> None:
    try:
        _append(config, event)
    except NotWritten as error:
        _warn(event, f"what came of it is not recorded: {error}")


def _warn(event: Event, said: str) -> None:
    """Say it to whoever runs the command, and to the journal if there is one."""
    click.echo(f"spa-server: warning: {said}", err=True)
    journal = logging.Logger("spa.command")
    journal.addHandler(JournalHandler("spa-server", logging.NullHandler()))
    journal.warning("%s: %s", event.message, said, extra={"event": event})


def person() -> str:
    """Who runs this command, as a person: the login behind it, else the user it runs as."""
    actor = _actor()
    return actor.login or actor.user


def _actor() -> Actor:
    """Who runs this command, and the login behind it: the kernel's word where it has one, else sudo's."""
    login = ""
    try:
        number = int(Path("/proc/self/loginuid").read_text())
    except (OSError, ValueError):
        number = _NO_LOGIN
    if number != _NO_LOGIN:
        login = _name(number)
    return Actor(os.getuid(), _name(os.getuid()), login or os.environ.get("SUDO_USER", ""))


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
