"""A small network of Linux namespaces: a server, several clients on one segment, at will an inner host.

For tests, the demonstration and the benchmarks, so it must not know pytest or anything of this project. It
never changes the namespace it is started in. It needs root and the programs `ip` and `nft`.

    alice ──┐
    neighbour ─┤ segment (a switch) ── server ── inner
    stranger ──┘  198.51.100.0/24              10.9.0.0/24
                  2001:db8:1::/64              fd00:9::/64
"""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Any

Address = IPv4Address | IPv6Address

NEEDED_PROGRAMS = {"ip": "iproute2", "nft": "nftables"}
"""Program and the Debian package that holds it."""

CLONE_NEWNET = 0x40000000

_libc = ctypes.CDLL(None, use_errno=True)
_counter = itertools.count(1)


class LabError(Exception):
    """The lab cannot be built here; the message says what to do."""


def check_surroundings(programs: dict[str, str] | None = None) -> None:
    """Raise LabError, naming the command that mends it, unless namespaces can be made here."""
    missing = {
        package
        for program, package in (programs or NEEDED_PROGRAMS).items()
        if shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin") is None
    }
    if missing:
        raise LabError(f"missing programs: apt-get install -y {' '.join(sorted(missing))}")
    if os.geteuid() != 0:
        raise LabError("network namespaces need root: run it again with sudo")


