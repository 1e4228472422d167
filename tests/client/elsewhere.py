"""A plugin of pytest: the client's modules find what they would find on another system.

    python -m pytest -p tests.client.elsewhere --as-on windows tests/client

They alone: in each module of `spa_client` and `spa_protocol`, and nowhere else, an import of a module that the system
does not have fails, and what it lacks in `os`, `socket` and the like is not there. So the tests themselves, and the
libraries, go on as before. Of what a system has and Linux has not (the registry, kqueue) only Windows' locks of files
are played.
"""

from __future__ import annotations

import builtins
import errno
import fcntl
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

import pytest

_OURS = ("spa_client", "spa_protocol")


def _names(table: str) -> dict[str, frozenset[str]]:
    """The names listed under each module of a table."""
    rows = (row.split() for row in table.strip().splitlines())
    listed: dict[str, frozenset[str]] = {}
    for module, *names in rows:
        listed[module] = listed.get(module, frozenset()) | frozenset(names)
    return listed


_ONLY_LINUX = _names("""
os         O_DIRECT O_PATH O_TMPFILE copy_file_range eventfd getrandom memfd_create pidfd_open sched_getaffinity
os         sched_setaffinity setns splice unshare
select     epoll
selectors  EpollSelector
signal     SIGPWR SIGRTMAX SIGRTMIN SIGSTKFLT sigtimedwait sigwaitinfo
socket     AF_ALG AF_NETLINK AF_PACKET AF_VSOCK IP_RECVERR MSG_ERRQUEUE SOCK_CLOEXEC SOCK_NONBLOCK SO_BINDTODEVICE
socket     SO_MARK TCP_QUICKACK TCP_USER_TIMEOUT
time       CLOCK_BOOTTIME CLOCK_TAI
""")
_ONLY_POSIX = _names("""
os         O_CLOEXEC O_DIRECTORY O_NOCTTY O_NOFOLLOW O_NONBLOCK WEXITSTATUS WIFSIGNALED chown chroot fchdir fchmod
os         fchown fdatasync fork forkpty getegid geteuid getgid getgroups getpgid getpgrp getsid getuid initgroups
os         killpg lchown mkfifo mknod nice openpty pipe2 posix_spawn pread pwrite register_at_fork setegid seteuid
os         setgid setpgid setsid setuid statvfs sync tcgetpgrp tcsetpgrp ttyname uname wait wait3 wait4
select     poll
selectors  PollSelector
signal     ITIMER_REAL SIGALRM SIGCHLD SIGCONT SIGHUP SIGKILL SIGPIPE SIGQUIT SIGSTOP SIGTSTP SIGTTIN SIGTTOU SIGURG
signal     SIGUSR1 SIGUSR2 SIGWINCH alarm pause pthread_kill pthread_sigmask setitimer siginterrupt sigpending sigwait
socket     AF_UNIX CMSG_LEN MSG_DONTWAIT MSG_NOSIGNAL SCM_RIGHTS SO_REUSEPORT
time       CLOCK_MONOTONIC clock_gettime clock_settime tzset
""")
_MODULES_OF_POSIX = """
_posixsubprocess crypt curses fcntl grp nis ossaudiodev posix pty pwd readline resource spwd syslog termios tty
"""


def _locks_of_windows() -> ModuleType:
    """The module msvcrt, as far as it locks files."""
    played = ModuleType("msvcrt")

    def locking(descriptor: int, mode: int, size: int) -> None:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise PermissionError(errno.EACCES, "locked by another") from None

    vars(played).update({"LK_NBLCK": 2, "locking": locking})
    return played


@dataclass(frozen=True, slots=True)
class System:
    """Another system. `platform`: its `sys.platform`. `modules`, `names`: what of Python's it lacks. `played`: what it
    has and Linux has not.
    """

    platform: str
    modules: frozenset[str] = frozenset({"ossaudiodev", "spwd"})
    names: Mapping[str, frozenset[str]] = field(default_factory=lambda: _ONLY_LINUX)
    played: Mapping[str, ModuleType] = field(default_factory=dict)


SYSTEMS = {
    "macos": System("darwin"),
    "windows": System(
        "win32",
        frozenset(_MODULES_OF_POSIX.split()),
        {name: _ONLY_LINUX[name] | _ONLY_POSIX[name] for name in _ONLY_LINUX},
        {"msvcrt": _locks_of_windows()},
    ),
}


class _Poorer(ModuleType):
    """A module without some of its names; everything else is that of the real one at that moment."""

    def __init__(self, real: ModuleType, lacks: frozenset[str], has: Mapping[str, object]) -> None:
        super().__init__(real.__name__, real.__doc__)
        self._real, self._lacks = real, lacks
        vars(self).update(has)

    def __getattr__(self, name: str) -> object:
        if name in self._lacks:
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r} on that system")
        return getattr(self._real, name)


class _Elsewhere(MetaPathFinder):
    """Finds our own modules, and gives each another `import`."""

    def __init__(self, system: System) -> None:
        self._system = system
        self._poorer: dict[str, ModuleType] = {}
        self._import = builtins.__import__

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname.split(".")[0] not in _OURS:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader, self.import_there)
        return spec

    def import_there(
        self,
        name: str,
        globals: Mapping[str, object] | None = None,
        locals: Mapping[str, object] | None = None,
        fromlist: Sequence[str] = (),
        level: int = 0,
    ) -> ModuleType:
        """As `__import__` on that system."""
        top = name.split(".")[0]
        if level == 0 and top in self._system.modules:
            raise ModuleNotFoundError(f"No module named {name!r} on {self._system.platform}", name=name)
        if level == 0 and name in self._system.played:
            return self._system.played[name]
        found = self._import(name, globals, locals, fromlist, level)
        if level == 0 and (found.__name__ == "sys" or found.__name__ in self._system.names):
            return self._poorer.setdefault(found.__name__, self._without(found))
        return found

    def _without(self, real: ModuleType) -> ModuleType:
        has = {"platform": self._system.platform} if real.__name__ == "sys" else {}
        return _Poorer(real, self._system.names.get(real.__name__, frozenset()), has)


class _Loader(Loader):
    """The real loader of one of our modules, which then imports as on the other system."""

    def __init__(self, real: Loader, import_there: Callable[..., ModuleType]) -> None:
        self._real, self._import_there = real, import_there

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._real.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        vars(module)["__builtins__"] = {**vars(builtins), "__import__": self._import_there}
        self._real.exec_module(module)

    def __getattr__(self, name: str) -> object:
        return getattr(self._real, name)


def pytest_addoption(parser: pytest.Parser) -> None:
    """The option that chooses the system."""
    parser.addoption("--as-on", choices=tuple(SYSTEMS), required=True, help="the system that the client is to find")


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> None:
    """Before any conftest, and so any module of the client, is imported."""
    move_to(early_config.known_args_namespace.as_on)


def move_to(system: str) -> None:
    """Mislead the client's modules from now on, for the rest of this process."""
    early = [name for name in sys.modules if name.split(".")[0] in _OURS]
    assert not early, f"imported before they could be misled: {early}"
    sys.meta_path.insert(0, _Elsewhere(SYSTEMS[system]))
