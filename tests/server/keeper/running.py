"""A keeper as a process of its own in the lab, and what a service manager and a network process are to it."""

from __future__ import annotations

import contextlib
import os
import pwd
import select
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from spa_server.config import ServerConfig, load
from spa_server.digest import perimeter_digest
from spa_server.enforce.client import FirewallClient
from spa_server.enforce.leases import Lease, list_leases
from spa_server.enforce.requests import Wanted
from spa_server.enforce.table import TableSocket
from tests.lab import Host, Lab
from tests.stalls import PATIENCE_S

SPA_SERVER = Path(sys.executable).with_name("spa-server")
USER = "nobody"
WEB = '[service.web]\ntcp = [8443]\nudp = [8443]\nroles = ["admin"]\n'
SSH = '[service.ssh]\ntcp = [2222]\nroles = ["admin"]\n'

WITH_DESCRIPTORS = """
import os, sys
for place, given in enumerate(sys.argv[1].split(), 3):
    os.dup2(int(given), place)
    os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(place - 2))
os.execv(sys.argv[2], sys.argv[2:])
"""
"""What a service manager does between fork and exec: sd_listen_fds(3)."""


class Manager:
    """A service manager's part of sd_notify(3): it hears what is said, and keeps sockets."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "notify"
        self.kept: dict[str, list[int]] = {}
        self.said: list[dict[str, str]] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(self.path))
        self.path.chmod(0o666)
        self._hearing = threading.Lock()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._listen)
        self._thread.start()

    def _listen(self) -> None:
        while not self._closed.is_set():
            if select.select([self._socket], [], [], 0.05)[0]:
                self.hear()

    def hear(self) -> None:
        """Take what has been said until now."""
        with self._hearing:
            self._hear()

    def _hear(self) -> None:
        while select.select([self._socket], [], [], 0)[0]:
            data, descriptors, _, _ = socket.recv_fds(self._socket, 65536, 16)
            said = dict(line.partition("=")[::2] for line in data.decode().splitlines())
            self.said.append(said)
            name = said.get("FDNAME", "")
            if "FDSTORE" in said:
                self.kept.setdefault(name, []).extend(descriptors)
            if "FDSTOREREMOVE" in said:
                for descriptor in self.kept.pop(name, []):
                    os.close(descriptor)

    def forget(self) -> None:
        """Close all that is kept, as for a service that was stopped."""
        self.hear()
        for descriptors in self.kept.values():
            for descriptor in descriptors:
                os.close(descriptor)
        self.kept.clear()

    def close(self) -> None:
        self._closed.set()
        self._thread.join()
        self.forget()
        self._socket.close()


@dataclass(slots=True)
class Kept:
    """A lab whose server has a configuration, and a keeper when `start` was called."""

    lab: Lab
    folder: Path
    manager: Manager
    process: subprocess.Popen[bytes] | None = None
    lines: list[str] = field(default_factory=list)
    options: tuple[str, ...] = ()
    _channels: list[socket.socket] = field(default_factory=list)

    @property
    def server(self) -> Host:
        return self.lab.server

    @property
    def alice(self) -> Host:
        return self.lab.clients["alice"]

    @property
    def stranger(self) -> Host:
        return self.lab.clients["stranger"]

    @property
    def config_path(self) -> Path:
        return self.folder / "server.toml"

    @property
    def config(self) -> ServerConfig:
        return load(self.config_path)

    @property
    def digest(self) -> bytes:
        return perimeter_digest(self.config.knock_ports, self.config.services)

    def configure(self, services: str = WEB, **keys: object) -> None:
        (self.folder / "state").mkdir(exist_ok=True)
        shutil.chown(self.folder / "state", USER)
        lines = "".join(f"{key} = {value!r}\n" for key, value in keys.items())
        self.config_path.write_text(
            f'[server]\naddresses = ["198.51.100.1"]\nstate_folder = "{self.folder}/state"\n'
            f'control_socket = "{self.folder}/run/control.sock"\nuser = "{USER}"\n{lines}{services}'
        )

    def start(self, command: tuple[str, ...] = (str(SPA_SERVER),)) -> None:
        """Start it, with what the manager keeps, and wait until it is ready; AssertionError with its log if it ends."""
        self.manager.hear()
        kept = [(name, fd) for name, fds in self.manager.kept.items() for fd in fds]
        env = {
            **os.environ,
            "NOTIFY_SOCKET": str(self.manager.path),
            "LISTEN_FDNAMES": ":".join(name for name, _ in kept),
        }
        given = [str(fd) for _, fd in kept]
        argv = [sys.executable, "-c", WITH_DESCRIPTORS, " ".join(given), *command, "perimeter", "keep"]
        self.process = self.server.popen(
            [*argv, *self.options, "--config", str(self.config_path)],
            stderr=subprocess.PIPE,
            env=env,
            pass_fds=[fd for _, fd in kept],
        )
        threading.Thread(target=self._read, args=(self.process, self.lines), daemon=True).start()
        control = self.folder / "run" / "perimeter" / "channel"
        wait_until(lambda: self._ended() or self._answers(control), "the keeper's channel", self.log)
        assert not self._ended(), self.log()

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def stop(self) -> int:
        return self._end(signal.SIGTERM)

    def close(self) -> None:
        for channel in self._channels:
            channel.close()
        if self.process is not None:
            self.kill()
        self.manager.close()

    def log(self) -> str:
        return "".join(self.lines)

    def wait_for_log(self, text: str, times: int = 1) -> None:
        wait_until(lambda: self.log().count(text) >= times, f"{text!r} in its log", self.log)

    def connect(self, digest: bytes | None = None, user: str = USER) -> FirewallClient:
        """What a network process of that user gets."""
        channel = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._channels.append(channel)
        account = pwd.getpwnam(user)
        group = os.getegid()
        os.setegid(account.pw_gid)
        os.seteuid(account.pw_uid)
        try:
            channel.connect(str(self.folder / "run" / "perimeter" / "channel"))
        finally:
            os.seteuid(0)
            os.setegid(group)
        return FirewallClient(channel, self.digest if digest is None else digest, time_limit_s=PATIENCE_S)

    def opens(self, client: FirewallClient, host: Host, seconds: int = 60, service: int = 0, version: int = 4) -> None:
        """Let a host in, as if its knock had come to the server's address."""
        wanted = [Wanted(service, seconds)]
        client.open_(host.address(version), self.server.address(version), f"{host.name[-5:]}-laptop", wanted)

    def leases(self) -> tuple[Lease, ...]:
        with self.table() as nft:
            return list_leases(nft)

    @contextlib.contextmanager
    def table(self) -> Iterator[TableSocket]:
        with self.server.enter(), TableSocket("spa") as nft:
            yield nft

    def tables(self) -> list[str]:
        return [line.split()[-1] for line in self.server.run(["nft", "list", "tables"]).stdout.splitlines()]

    def nft(self, *words: str) -> subprocess.CompletedProcess[str]:
        return self.server.run(["nft", *words], check=False)

    def command(self, *words: str, input: str | None = None, env: dict[str, str] | None = None) -> Any:
        return self.server.run(self.words(*words), check=False, input=input, env=env)

    def words(self, *words: str) -> list[str]:
        """The command line of one of root's commands."""
        return [str(SPA_SERVER), *words, "--config", str(self.config_path)]

    def _read(self, process: subprocess.Popen[bytes], lines: list[str]) -> None:
        assert process.stderr is not None
        for line in process.stderr:
            lines.append(line.decode("utf-8", "replace"))

    def _answers(self, path: Path) -> bool:
        """Whether it listens, and not a former one did: that is told apart by the pid that answers."""
        from spa_server.keeper import owner

        assert self.process is not None
        try:
            return bool(owner.status(path.parent)["pid"] == self.process.pid)
        except (owner.NoKeeper, OSError):
            return False

    def _ended(self) -> bool:
        return self.process is not None and self.process.poll() is not None

    def _end(self, number: int) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        code = self.process.wait(timeout=PATIENCE_S)
        self.process = None
        return code