@dataclass(slots=True)
class Host:
    """One namespace. `ipv4` and `ipv6` are its addresses as the other hosts see them."""

    name: str
    ipv4: IPv4Address
    ipv6: IPv6Address
    _started: list[subprocess.Popen[Any]] = field(default_factory=list)

    def address(self, family: int) -> Address:
        """The address of IP version 4 or 6."""
        return self.ipv4 if family == 4 else self.ipv6

    def run(
        self,
        argv: Sequence[str],
        *,
        check: bool = True,
        input: str | None = None,
        timeout: float = 90,
        env: dict[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command there to its end; output is captured, and shown when a checked command fails."""
        done = subprocess.run(
            self._inside(argv), input=input, timeout=timeout, env=env, capture_output=True, text=True, check=False
        )
        if check and done.returncode:
            raise LabError(f"{' '.join(argv)} in {self.name} ended with {done.returncode}: {done.stderr}{done.stdout}")
        return done

    def popen(self, argv: Sequence[str], **options: Any) -> subprocess.Popen[Any]:
        """Start a command there; it is killed when the lab ends. Its pid is the command's own."""
        process = subprocess.Popen(self._inside(argv), **options)
        self._started.append(process)
        return process

    @contextlib.contextmanager
    def enter(self) -> Iterator[None]:
        """Move this thread into the namespace, and back at the end; sockets opened meanwhile stay there."""
        with (
            Path("/proc/thread-self/ns/net").open("rb") as home,
            Path(f"/run/netns/{self.name}").open("rb") as there,
        ):
            _setns(there.fileno())
            try:
                yield
            finally:
                _setns(home.fileno())

    def new_socket(self, family: int, kind: int, protocol: int = 0) -> socket.socket:
        """A new socket that belongs to the namespace; `family` is an AF_ constant, `kind` a SOCK_ one."""
        with self.enter():
            return socket.socket(family, kind, protocol)

    def listen_tcp(self, port: int, address: str = "::") -> socket.socket:
        """A listening TCP socket there; on "::" it takes both families. Close it yourself."""
        return self._bound(socket.SOCK_STREAM, port, address)

    def bind_udp(self, port: int, address: str = "::") -> socket.socket:
        """A bound UDP socket there; on "::" it takes both families. Close it yourself."""
        return self._bound(socket.SOCK_DGRAM, port, address)

    def connect_tcp(self, address: Address | str, port: int, timeout: float = 20) -> socket.socket:
        """Connect from there; TimeoutError when nothing answers, ConnectionRefusedError on a reset."""
        family = socket.AF_INET6 if ":" in str(address) else socket.AF_INET
        connection = self.new_socket(family, socket.SOCK_STREAM)
        try:
            connection.settimeout(timeout)
            connection.connect((str(address), port))
        except BaseException:
            connection.close()
            raise
        return connection

    def reaches_tcp(self, address: Address | str, port: int, timeout: float = 5) -> bool:
        """Whether a TCP connection from there is accepted within `timeout` seconds."""
        with contextlib.suppress(OSError), self.connect_tcp(address, port, timeout):
            return True
        return False

    def is_kept_out(self, address: Address | str, port: int) -> bool:
        """Whether no TCP connection from there is accepted in the time in which one would be, many times over."""
        return not self.reaches_tcp(address, port, timeout=0.3)

    def set_sysctl(self, name: str, value: str) -> None:
        """Write a sysctl of the namespace, such as `net/ipv4/ip_forward`."""
        with self.enter():
            Path("/proc/sys", name).write_text(value)

    def nft(self, ruleset: str) -> str:
        """Load a ruleset text there, or fail with what nft said."""
        return self.run(["nft", "-f", "-"], input=ruleset).stdout

    def _inside(self, argv: Sequence[str]) -> list[str]:
        return ["ip", "netns", "exec", self.name, *argv]

    def _bound(self, kind: int, port: int, address: str) -> socket.socket:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        bound = self.new_socket(family, kind)
        try:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if address == "::":
                bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            bound.bind((address, port))
            if kind == socket.SOCK_STREAM:
                bound.listen(64)
        except BaseException:
            bound.close()
            raise
        return bound

    def _end_processes(self) -> None:
        listed = subprocess.run(["ip", "netns", "pids", self.name], capture_output=True, text=True, check=False)
        for pid in map(int, listed.stdout.split()):
            if pid != os.getpid():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        for process in self._started:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            process.wait(timeout=60)
            for stream in (process.stdin, process.stdout, process.stderr):
                if stream is not None:
                    with contextlib.suppress(OSError):
                        stream.close()


class Lab:
    """The whole network; `with Lab(...) as lab` makes it and removes it, its processes included."""

    server: Host
    segment: Host
    """The switch, which has no address."""
    clients: dict[str, Host]

    def __init__(self, clients: Sequence[str] = ("alice", "neighbour", "stranger"), *, inner: bool = False) -> None:
        self._prefix = f"lab{os.getpid()}-{next(_counter)}"
        self._client_names = tuple(clients)
        self._with_inner = inner
        self._inner: Host | None = None
        self._made: list[Host] = []
        self.clients = {}

    @property
    def inner(self) -> Host:
        """The host behind the server."""
        if self._inner is None:
            raise LabError("this lab was made without an inner host")
        return self._inner

    def __enter__(self) -> Lab:
        check_surroundings()
        try:
            self._build()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Kill what runs in the lab and remove every namespace; links go with them."""
        for host in self._made:
            host._end_processes()
        for host in reversed(self._made):
            subprocess.run(["ip", "netns", "delete", host.name], capture_output=True, check=False)
        self._made.clear()

    def unplug(self, host: Host) -> None:
        """Take the host's device away, and its port of the switch with it."""
        _ip(host, "link delete eth0")

    def connect(self, port: str) -> None:
        """Make a device of the segment's a port of the switch."""
        _ip(self.segment, f"link set {port} master lan up")

    def address(self, host: Host) -> None:
        """Give a host's device the host's addresses."""
        _ip(
            host,
            f"addr add {host.ipv4}/24 dev eth0",
            f"addr add {host.ipv6}/64 dev eth0 nodad",
            "link set eth0 up",
        )

    def _build(self) -> None:
        segment = self.segment = self._make("segment", "0.0.0.0", "::")
        _ip(segment, "link add lan type bridge mcast_snooping 0", "link set lan up")
        self.server = self._make("server", "198.51.100.1", "2001:db8:1::1")
        self._plug_in(segment, self.server)
        for number, name in enumerate(self._client_names, start=11):
            client = self._make(name, f"198.51.100.{number}", f"2001:db8:1::{number}")
            self._plug_in(segment, client)
            self.clients[name] = client
        if self._with_inner:
            self._add_inner()

    def _make(self, role: str, ipv4: str, ipv6: str) -> Host:
        host = Host(f"{self._prefix}-{role}", IPv4Address(ipv4), IPv6Address(ipv6))
        _command("ip", "netns", "add", host.name)
        self._made.append(host)
        # Otherwise new link-local addresses stay tentative for a second, and the first packets fail.
        host.set_sysctl("net/ipv6/conf/default/accept_dad", "0")
        _ip(host, "link set lo up")
        return host

    def _plug_in(self, segment: Host, host: Host) -> None:
        port = f"p{len(self._made)}"
        _ip(segment, f"link add {port} type veth peer name eth0 netns {host.name}")
        self.connect(port)
        self.address(host)

    def _add_inner(self) -> None:
        inner = self._inner = self._make("inner", "10.9.0.2", "fd00:9::2")
        for name in ("net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"):
            self.server.set_sysctl(name, "1")
        _ip(
            self.server,
            f"link add inner0 type veth peer name eth0 netns {inner.name}",
            "addr add 10.9.0.1/24 dev inner0",
            "addr add fd00:9::1/64 dev inner0 nodad",
            "link set inner0 up",
        )
        _ip(
            inner,
            "addr add 10.9.0.2/24 dev eth0",
            "addr add fd00:9::2/64 dev eth0 nodad",
            "link set eth0 up",
            "route add 0.0.0.0/0 via 10.9.0.1",
            "route add ::/0 via fd00:9::1",
        )
        for client in self.clients.values():
            _ip(
                client,
                f"route add 10.9.0.0/24 via {self.server.ipv4}",
                f"route add fd00:9::/64 via {self.server.ipv6}",
            )


def _setns(namespace: int) -> None:
    if _libc.setns(namespace, CLONE_NEWNET) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _command(*argv: str, input: str | None = None) -> None:
    done = subprocess.run(argv, input=input, capture_output=True, text=True, check=False)
    if done.returncode:
        raise LabError(f"{' '.join(argv)}: {done.stderr.strip()}")


def _ip(host: Host, *lines: str) -> None:
    _command("ip", "-n", host.name, "-batch", "-", input="\n".join(lines) + "\n")
