"""What most commands start from: the configuration, the registry, and word to the running server."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from spa_server.commands.exits import Exit, Stop
from spa_server.commands.recording import Edit, recorded
from spa_server.config import ServerConfig, load
from spa_server.privilege import acting_as_owner_of
from spa_server.remember.identity import ServerIdentity, identity_path, read_identity
from spa_server.remember.registry import Registry
from spa_server.remember.store import Store, open_store
from spa_server.tell.control import NotRunning, ask

BUSY_MS = 5_000
"""How long a command waits for the state file; a person is less in a hurry than a knock."""


@contextmanager
def opened_store(config_path: Path) -> Iterator[tuple[ServerConfig, Store]]:
    """The configuration and the open state file; within the block the command acts as the owner of the state."""
    config = load(config_path)
    _need_owner(config.state_folder)
    with acting_as_owner_of(config.state_folder), open_store(config.state_folder, busy_ms=BUSY_MS) as store:
        yield config, store


@contextmanager
def store_to_edit(config_path: Path, edit: Edit) -> Iterator[tuple[ServerConfig, Store]]:
    """The state file, with the edit on record; after the block a running server is told.

    The server has taken the edit in when this returns.
    """
    config = load(config_path)
    _need_owner(config.state_folder)
    with recorded(config, edit), opened_store(config_path) as (_, store):
        yield config, store
    tell_server(config)


@contextmanager
def registry_to_edit(config_path: Path, edit: Edit) -> Iterator[tuple[ServerConfig, Registry]]:
    """As `store_to_edit`, for commands that need the registry only."""
    with store_to_edit(config_path, edit) as (config, store):
        yield config, Registry(store)


def own_identity(config: ServerConfig) -> ServerIdentity:
    """The server's key, read as the owner of the folder that it is in. Raises StateError."""
    _need_owner(config.state_folder)
    path = identity_path(config.path, config.state_folder)
    with acting_as_owner_of(path.parent):
        return read_identity(path)


def _need_owner(state_folder: Path) -> None:
    """End unless root asks, or the user whose state it is: to others nothing is wrong with its owner and mode."""
    try:
        owner = state_folder.lstat().st_uid
    except OSError:  # what is wrong with it is said when it is opened
        return
    if os.geteuid() not in (0, owner):
        raise Stop(Exit.NOT_PERMITTED, "the registry is for root: run it with sudo")


def tell_server(config: ServerConfig) -> None:
    """Have a running server read the registry again. Without one there is nobody to tell."""
    try:
        reply = ask(config.control_socket, "refresh")
    except NotRunning:
        return
    if "error" in reply:
        click.echo(f"spa-server: saved, but the running server says: {reply['error']}", err=True)


def now_s() -> int:
    """UTC, seconds since 1970."""
    return int(time.time())
