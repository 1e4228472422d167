"""The server as two services, as the units start it: the keeper, and the network process as an unprivileged user.

It must not know pytest.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from types import TracebackType

from tests.end_to_end.running import SCRIPTS, RunningServer
from tests.lab import Lab
from tests.server.keeper.running import WITH_DESCRIPTORS, Manager
from tests.stalls import wait_until

NOBODY = 65534

AS_NOBODY = """
import fcntl, os, sys
given = [int(word) for word in sys.argv[1].split()]
away = [fcntl.fcntl(number, fcntl.F_DUPFD, 200) for number in given]
for number in given:
    os.close(number)
for place, number in enumerate(away, 3):
    os.dup2(number, place)
    os.close(number)
    os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(place - 2))
from spa_server import unprivileged
from spa_server.commands import run, service
from spa_server.tell import log
os.setgroups([])
os.setresgid(65534, 65534, 65534)
os.setresuid(65534, 65534, 65534)
sys.exit(run(sys.argv[2:]))
"""
"""The network process's start. All is imported before, because that user may not be allowed to read the programs."""


class Unit:
    """One service: what is started, as often as one likes, and what it logs and tells the manager."""

    def __init__(self, lab: Lab, folder: Path, argv: list[str], program: str, env: dict[str, str]) -> None:
        folder.mkdir()
        folder.chmod(0o755)
        self.manager = Manager(folder)
        self.process: subprocess.Popen[bytes] | None = None
        self._lab = lab
        self._argv, self._program, self._env = argv, program, env
        self._lines: list[str] = []

    @property
    def pid(self) -> int:
        assert self.process is not None, "it does not run"
        return self.process.pid

    def launch(self) -> None:
        """Start it with what the manager keeps."""
        self.manager.hear()
        kept = [(name, number) for name, numbers in self.manager.kept.items() for number in numbers]
        env = {
            **os.environ,
            **self._env,
            "NOTIFY_SOCKET": str(self.manager.path),
            "LISTEN_FDNAMES": ":".join(name for name, _ in kept),
        }
        given = " ".join(str(number) for _, number in kept)
        argv = [sys.executable, "-c", self._program, given, *self._argv]
        self.manager.said.clear()
        self.process = self._lab.server.popen(
            argv, stderr=subprocess.PIPE, env=env, pass_fds=[number for _, number in kept]
        )
        threading.Thread(target=self._read, args=(self.process,), daemon=True).start()

    def start(self) -> None:
        """Start it and wait until it says that it is ready."""
        self.launch()
        wait_until(lambda: self.has_said(READY="1") or self.has_ended(), f"ready: {self.log()}")
        assert not self.has_ended(), self.log()

    def has_said(self, **assignments: str) -> bool:
        """Whether the manager was told this, in one message, since the start."""
        return any(assignments.items() <= said.items() for said in tuple(self.manager.said))

    def has_ended(self) -> bool:
        return self.process is not None and self.process.poll() is not None

    def signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def log(self) -> str:
        return "".join(self._lines)

    def close(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
        self.manager.close()

    def _read(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stderr is not None
        for line in process.stderr:
            self._lines.append(line.decode("utf-8", "replace"))


class TwoServices:
    """Both of them, over the files that `init` made; `made` is for the commands."""

    def __init__(self, lab: Lab, folder: Path, services_toml: str, *, slots: int) -> None:
        self.lab = lab
        self.made = made = RunningServer(lab, folder, services_toml, slots=slots)
        made.control_socket.parent.mkdir(exist_ok=True)
        os.chown(made.control_socket.parent, NOBODY, NOBODY)
        credentials = folder / "credentials"
        credentials.mkdir(mode=0o755)
        shutil.copy(folder / "server.key", credentials)
        (credentials / "server.key").chmod(0o440)  # as the mask of an access control list shows
        os.chown(credentials / "server.key", 0, NOBODY)
        config = ["--config", str(made.config)]
        keep = ["/usr/bin/setpriv", f"--regid={NOBODY}", "--clear-groups", "--"]
        keep += [str(SCRIPTS / "spa-server"), "perimeter", "keep", *config]
        self.keeper = Unit(lab, folder / "keeper", keep, WITH_DESCRIPTORS, {})
        own = folder / "of-network"
        own.mkdir(mode=0o700)
        os.chown(own, NOBODY, NOBODY)
        env = {
            "CREDENTIALS_DIRECTORY": str(credentials),
            "STATE_DIRECTORY": str(own),
            "WATCHDOG_USEC": "1000000",
        }
        self.network = Unit(lab, folder / "network", ["run", *config], AS_NOBODY, env)

    def __enter__(self) -> TwoServices:
        self.keeper.start()
        self.network.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for unit in (self.network, self.keeper):
            unit.close()
            print(unit.log())

    def knock_sockets(self) -> list[str]:
        """The kernel's numbers of the UDP sockets that the network process holds."""
        held = {os.readlink(entry) for entry in Path(f"/proc/{self.network.pid}/fd").iterdir()}  # noqa: PTH115
        inodes = []
        for name in ("udp", "udp6"):
            for line in Path(f"/proc/{self.network.pid}/net/{name}").read_text().splitlines()[1:]:
                inodes.append(f"socket:[{line.split()[9]}]")
        return sorted(held.intersection(inodes))
