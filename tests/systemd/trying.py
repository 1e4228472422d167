"""What a taken-over process would try: run in the machine in the place of a unit's program, without the project.

python3 trying.py FILE      writes what came of each attempt to FILE, as JSON
"""

from __future__ import annotations

import ctypes
import json
import mmap
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

CLONE_NEWUSER, CLONE_NEWNET = 0x10000000, 0x40000000
PTRACE_SEIZE, ADDR_NO_RANDOMIZE = 0x4206, 0x0040000
AF_PACKET, AF_VSOCK, AF_BLUETOOTH = 17, 40, 31
NFPROTO_ROUTE, NETFILTER = 0, 12
_libc = ctypes.CDLL(None, use_errno=True)


def called(name: str, *arguments: int) -> None:
    """Call a function of libc; OSError when it fails."""
    if getattr(_libc, name)(*(ctypes.c_long(argument) for argument in arguments)) == -1:
        raise OSError(ctypes.get_errno(), name)


def opened(family: int, kind: int = socket.SOCK_DGRAM, protocol: int = 0) -> None:
    """Open a socket."""
    socket.socket(family, kind, protocol).close()


def wrote(path: str) -> None:
    """Write to a file, which is then removed."""
    Path(path).write_text("1")
    Path(path).unlink()


def made_set_user_id(path: Path) -> None:
    """Make a set-user-id file, which is then removed."""
    path.touch()
    try:
        path.chmod(0o4755)
    finally:
        path.unlink()


ATTEMPTS: dict[str, Callable[[], object]] = {
    "netlink": lambda: opened(socket.AF_NETLINK, socket.SOCK_RAW, NETFILTER),
    "internet": lambda: opened(socket.AF_INET),
    "packet": lambda: opened(AF_PACKET, socket.SOCK_RAW, 0x0300),
    "raw": lambda: opened(socket.AF_INET, socket.SOCK_RAW, 1),
    "vsock": lambda: opened(AF_VSOCK, socket.SOCK_STREAM),
    "bluetooth": lambda: opened(AF_BLUETOOTH, socket.SOCK_RAW, 1),
    "user namespace": lambda: called("unshare", CLONE_NEWUSER),
    "network namespace": lambda: called("unshare", CLONE_NEWNET),
    "root": lambda: os.setuid(0),
    "mount": lambda: called("mount", 0, 0, 0, 4096, 0),
    "reboot": lambda: called("reboot", 0x1234567),
    "personality": lambda: called("personality", ADDR_NO_RANDOMIZE),
    "clock": lambda: time.clock_settime(time.CLOCK_REALTIME, time.time()),
    "trace": lambda: called("ptrace", PTRACE_SEIZE, os.getppid(), 0, 0),
    "writable code": lambda: mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC).close(),
    "kernel log": lambda: called("klogctl", 10, 0, 0),
    "keyring": lambda: called("syscall", 250, 0, -3, 0, 0, 0),
    "other processes": lambda: Path("/proc/1/status").read_text(),
    "sysctl": lambda: Path("/proc/sys/net/ipv4/ip_forward").write_text("1"),
    "settings": lambda: wrote("/etc/try"),
    "programs": lambda: wrote("/usr/local/bin/try"),
    "devices": lambda: Path("/dev/sda").read_bytes(),
    "ruleset": lambda: subprocess.run(["nft", "add", "table", "inet", "try"], check=True, capture_output=True),
    "set-user-id": lambda: made_set_user_id(Path(sys.argv[1]).with_name("suid")),
    "own state": lambda: wrote(str(Path(sys.argv[1]).with_name("try"))),
}


def outcome(attempt: Callable[[], object]) -> str:
    """ "done", or the name of what prevented it."""
    try:
        attempt()
    except (OSError, subprocess.SubprocessError) as error:
        return type(error).__name__
    return "done"


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(json.dumps({name: outcome(attempt) for name, attempt in ATTEMPTS.items()}))
