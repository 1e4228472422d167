"""The installed and running service on a machine, as its operator and its clients meet it.

It must not know pytest.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections import Counter
from pathlib import Path
from typing import Any, ClassVar

from tests.end_to_end.crafting import now_ms
from tests.end_to_end.laptop import KNOCK_PORT, Laptop, udp_socket
from tests.lab import Host, Lab
from tests.stalls import PATIENCE_S, Between, wait_until
from tests.systemd.installing import PROGRAM
from tests.systemd.machine import Machine

KEEPER, SERVER = "spa-perimeter.service", "spa-server.service"
CONFIG = "/etc/spa/server.toml"
PORT, OPEN_PORT = 8443, 8444
"""What is protected, and what is not, where all listen."""
SERVICE_TOML = """
[service.web]
tcp = [8443]
udp = [8443]
roles = ["admin"]
"""
SLOTS, CLIENT_SLOTS = 64, 16
"""How many knocks a device may send in a minute here, and how many of them a client that has not been told so uses."""
RECOVERY_S = 2.0
"""How long the service may be away after a fault."""


class Service:
    """What `spa-server install` made of a machine."""

    def __init__(self, lab: Lab, machine: Machine, folder: Path) -> None:
        """`folder`: where the clients keep their files."""
        self.lab = lab
        self.machine = machine
        self.host = machine.host
        self._folder = folder
        self._written = ""

    def command(self, *argv: str, check: bool = True, user: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run a `spa-server` command on the machine."""
        return self.machine.run(PROGRAM, *argv, check=check, user=user)

    def json(self, *argv: str, check: bool = True, user: str | None = None) -> Any:
        """What a command prints with --json."""
        return json.loads(self.command(*argv, "--json", check=check, user=user).stdout)

    def install(self, *options: str) -> list[str]:
        """Run `spa-server install`; its lines."""
        words = ["--address", str(self.host.ipv4), "--address", str(self.host.ipv6)]
        return self.command("install", *words, *options).stdout.splitlines()

    def configure(self, services_toml: str = SERVICE_TOML, **server_keys: object) -> None:
        """Write server.toml anew, in place. JSON's values are TOML's."""
        self._write_config(self._config_text(services_toml, **server_keys))

    def settle(self) -> None:
        """Make it as at first, whatever a test did: configured, serving, nobody inside."""
        text = self._config_text()
        if self._written != text:
            self._write_config(text)
            self.machine.run("systemctl", "restart", KEEPER, SERVER)
        self.wait_until_it_serves()
        self.end_leases()

    def _config_text(self, services_toml: str = SERVICE_TOML, **server_keys: object) -> str:
        keys = {"addresses": [str(self.host.ipv4), str(self.host.ipv6)], "slots": SLOTS, **server_keys}
        lines = [f"{key} = {json.dumps(value)}" for key, value in keys.items()]
        return "[server]\n" + "\n".join(lines) + "\n" + services_toml

    def _write_config(self, text: str) -> None:
        self._written = text
        self.machine.write(CONFIG, text)

    def pids(self) -> dict[str, int]:
        """The main process of each unit, by the machine's own numbers; 0 for none."""
        return {unit: self.machine.main_pid(unit) for unit in (KEEPER, SERVER)}

    def serves(self) -> bool:
        """Whether both units run, and the network process answers and says that the perimeter stands."""
        shown = self.command("status", "--json", check=False).stdout
        return bool(shown) and json.loads(shown)["perimeter"] is True and json.loads(shown)["running"] is True

    def wait_until_it_serves(self) -> None:
        """Return as soon as it does; AssertionError with its log when it does not."""
        try:
            wait_until(self.serves, "a service that serves")
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.log()}") from error

    def log(self) -> str:
        """The last of what both units have logged."""
        return self.machine.journal("--lines=80", f"--unit={KEEPER}", f"--unit={SERVER}")

    def wait_for_log(self, text: str) -> None:
        """Return as soon as a line of either unit's last lines holds the text."""
        wait_until(lambda: text in self.log(), f"{text!r} in the log")

    def enrolled(self, host: Host, label: str) -> Laptop:
        """A laptop on that host that has just joined."""
        invite = self.command("invite", label, "--user", label.split("-")[0], "--role", "admin").stdout.strip()
        laptop = Laptop(host, self._folder / f"client-{label}")
        laptop.join(invite)
        return laptop

    def leases(self) -> list[dict[str, Any]]:
        """Who is inside now."""
        leases: list[dict[str, Any]] = self.json("lease", "list")
        return leases

    def end_leases(self) -> None:
        """End all that are open, so that the next test starts closed."""
        for device in {lease["device"] for lease in self.leases()}:
            self.command("lease", "revoke", device, check=False)  # it may have ended meanwhile
        wait_until(lambda: not self.leases(), "the end of all leases")


class Knocker:
    """Knocks by hand on a socket of its own: it reads no file and starts no process, so the service alone is timed."""

    _used: ClassVar[Counter[tuple[Path, int]]] = Counter()

    def __init__(self, laptop: Laptop, server: Host, version: int = 4, *, between_s: float = 0.1) -> None:
        self._between_s = between_s
        self._laptop, self._keys = laptop, laptop.keys()
        to = server.address(version)
        self._to = (str(to), KNOCK_PORT)
        self._socket = udp_socket(laptop.host, to)

    def __enter__(self) -> Knocker:
        return self

    def __exit__(self, *exc: object) -> None:
        self._socket.close()

    def knock_until_granted(self, lease_s: int = 30, patience_s: float = PATIENCE_S) -> Between:
        """Knock until one is granted: between the departure of that knock and the arrival of its answer."""
        end_s = time.monotonic() + patience_s
        # Knocks that come while nobody reads wait in the socket, and are all answered when somebody does again.
        sent: list[tuple[bytes, float]] = []
        while time.monotonic() < end_s:
            sent.append(self._send(lease_s))
            if granted := self._granted(sent):
                return granted
        raise AssertionError(f"no knock was granted within {patience_s:g} s")

    def _send(self, lease_s: int) -> tuple[bytes, float]:
        """Send one; it, and when it left."""
        time_ms, begun_s = now_ms(), time.monotonic()
        request = self._keys.knock("web", lease_s=lease_s, time_ms=time_ms, slot=self._slot(time_ms))
        self._socket.sendto(request, self._to)
        return request, begun_s

    def _granted(self, sent: list[tuple[bytes, float]]) -> Between | None:
        """The first grant among the answers that come before it is time for the next knock."""
        end_s = time.monotonic() + self._between_s
        while (left_s := end_s - time.monotonic()) > 0:
            self._socket.settimeout(left_s)
            try:
                reply = self._socket.recv(2048)
            except TimeoutError:
                return None
            for request, begun_s in sent:
                answer = self._keys.answer(reply, request)
                if answer is not None and answer.refusal is None:
                    return Between(begun_s, time.monotonic())
        return None

    def _slot(self, time_ms: int) -> int:
        """One that no knock of this minute has used: from the last one down, for the client itself begins with 0."""
        minute = (self._laptop.folder, time_ms // 60_000)
        self._used[minute] += 1
        assert self._used[minute] <= SLOTS - CLIENT_SLOTS, "more knocks by hand in a minute than there are slots"
        return SLOTS - self._used[minute]
