"""Giving privileges up, for good: who each of the two processes is after the split.

The network process becomes, or was started as, an unprivileged user without any capability; the firewall process keeps
CAP_NET_ADMIN and nothing else. Neither can gain any by running a program (no_new_privs). Sources: capabilities(7),
prctl(2).
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import pwd
from collections.abc import Iterator
from pathlib import Path

CAP_NET_ADMIN = 12

_PR_SET_DUMPABLE = 4
_PR_CAPBSET_READ = 23
_PR_CAPBSET_DROP = 24
_PR_SET_NO_NEW_PRIVS = 38
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_RAISE = 2
_PR_CAP_AMBIENT_CLEAR_ALL = 4
_CAPABILITY_VERSION_3 = 0x20080522

_libc = ctypes.CDLL(None, use_errno=True)


class NoSuchUser(Exception):
    """The user the network process is to run as does not exist; the message says how to make it."""


def find_user(name: str) -> pwd.struct_passwd:
    """The account. Raises NoSuchUser, also for root, which the network process must not be."""
    try:
        account = pwd.getpwnam(name)
    except KeyError:
        raise NoSuchUser(
            f"there is no user {name}: useradd --system --home-dir / --shell /usr/sbin/nologin {name}"
        ) from None
    if account.pw_uid == 0:
        raise NoSuchUser("the network process must not run as root; name another user in server.user")
    return account


@contextlib.contextmanager
def acting_as_owner_of(folder: Path) -> Iterator[None]:
    """As root, be the folder's owner for the time of the block, or who could make it where there is none; else stay.

    Root must not follow what an unprivileged process may have put into a folder of its own: links, and the journals of
    a database, which name further files to delete.
    """
    while not os.path.lexists(folder) and folder != folder.parent:
        folder = folder.parent
    owner = folder.lstat()
    if os.geteuid() != 0 or owner.st_uid == 0:
        yield
        return
    groups, group = os.getgroups(), os.getegid()
    os.setgroups([owner.st_gid])
    os.setegid(owner.st_gid)
    os.seteuid(owner.st_uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(group)
        os.setgroups(groups)


def become_unprivileged(account: pwd.struct_passwd) -> None:
    """Become that user with no group but its own and no capability.

    Raises OSError where the kernel refuses; then the process must end.
    """
    _drop_bounding_set(keep=frozenset())
    os.setgroups([])
    os.setresgid(account.pw_gid, account.pw_gid, account.pw_gid)
    os.setresuid(account.pw_uid, account.pw_uid, account.pw_uid)
    _set_capabilities(0)
    _finish()


def give_up_the_rest() -> None:
    """As a process that was started unprivileged: make sure that no capability is left, nor can be had again.

    Raises OSError where the kernel refuses; then the process must end.
    """
    with contextlib.suppress(PermissionError):  # without CAP_SETPCAP; the service manager has emptied it
        _drop_bounding_set(keep=frozenset())
    if _permitted():  # a service manager that gave none also forbids capset(2)
        _set_capabilities(0)
    _finish()


def keep_only_net_admin() -> None:
    """Keep CAP_NET_ADMIN alone. Raises OSError where the kernel refuses; then the process must end.

    As a user other than root, who was given it as an ambient capability, it stays inheritable, for `lending_net_admin`.
    """
    if os.geteuid() == 0:
        _drop_bounding_set(keep=frozenset({CAP_NET_ADMIN}))
        os.setgroups([])
        _set_capabilities(1 << CAP_NET_ADMIN)
    elif _permitted() != 1 << CAP_NET_ADMIN:  # a service manager that gave just this one also forbids capset(2)
        _set_capabilities(1 << CAP_NET_ADMIN, inheritable=1 << CAP_NET_ADMIN)
    _finish()


@contextlib.contextmanager
def lending_net_admin() -> Iterator[None]:
    """Within the block programs that are run have CAP_NET_ADMIN if this process has; as root they always do."""
    if os.geteuid() == 0 or not _permitted() >> CAP_NET_ADMIN & 1:
        yield
        return
    _prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, CAP_NET_ADMIN)
    try:
        yield
    finally:
        _prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL)


def _permitted() -> int:
    status = Path("/proc/self/status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("CapPrm:")), 16)


def _finish() -> None:
    _prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL)
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    # No core dump with secrets in it, and no tracing by processes of the same user.
    _prctl(_PR_SET_DUMPABLE, 0)


def _drop_bounding_set(keep: frozenset[int]) -> None:
    for capability in range(64):
        if capability not in keep and _libc.prctl(_PR_CAPBSET_READ, capability, 0, 0, 0) == 1:
            _prctl(_PR_CAPBSET_DROP, capability)


def _set_capabilities(mask: int, inheritable: int = 0) -> None:
    """Set effective and permitted to the mask (capset(2), version 3)."""
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    low, high = mask & 0xFFFFFFFF, mask >> 32
    data = (ctypes.c_uint32 * 6)(low, low, inheritable & 0xFFFFFFFF, high, high, inheritable >> 32)
    if _libc.capset(header, data) != 0:
        _raise("capset")


def _prctl(option: int, argument: int, second: int = 0) -> None:
    arguments = (ctypes.c_ulong(each) for each in (argument, second, 0, 0))
    if _libc.prctl(option, *arguments) != 0:
        _raise(f"prctl {option}")


def _raise(what: str) -> None:
    number = ctypes.get_errno()
    raise OSError(number, f"{what}: {os.strerror(number)}")
