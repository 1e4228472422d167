"""Which processes listen where, from the texts of /proc/net and the links in /proc/PID/fd.

Parsing is pure; `read_listeners` is the only function here that looks. Source: proc_net_tcp in the kernel's
Documentation/networking.
"""

from __future__ import annotations

import contextlib
import os
import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

from spa_server.service import Address

LISTEN, UNCONNECTED = "0A", "07"
"""States of TCP and UDP sockets that wait for anybody."""
TABLES = ("tcp", "tcp6", "udp", "udp6")


@dataclass(frozen=True, slots=True)
class Process:
    """A process that holds a socket; `arguments` is its command line."""

    pid: int
    name: str
    arguments: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.name} (pid {self.pid})"


@dataclass(frozen=True, slots=True)
class Listener:
    """A socket that waits for anybody. No `process` where that could not be seen."""

    protocol: str
    address: Address
    port: int
    inode: int = 0
    process: Process | None = None

    @property
    def versions(self) -> tuple[int, ...]:
        """IP versions that it can be reached over; [::] takes both, unless its program says otherwise."""
        if isinstance(self.address, IPv6Address) and self.address.is_unspecified:
            return (4, 6)
        mapped = self.address.ipv4_mapped if isinstance(self.address, IPv6Address) else None
        return (4,) if mapped else (self.address.version,)

    @property
    def is_inside_only(self) -> bool:
        """Whether only this host's own programs reach it."""
        mapped = self.address.ipv4_mapped if isinstance(self.address, IPv6Address) else None
        return (mapped or self.address).is_loopback

    def __str__(self) -> str:
        host = f"[{self.address}]" if self.address.version == 6 else str(self.address)
        return f"{host}:{self.port}/{self.protocol}" + (f" {self.process}" if self.process else "")


def listeners_in(table: str, text: str, owners: Mapping[int, Process]) -> Iterator[Listener]:
    """The waiting sockets of /proc/net/TABLE."""
    protocol = table.removesuffix("6")
    wanted = LISTEN if protocol == "tcp" else UNCONNECTED
    for line in text.splitlines()[1:]:
        fields = line.split()
        if len(fields) < 10 or fields[3] != wanted:
            continue
        host, _, port = fields[1].partition(":")
        yield Listener(protocol, _address(host), int(port, 16), int(fields[9]), owners.get(int(fields[9])))


def _address(text: str) -> Address:
    """The kernel prints each 32-bit word in the machine's own order."""
    words = [int(text[start : start + 8], 16) for start in range(0, len(text), 8)]
    packed = struct.pack(f"={len(words)}I", *words)
    return IPv4Address(packed) if len(words) == 1 else IPv6Address(packed)


def read_listeners() -> tuple[Listener, ...]:
    """Every waiting socket of this network namespace; without root, other users' without their processes."""
    owners = _owners()
    return tuple(listener for table in TABLES for listener in listeners_in(table, _net(table), owners))


def _net(table: str) -> str:
    with contextlib.suppress(OSError):
        # Not /proc/net: that is the namespace of the process' first thread.
        return Path("/proc/thread-self/net", table).read_text()
    return ""


def _owners() -> dict[int, Process]:
    """Each socket's inode with the first process that holds it."""
    found: dict[int, Process] = {}
    for folder in sorted(Path("/proc").iterdir(), key=lambda each: int(each.name) if each.name.isdigit() else 0):
        if not folder.name.isdigit():
            continue
        with contextlib.suppress(OSError):
            process: Process | None = None
            for inode in _sockets(folder / "fd"):
                process = process or _process(folder)
                found.setdefault(inode, process)
    return found


def _sockets(folder: Path) -> Iterable[int]:
    for name in os.listdir(folder):  # noqa: PTH208 - a Path for each of many descriptors is slow
        with contextlib.suppress(OSError):
            target = os.readlink(f"{folder}/{name}")  # noqa: PTH115
            if target.startswith("socket:["):
                yield int(target[8:-1])


def _process(folder: Path) -> Process:
    arguments = (folder / "cmdline").read_bytes().split(b"\0")
    name = (folder / "comm").read_text().strip()
    return Process(int(folder.name), name, tuple(each.decode("utf-8", "replace") for each in arguments if each))
