"""Steps that make and remove the service's users and their group."""

from __future__ import annotations

import grp
import pwd

from spa_server.install import layout
from spa_server.install.step import Step, find, run


def make_users() -> Step:
    """The two users and the group, by systemd-sysusers where there is one."""

    def is_done() -> bool:
        return all(map(has_user, layout.USERS)) and _has_group(layout.GROUP)

    return Step(f"make the users {' and '.join(layout.USERS)}", is_done, _make)


def remove_user(name: str) -> Step:
    """The user, and with it the group of its own."""
    return Step(f"remove the user {name}", lambda: not has_user(name), lambda: run("userdel", name))


def remove_group(name: str) -> Step:
    """A group that no user's removal took along."""
    return Step(f"remove the group {name}", lambda: not _has_group(name), lambda: run("groupdel", name))


def has_user(name: str) -> bool:
    """Whether this host knows the user."""
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True


def _make() -> None:
    if find("systemd-sysusers"):
        run("systemd-sysusers", str(layout.SYSUSERS))
        return
    if not _has_group(layout.GROUP):
        run("groupadd", "--system", layout.GROUP)
    shell = find("nologin") or "/bin/false"
    for user in (user for user in layout.USERS if not has_user(user)):
        group = ["--gid", layout.GROUP] if user == layout.GROUP else ["--user-group"]
        run("useradd", "--system", *group, "--home-dir", "/", "--no-create-home", "--shell", shell, user)


def _has_group(name: str) -> bool:
    try:
        grp.getgrnam(name)
    except KeyError:
        return False
    return True