class Strangers:
    """Somebody without a lease who tries a port by TCP and UDP every millisecond; `passed` says when one came through.

    As a context manager it tries until its end. What passed is seen by those who listen at the server.
    """

    def __init__(self, source: Host, target: Host, port: int = 8443) -> None:
        self.tried = 0
        self.passed: list[float] = []
        self._source, self._target, self._port = source, target, port
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._try)

    def __enter__(self) -> Strangers:
        self._thread.start()
        wait_until(lambda: self.tried > 20, "the first tries")
        return self

    def __exit__(self, *exc: object) -> None:
        already = self.tried
        wait_until(lambda: self.tried > already + 20, "the last tries")
        self._stopping.set()
        self._thread.join(timeout=PATIENCE_S)

    def _try(self) -> None:
        to = (str(self._target.ipv4), self._port)
        with (
            self._target.listen_tcp(self._port) as listener,
            self._target.bind_udp(self._port) as receiver,
            self._source.new_socket(socket.AF_INET, socket.SOCK_DGRAM) as sender,
        ):
            listener.setblocking(False)
            receiver.setblocking(False)
            connecting: list[socket.socket] = []
            while not self._stopping.is_set():
                sender.sendto(b"x", to)
                connection = self._source.new_socket(socket.AF_INET, socket.SOCK_STREAM)
                connection.setblocking(False)
                with contextlib.suppress(BlockingIOError):
                    connection.connect(to)
                connecting.append(connection)
                if len(connecting) > 200:
                    connecting.pop(0).close()
                self.tried += 1
                self._note(listener.accept)
                self._note(lambda: receiver.recv(10))
                time.sleep(0.001)
            for connection in connecting:
                connection.close()

    def _note(self, take: Callable[[], object]) -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                take()
                self.passed.append(time.monotonic())


def wait_until(true: Callable[[], bool], what: str, more: Callable[[], str] = str) -> None:
    """Return as soon as the condition holds; AssertionError naming it when it does not within the time."""
    end_s = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < end_s, f"not within {PATIENCE_S:g} s: {what}\n{more()}"
        time.sleep(0.005)
