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
from spa_server import policy_file
from spa_server.commands.exits import EXIT_CODES, Exit, Stop, need_root, plain_errors
from spa_server.commands.options import config_option, json_option
from spa_server.config import DEFAULT_CONTROL_SOCKET, DEFAULT_PATH, DEFAULT_STATE_FOLDER, DEFAULT_USER, load
from spa_server.config_template import template
from spa_server.decide.vocabulary import DEFAULT_POLICY
from spa_server.privilege import NoSuchUser, acting_as_owner_of, find_user
from spa_server.remember.fence import mark_new
from spa_server.remember.identity import FILE_NAME, ServerIdentity, create_identity
from spa_server.remember.store import open_store


@click.command(epilog=EXIT_CODES)
@click.option(
    "--address",
    "addresses",
    multiple=True,
    help="How clients reach this host: a name or an IP address; up to four. Default: this host's full name.",
)
@click.option(
    "--state-folder",
    type=click.Path(path_type=Path, readable=False),
    default=DEFAULT_STATE_FOLDER,
    show_default=True,
    help="Where the registry and what has been used are kept.",
)
@click.option(
    "--control-socket",
    type=click.Path(path_type=Path, readable=False),
    default=DEFAULT_CONTROL_SOCKET,
    show_default=True,
    help="Where the commands reach the running server.",
)
@click.option("--user", default=DEFAULT_USER, show_default=True, help="The network process's user; made if missing.")
@click.option("--state-only", is_flag=True, help="Make only an empty state, where server.toml says; for a lost one.")
@json_option
@config_option
def init(
    addresses: tuple[str, ...],
    state_folder: Path,
    control_socket: Path,
    user: str,
    state_only: bool,
    as_json: bool,
    config_path: Path,
) -> None:
    """Make the keys, a commented server.toml and the state folder. Overwrites nothing.

    \b
    Examples:
      spa-server init --address gw.example.org
      spa-server init --address 192.0.2.1 --address 2001:db8::1
    """
    need_root("making the server's keys and folders")
    if state_only:
        _make_lost_state(config_path)
        return
    with plain_errors():
        identity = make_server(addresses, state_folder, control_socket, user, config_path)
    _say(as_json, identity, config_path, config_path.parent / FILE_NAME, state_folder)


def make_server(
    addresses: tuple[str, ...],
    state_folder: Path,
    control_socket: Path = Path(DEFAULT_CONTROL_SOCKET),
    user: str = DEFAULT_USER,
    config_path: Path = DEFAULT_PATH,
) -> ServerIdentity:
    """Make the keys, server.toml and the state folder, and the user where it is missing. Overwrites nothing."""
    key_path = config_path.parent / FILE_NAME
    _refuse_to_overwrite(config_path, key_path, state_folder / "state.sqlite3", state_folder / FILE_NAME)
    policy_path = config_path.parent / policy_file.FILE_NAME
    text = _template(addresses or (socket.getfqdn(),), state_folder, control_socket, user, policy_path)
    account = _find_or_make_user(user)
    _make_folder(state_folder, account)
    with acting_as_owner_of(state_folder), open_store(state_folder, create=True) as store:
        mark_new(store)
    config_path.parent.mkdir(parents=True, exist_ok=True)
    identity = create_identity(key_path, os.urandom(KEY_SIZE))
    if not policy_path.exists():
        policy_path.write_text(DEFAULT_POLICY, encoding="utf-8")
    with config_path.open("x", encoding="utf-8") as file:
        file.write(text)
    # Noted by a server that had another key, whose datagrams mean nothing to this one.
    load(config_path).newest_use_file.unlink(missing_ok=True)
    return identity


def _make_lost_state(config_path: Path) -> None:
    """An empty state for a server that has its configuration and key: what is left of the old one stays beside it."""
    with plain_errors():
        config = load(config_path)
        _refuse_to_overwrite(config.state_folder / "state.sqlite3")
        account = find_user(config.user)
        config.state_folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if config.state_folder.lstat().st_uid == 0:
            os.chown(config.state_folder, account.pw_uid, account.pw_gid, follow_symlinks=False)
        # Not marked as new: what the lost one knew to be used is void by the fence of its first start.
        with acting_as_owner_of(config.state_folder):
            open_store(config.state_folder, create=True).close()
    click.echo(f"an empty state is in {config.state_folder}; devices come back with: spa-server device import FILE")


def _refuse_to_overwrite(*paths: Path) -> None:
    for path in paths:
        if path.exists():
            raise Stop(Exit.REFUSED, f"{path} exists already and is not overwritten; move it away to start anew")


def _make_folder(folder: Path, account: pwd.struct_passwd) -> None:
    """A folder of the user's own. One that is there is taken only when it is empty: its files are not ours to give."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise Stop(Exit.REFUSED, f"{folder} is there already and not empty; choose another with --state-folder")
    os.chown(folder, account.pw_uid, account.pw_gid, follow_symlinks=False)
    folder.chmod(0o700)


def _template(
    addresses: tuple[str, ...], state_folder: Path, control_socket: Path, user: str, policy_path: Path
) -> str:
    try:
        return template(
            addresses,
            state_folder=str(state_folder),
            control_socket=str(control_socket),
            user=user,
            policy_file=str(policy_path.absolute()),
        )
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


def _say(as_json: bool, identity: ServerIdentity, config_path: Path, key_path: Path, state_folder: Path) -> None:
    if as_json:
        paths = {"config": str(config_path), "key": str(key_path), "state": str(state_folder)}
        click.echo(json.dumps({"identity": identity.text, **paths}))
        return
    click.echo(f"configuration  {config_path}   (read it: services and roles are there)")
    click.echo(f"policy         {config_path.parent / policy_file.FILE_NAME}   (who may open what, when and how)")
    click.echo(f"server's key   {key_path}   (private; back it up)")
    click.echo(f"state          {state_folder}   (private; back it up)")
    click.echo(f"identity       {identity.text}")
    click.echo("next           spa-server run, then spa-server invite LABEL --user USER --role ROLE")
