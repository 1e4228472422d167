"""Reaching into a live process from outside: its sockets, its timers, its system calls, its memory limit.

Sources: pidfd_getfd(2), strace(1) on fault injection, prlimit(2). Everything is done to the real process and the real
kernel; nothing of the server knows of it.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

_PIDFD_GETFD = 438
_MEMORY_GROUPS = Path("/sys/fs/cgroup/memory")
"""The memory controller's own hierarchy, where there is one: a process put into a group there stays its unit's."""
_libc = ctypes.CDLL(None, use_errno=True)


def shut_channel(pid: int) -> bool:
    """Shut down the process's SOCK_SEQPACKET connections, both ways; whether there was one."""
    shut = False
    for sock in _sockets(pid):
        with sock:
            if sock.type == socket.SOCK_SEQPACKET and not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                with contextlib.suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)
                    shut = True
    return shut


def steal_answers(pid: int, for_s: float) -> int:
    """Take what the kernel answers on the process's netlink sockets before it can; how many were taken."""
    taken = 0
    with contextlib.ExitStack() as stack:
        thieves = [stack.enter_context(sock) for sock in _sockets(pid) if sock.family == socket.AF_NETLINK]
        end_s = time.monotonic() + for_s
        while thieves and time.monotonic() < end_s:
            for sock in thieves:
                with contextlib.suppress(OSError):
                    sock.recv(1 << 16, socket.MSG_DONTWAIT)
                    taken += 1
    return taken


def end_timers(pid: int) -> int:
    """Let the process's timers on descriptors (timerfd_create(2)) run out now; how many there were.

    Whoever waits for such a descriptor because it is cancelled when the clock is set is woken, as it would be then.
    """
    ended = 0
    for number in _descriptors(pid, "anon_inode:[timerfd]"):
        try:
            # struct itimerspec: no interval, and one nanosecond from now.
            ended += _libc.timerfd_settime(number, 0, (ctypes.c_long * 4)(0, 0, 0, 1), None) == 0
        finally:
            os.close(number)
    return ended


@contextlib.contextmanager
def failing(pid: int, call: str, error: str, chance: str) -> Iterator[None]:
    """Within the block a system call of the process fails; `chance` is strace's `when`, such as "1+3"."""
    with _injecting(pid, call, f"error={error}:when={chance}"):
        yield


@contextlib.contextmanager
def dying(pid: int, call: str, number: int) -> Iterator[None]:
    """Within the block the process is killed as it makes that call for the so-manyth time, before it is done."""
    with _injecting(pid, call, f"signal=SIGKILL:error=EINTR:when={number}"):
        yield


@contextlib.contextmanager
def _injecting(pid: int, call: str, what: str) -> Iterator[None]:
    argv = ["strace", "-qq", "-f", "-o", "/dev/null", "-p", str(pid), "-e", f"trace={call}"]
    argv += ["-e", f"inject={call}:{what}"]
    strace = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        end_s = time.monotonic() + 2
        while not _is_traced(pid) and strace.poll() is None and time.monotonic() < end_s:
            time.sleep(0.005)
        yield
    finally:
        strace.send_signal(signal.SIGTERM)
        strace.wait(10)


@contextlib.contextmanager
def memory_limited(pid: int, most_bytes: int) -> Iterator[None]:
    """Within the block the process may take that much more memory; the kernel kills it when it takes yet more."""
    if (
        not _MEMORY_GROUPS.exists()
    ):  # only the unified hierarchy: a limit of the address space, which is met as an error
        with _address_space_limited(pid, most_bytes):
            yield
        return
    group = _MEMORY_GROUPS / f"spa-chaos-{os.getpid()}"
    group.mkdir()
    try:
        (group / "memory.limit_in_bytes").write_text(str(most_bytes))
        (group / "cgroup.procs").write_text(str(pid))
        yield
    finally:
        with contextlib.suppress(OSError):
            (_MEMORY_GROUPS / "cgroup.procs").write_text(str(pid))
        end_s = time.monotonic() + 5
        while group.exists() and time.monotonic() < end_s:
            with contextlib.suppress(OSError):
                group.rmdir()


@contextlib.contextmanager
def _address_space_limited(pid: int, spare_bytes: int) -> Iterator[None]:
    before = resource.prlimit(pid, resource.RLIMIT_AS)
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[0])
    resource.prlimit(pid, resource.RLIMIT_AS, (pages * resource.getpagesize() + spare_bytes, before[1]))
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            resource.prlimit(pid, resource.RLIMIT_AS, before)


def _is_traced(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return "\nTracerPid:\t0\n" not in Path(f"/proc/{pid}/status").read_text()
    return True


def _sockets(pid: int) -> Iterator[socket.socket]:
    """Second descriptors of the process's sockets."""
    for number in _descriptors(pid, "socket:"):
        yield socket.socket(fileno=number)


def _descriptors(pid: int, kind: str) -> Iterator[int]:
    """Second descriptors of what the process holds open of that kind; to be closed by whoever takes them."""
    try:
        pidfd = os.pidfd_open(pid)
    except OSError:
        return
    try:
        for link in list(Path(f"/proc/{pid}/fd").iterdir()):
            with contextlib.suppress(OSError):
                if str(link.readlink()).startswith(kind):
                    number = _libc.syscall(_PIDFD_GETFD, pidfd, int(link.name), 0)
                    if number >= 0:
                        yield number
    finally:
        os.close(pidfd)
