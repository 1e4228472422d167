"""Who may read and change what the server's security rests on: configuration, key, state folder, sockets.

Judging is pure, over what stat(2) said; `read_paths` looks.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import stat
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from spa_server.examine.findings import Finding, Severity

ROOT = 0


@dataclass(frozen=True, slots=True)
class PathState:
    """A file as stat(2) shows it; `seen` is False where this user may not look."""

    mode: int = 0
    user: int = 0
    exists: bool = True
    seen: bool = True

    @property
    def permissions(self) -> str:
        """Its mode as chmod(1) takes it."""
        return f"{stat.S_IMODE(self.mode):04o}"

    def is_writable_by_others(self) -> bool:
        """By its group or everybody; a sticky folder does not let others replace what is in it."""
        return bool(self.mode & 0o022) and not (stat.S_ISDIR(self.mode) and self.mode & stat.S_ISVTX)


Paths = Mapping[Path, PathState]


def read_paths(paths: Iterable[Path]) -> dict[Path, PathState]:
    """What stat(2) says of each."""
    return {path: _state(path) for path in paths}


def _state(path: Path) -> PathState:
    try:
        found = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return PathState(exists=False)
    except OSError:
        return PathState(seen=False)
    return PathState(found.st_mode, found.st_uid)


def with_parents(path: Path) -> tuple[Path, ...]:
    """A file and every folder above it: who may change one of these may put another file in its place."""
    return (path, *path.parents)


def config_findings(config: Path, paths: Paths) -> Iterator[Finding]:
    """Whoever can change the configuration can open anything."""
    bad = False
    for path in with_parents(config):
        state = paths.get(path, PathState(seen=False))
        if not state.seen or not state.exists:
            continue
        if state.user != ROOT:
            bad = True
            yield Finding(
                "config-owner",
                Severity.DANGER,
                f"{path} belongs to {_name(state.user)}, who can so change what the server opens",
                f"owner {_name(state.user)}, mode {state.permissions}",
                f"chown root {path}",
            )
        if state.is_writable_by_others():
            bad = True
            yield Finding(
                "config-writable",
                Severity.DANGER,
                f"others than root can change {path}, and so what the server opens",
                f"mode {state.permissions}",
                f"chmod go-w {path}",
            )
    if not bad:
        yield Finding("config-permissions", Severity.OK, f"only root can change {config}")


def state_findings(folder: Path, user: str, user_id: int | None, paths: Paths) -> Iterator[Finding]:
    """The state folder holds the gate secrets: it is for the server's user alone."""
    state = paths.get(folder, PathState(seen=False))
    if user_id is None:
        yield Finding(
            "no-user",
            Severity.WARNING,
            f"there is no user {user}, as whom the server is to run",
            "the user database",
            f"useradd --system --home-dir /nonexistent --shell /usr/sbin/nologin {user}",
        )
    if not state.seen:
        yield Finding("state-unseen", Severity.NOTE, f"{folder} could not be looked at", "", "run it as root")
        return
    if not state.exists:
        yield Finding(
            "no-state", Severity.WARNING, f"{folder} does not exist: no device can be known", "", "spa-server init"
        )
        return
    if state.mode & 0o077:
        yield Finding(
            "state-open",
            Severity.DANGER,
            f"others can get into {folder}, which holds the gate secrets",
            f"mode {state.permissions}",
            f"chmod 700 {folder}",
        )
    elif user_id is not None and state.user not in (user_id,):
        yield Finding(
            "state-owner",
            Severity.WARNING,
            f"{folder} does not belong to {user}: the server cannot record used slots, and so grants nothing",
            f"owner {_name(state.user)}",
            f"chown -R {user} {folder}",
        )
    else:
        yield Finding("state-permissions", Severity.OK, f"{folder} is for {user} alone")


def key_findings(keys: Iterable[Path], paths: Paths, allowed: frozenset[int]) -> Iterator[Finding]:
    """Whoever reads the server's key can answer in its name."""
    there = [key for key in keys if paths.get(key, PathState(exists=False)).exists]
    for key in there:
        state = paths[key]
        if not state.seen:
            yield Finding("key-unseen", Severity.NOTE, f"{key} could not be looked at", "", "run it as root")
        elif state.mode & 0o077:
            yield Finding(
                "key-open",
                Severity.DANGER,
                f"others can read {key}, and so answer clients in this server's name",
                f"mode {state.permissions}",
                f"chmod 600 {key}",
            )
        elif state.user not in allowed:
            yield Finding(
                "key-owner",
                Severity.DANGER,
                f"{key} belongs to {_name(state.user)}",
                f"owner {_name(state.user)}",
                f"chown root {key}",
            )
        else:
            yield Finding("key-permissions", Severity.OK, f"{key} is kept from others", f"mode {state.permissions}")
    if not there:
        yield Finding("no-key", Severity.WARNING, "the server has no key yet", "", "spa-server init")


def socket_findings(socket: Path, paths: Paths) -> Iterator[Finding]:
    """Everybody who may write to the control socket can ask for the status; nobody else should."""
    state = paths.get(socket, PathState(exists=False))
    if state.exists and state.seen and state.mode & 0o007:
        yield Finding(
            "control-open",
            Severity.DANGER,
            f"every user can talk to {socket}",
            f"mode {state.permissions}",
            f"chmod o= {socket}",
        )


def user_id(name: str) -> int | None:
    """The number of a system user; None where there is none."""
    with contextlib.suppress(KeyError):
        return pwd.getpwnam(name).pw_uid
    return None


def disk_findings(folders: Iterable[Path]) -> Iterator[Finding]:
    """The server grants nothing that it cannot record: a full disk closes it to everybody."""
    seen: set[int] = set()
    for folder in folders:
        with contextlib.suppress(OSError):
            device = folder.stat().st_dev
            if device in seen:
                continue
            seen.add(device)
            found = os.statvfs(folder)
            free_mib = found.f_bavail * found.f_frsize >> 20
            inodes_out = found.f_files > 0 and found.f_favail == 0
            evidence = f"{free_mib} MiB free" + (", no inode" if inodes_out else "")
            if free_mib < 16 or inodes_out:
                what, severity = f"the disk of {folder} is all but full: then nothing is granted", Severity.WARNING
                yield Finding("disk-full", severity, what, evidence, f"make room: du -xsh {folder}")
            else:
                yield Finding("disk", Severity.OK, f"the disk of {folder} has room", evidence)


def _name(user: int) -> str:
    with contextlib.suppress(KeyError):
        return pwd.getpwuid(user).pw_name
    return str(user)
