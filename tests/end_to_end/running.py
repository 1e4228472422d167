"""A real server in the lab and real clients enrolled with it: what the tests of the whole start from.

Commands are the installed console scripts, run inside a namespace. It must not know pytest, so that other folders of
tests, and people at a prompt, can use it too.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

from spa_server.tell import control
from tests.end_to_end.laptop import KNOCK_PORT, SCRIPTS, Laptop, ask_udp, send_udp, udp_socket
from tests.lab import Host, Lab
from tests.stalls import PATIENCE_S, wait_until

__all__ = [
    "KNOCK_PORT",
    "NETWORK_USER",
    "PATIENCE_S",
    "SCRIPTS",
    "WEB",
    "Laptop",
    "RunningServer",
    "ask_udp",
    "enrolled",
    "open_folder",
    "send_udp",
    "udp_socket",
    "wait_until",
]

NETWORK_USER = "nobody"
"""The network process's user: one that every machine has."""

WEB = """
[service.web]
tcp = [8443]
udp = [8443]
roles = ["admin"]
"""
"""One service, for tests to which it does not matter what is protected."""


@contextlib.contextmanager
def open_folder() -> Iterator[Path]:
    """A folder that every user may enter, as the network process must; pytest's own are for root alone."""
    folder = Path(tempfile.mkdtemp(prefix="spa-test-"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class RunningServer:
    """`spa-server` in a namespace, made by `init`, with the given services and keys of [server].

    As a context manager it starts, and ends by SIGKILL if it still runs.
    """

    def __init__(
        self, lab: Lab, folder: Path, services_toml: str = WEB, *, host: Host | None = None, **server_keys: object
    ) -> None:
        self.host = host or lab.server
        self.folder = folder
        self.config = folder / "server.toml"
        self.state = folder / "state"
        self.control_socket = folder / "run" / "control.sock"
        self.knock_port = int(str(server_keys.get("knock_port", KNOCK_PORT)))
        self.process: subprocess.Popen[bytes] | None = None
        self.network_pid = 0
        self._lines: list[str] = []
        self._more = threading.Condition()
        self._reader: threading.Thread | None = None
        addresses = [str(self.host.ipv4), str(self.host.ipv6)]
        self.command(
            "init",
            *(word for address in addresses for word in ("--address", address)),
            "--state-folder",
            str(self.state),
            "--control-socket",
            str(self.control_socket),
            "--user",
            NETWORK_USER,
        )
        keys: dict[str, object] = {
            "addresses": addresses,
            "state_folder": str(self.state),
            "control_socket": str(self.control_socket),
            "user": NETWORK_USER,
            **server_keys,
        }
        self.configure(services_toml, **keys)

    def configure(self, services_toml: str, **server_keys: object) -> None:
        """Write server.toml anew; a running server reads it at its next start. JSON's values are TOML's."""
        lines = [f"{key} = {json.dumps(value)}" for key, value in server_keys.items()]
        self.config.write_text("[server]\n" + "\n".join(lines) + "\n" + services_toml)

    def __enter__(self) -> RunningServer:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process is not None:
            self.kill()
        # pytest shows it beside a failure, and only there.
        print("".join(self._lines[-60:]))

    @property
    def firewall_pid(self) -> int:
        """The firewall process, which is the one that was started."""
        assert self.process is not None, "the server does not run"
        return self.process.pid

    @property
    def pids(self) -> tuple[int, int]:
        """The firewall process and the network process."""
        return self.firewall_pid, self.network_pid

    def start(self, *, env: dict[str, str] | None = None) -> float:
        """Start, and return the seconds it took until it serves; AssertionError with its log when it ends instead."""
        begun_s = time.monotonic()
        seen = len(self._lines)
        self.launch(env=env)
        assert self.process is not None
        self.wait_for_log("ready:", since=seen)
        took_s = time.monotonic() - begun_s
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        assert len(children) == 1, f"the server has the children {children}"
        self.network_pid = int(children[0])
        return took_s

    def launch(self, *, env: dict[str, str] | None = None) -> subprocess.Popen[bytes]:
        """Start without waiting for anything."""
        argv = [str(SCRIPTS / "spa-server"), "run", "--config", str(self.config)]
        self.process = self.host.popen(argv, stderr=subprocess.PIPE, env=env)
        self._reader = threading.Thread(target=self._read_log, args=(self.process,), daemon=True)
        self._reader.start()
        return self.process

    def stop(self) -> int:
        """End it by SIGTERM; its exit code."""
        assert self.process is not None, "the server does not run"
        self.process.send_signal(signal.SIGTERM)
        return self._ended()

    def kill(self) -> None:
        """End both processes by SIGKILL."""
        self.signal(signal.SIGKILL)
        self._ended()

    def signal(self, number: int) -> None:
        """Send a signal to both processes, the network process first."""
        for pid in reversed(self.pids):
            if pid:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)

    def log(self) -> str:
        """All that it has logged until now, over all starts."""
        with self._more:
            return "".join(self._lines)

    def wait_for_log(self, text: str, *, since: int = 0, patience_s: float = PATIENCE_S) -> str:
        """The first line, of those after number `since`, that holds the text; waits for it."""
        end_s = time.monotonic() + patience_s
        with self._more:
            while True:
                for line in self._lines[since:]:
                    if text in line:
                        return line
                ended = self._reader is None or not self._reader.is_alive()
                left_s = end_s - time.monotonic()
                assert not ended, f"the server ended without saying {text!r}:\n{''.join(self._lines)}"
                assert left_s > 0, f"no {text!r} within {patience_s:g} s:\n{''.join(self._lines)}"
                self._more.wait(min(left_s, 0.2))

    def log_lines(self) -> int:
        """How many lines it has logged: a mark for `wait_for_log`."""
        with self._more:
            return len(self._lines)

    def command(
        self, *argv: str, check: bool = True, env: dict[str, str] | None = None, input: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a `spa-server` command on the host, with this server's configuration."""
        words = [str(SCRIPTS / "spa-server"), *argv]
        if argv[:2] != ("perimeter", "show"):
            words += ["--config", str(self.config)]
        return self.host.run(words, check=check, env=env, input=input)

    def json(self, *argv: str, check: bool = True) -> Any:
        """What a command prints with --json."""
        return json.loads(self.command(*argv, "--json", check=check).stdout)

    def invite(self, label: str, *options: str, user: str = "alice", roles: tuple[str, ...] = ("admin",)) -> str:
        """The text of a new invite."""
        given = [word for role in roles for word in ("--role", role)]
        return self.command("invite", label, "--user", user, *given, *options).stdout.strip()

    def status(self) -> dict[str, Any]:
        """What the network process says of itself; it has read whatever had arrived before."""
        # It gives a caller a fifth of a second for his line, and one that the machine holds up has to call again.
        for _ in range(4):
            with contextlib.suppress(control.NotRunning):
                return control.ask(self.control_socket, "status")
        return control.ask(self.control_socket, "status")

    def settle(self) -> None:
        """Return when it has dealt with all that has arrived, if it runs at all."""
        if self.process is not None and self.process.poll() is None and not is_gone(self.network_pid):
            with contextlib.suppress(control.NotRunning):
                self.status()

    def results(self) -> dict[str, int]:
        """What came of the datagrams it judged, by outcome."""
        results: dict[str, int] = self.status()["results"]
        return results

    def wait_for_result(self, outcome: str, count: int) -> None:
        """Wait until an outcome has been reached that often."""
        wait_until(lambda: self.results().get(outcome, 0) >= count, f"{count} times {outcome}: {self.results()}")

    def leases(self) -> list[dict[str, Any]]:
        """`lease list`: who is inside, with the milliseconds left, when all that has arrived has been dealt with."""
        self.settle()
        leases: list[dict[str, Any]] = self.json("lease", "list")
        return leases

    def counter(self, name: str) -> int:
        """Packets that a counter of the kernel's has counted, such as knock_admitted."""
        listed = self.host.run(["nft", "-j", "list", "counter", "inet", "spa", name]).stdout
        return next(int(item["counter"]["packets"]) for item in json.loads(listed)["nftables"] if "counter" in item)

    def resident_kib(self) -> dict[str, int]:
        """Resident memory of both processes, in KiB."""
        return dict(zip(("firewall", "network"), map(_resident_kib, self.pids), strict=True))

    def _ended(self) -> int:
        assert self.process is not None
        code = self.process.wait(timeout=PATIENCE_S)
        if self._reader is not None:
            self._reader.join(timeout=PATIENCE_S)
        # The network process dies of its parent's death or has been waited for; restarts must not meet it.
        wait_until(lambda: is_gone(self.network_pid), "the end of the network process")
        self.process, self.network_pid = None, 0
        return code

    def _read_log(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stderr is not None
        for line in process.stderr:
            with self._more:
                self._lines.append(line.decode("utf-8", "replace"))
                self._more.notify_all()
        with self._more:
            self._more.notify_all()


def enrolled(
    server: RunningServer, host: Host, label: str, *options: str, user: str = "", name: str = "office"
) -> Laptop:
    """A laptop on that host that has just joined under the label; its files are beside the server's."""
    laptop = Laptop(host, server.folder / f"client-{label}", server.settle)
    laptop.join(server.invite(label, user=user or label.split("-")[0]), *options, name=name)
    return laptop


def _resident_kib(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))


def is_gone(pid: int) -> bool:
    if not pid:
        return True
    try:
        return "\nState:\tZ" in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return True
