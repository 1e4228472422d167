"""Which program the units start, and whether the service's users can run it and nobody else can change it."""

from __future__ import annotations

import grp
import os
import pwd
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import spa_server
from spa_server.install.step import StepFailed

HIDDEN = ("/home", "/root", "/run/user", "/tmp", "/var/tmp")  # noqa: S108  named because they are not to be used
"""What ProtectHome= and PrivateTmp= keep from the units (systemd.exec(5))."""

_MOVE = "install it elsewhere, from its checkout: python3 -m venv /opt/spa && /opt/spa/bin/pip install '.[server]'"


class CannotServe(StepFailed):
    """The units could not start the program, or others could change it; the message says what to do."""


def running_program() -> Path:
    """The program of this very command, links followed. Raises CannotServe where it is not one that a unit can name."""
    program = Path(os.path.realpath(sys.argv[0]))
    if not program.is_file() or not os.access(program, os.X_OK) or program.suffix == ".py":
        raise CannotServe("which program is the service to start? Name it: --program /opt/spa/bin/spa-server")
    return program


def check_place(program: Path) -> None:
    """Raise CannotServe unless the units see all that the program consists of, and only root can change it."""
    for path in _parts(program):
        for hidden in HIDDEN:
            if path.is_relative_to(hidden):
                raise CannotServe(f"{path} is in {hidden}, which the service does not see; {_MOVE}")
        for place in (path, *path.parents):
            if _others_may_change(place.stat()):
                raise CannotServe(
                    f"{place} can be changed by others than root, who could then run programs as the service: "
                    f"chown root:root {place}; chmod go-w {place}"
                )


def check_start(program: Path, user: str) -> None:
    """Raise CannotServe unless that user can start the program."""
    account = pwd.getpwnam(user)
    try:
        done = subprocess.run(  # noqa: S603 - the service's own program
            [program, "--version"],
            user=account.pw_uid,
            group=account.pw_gid,
            extra_groups=[],
            cwd="/",
            env={"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CannotServe(f"the user {user} cannot start {program}: {error}; {_MOVE}") from error
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise CannotServe(f"the user {user} cannot start {program}: {last}; {_MOVE}")


def _others_may_change(status: os.stat_result) -> bool:
    if status.st_uid != 0 or status.st_mode & stat.S_IWOTH:
        return True
    return bool(status.st_mode & stat.S_IWGRP) and status.st_gid not in _root_groups()


def _root_groups() -> set[int]:
    """Groups whose members are root in all but name: staff owns /usr/local on older Debian."""
    return {group.gr_gid for group in grp.getgrall() if group.gr_name in ("root", "staff")}


def _parts(program: Path) -> Iterator[Path]:
    """The program, its interpreter, the interpreter's libraries and our own code."""
    code = Path(spa_server.__file__).parent
    for part in (program, Path(sys.executable), Path(sys.prefix), Path(sys.base_prefix), code):
        yield Path(os.path.realpath(part))
