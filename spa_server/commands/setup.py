"""`spa-server init`: configuration, keys and state of a new server."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import socket
import subprocess
from pathlib import Path

import click

from spa_protocol.keys import KEY_SIZE
from spa_server.commands.exits import EXIT_CODES, Exit, Stop, need_root, plain_errors
from spa_server.commands.state import config_option, json_option
from spa_server.config import DEFAULT_CONTROL_SOCKET, DEFAULT_STATE_FOLDER, DEFAULT_USER, load, template
from spa_server.privilege import NoSuchUser, acting_as_owner_of, find_user
from spa_server.remember.fence import mark_new, read_boot_id
from spa_server.remember.identity import ServerIdentity, create_identity
from spa_server.remember.store import open_store


@click.command(epilog=EXIT_CODES)
@click.option(
    "--address",
    "addresses",
    multiple=True,
    help="How clients reach this host: a name or an IP address; up to four. Default: this host's full name.",
)
@click.option("--state-folder", type=click.Path(path_type=Path), default=DEFAULT_STATE_FOLDER, show_default=True)
@click.option("--control-socket", type=click.Path(path_type=Path), default=DEFAULT_CONTROL_SOCKET, show_default=True)
@click.option("--user", default=DEFAULT_USER, show_default=True, help="The network process's user; made if missing.")
@json_option
@config_option
def init(
    addresses: tuple[str, ...], state_folder: Path, control_socket: Path, user: str, as_json: bool, config_path: Path
) -> None:
    """Make the keys, a commented server.toml and the state folder. Overwrites nothing.

    \b
    Examples:
      spa-server init --address gw.example.org
      spa-server init --address 192.0.2.1 --address 2001:db8::1
    """
    need_root("making the server's keys and folders")
    with plain_errors():
        _refuse_to_overwrite(config_path, state_folder)
        text = _template(addresses or (socket.getfqdn(),), state_folder, control_socket, user)
        account = _find_or_make_user(user)
        _make_folder(state_folder, account)
        with acting_as_owner_of(state_folder):
            with open_store(state_folder, create=True) as store:
                mark_new(store, read_boot_id())
            identity = create_identity(state_folder, os.urandom(KEY_SIZE))
        config_path.parent.mkdir(parents=True, exist_ok=True)
        with config_path.open("x", encoding="utf-8") as file:
            file.write(text)
        load(config_path)
    _say(as_json, identity, config_path, state_folder)


def _refuse_to_overwrite(config_path: Path, state_folder: Path) -> None:
    for path in (config_path, state_folder / "state.sqlite3", state_folder / "server.key"):
        if path.exists():
            raise Stop(Exit.REFUSED, f"{path} exists already and is not overwritten; move it away to start anew")


def _make_folder(folder: Path, account: pwd.struct_passwd) -> None:
    """A folder of the user's own. One that is there is taken only when it is empty: its files are not ours to give."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise Stop(Exit.REFUSED, f"{folder} is there already and not empty; choose another with --state-folder")
    os.chown(folder, account.pw_uid, account.pw_gid, follow_symlinks=False)
    folder.chmod(0o700)


def _template(addresses: tuple[str, ...], state_folder: Path, control_socket: Path, user: str) -> str:
    try:
        return template(addresses, state_folder=str(state_folder), control_socket=str(control_socket), user=user)
    except ValueError as error:
        raise Stop(Exit.USAGE, f"{error}; see --address") from error


def _find_or_make_user(name: str) -> pwd.struct_passwd:
    try:
        return find_user(name)
    except NoSuchUser:
        useradd = shutil.which("useradd")
        if useradd is None or name == "root":
            raise
        done = subprocess.run(  # noqa: S603 - a fixed program, and the name stands after --
            [useradd, "--system", "--home-dir", "/", "--no-create-home", "--shell", "/usr/sbin/nologin", "--", name],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise Stop(Exit.FAULT, f"useradd {name}: {done.stderr.strip()}") from None
        click.echo(f"made the system user {name}", err=True)
        return find_user(name)


def _say(as_json: bool, identity: ServerIdentity, config_path: Path, state_folder: Path) -> None:
    if as_json:
        click.echo(json.dumps({"identity": identity.text, "config": str(config_path), "state": str(state_folder)}))
        return
    click.echo(f"configuration  {config_path}   (read it: services and roles are there)")
    click.echo(f"state and keys {state_folder}   (private; back it up)")
    click.echo(f"identity       {identity.text}")
    click.echo("next           spa-server run, then spa-server invite LABEL --user USER --role ROLE")
