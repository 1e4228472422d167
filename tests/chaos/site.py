"""An installed server in a booted machine, a laptop and strangers around it: what faults are done to.

Knocks are sealed by hand, so that they can be sent at any moment, sent again, and counted. It must not know faults.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import subprocess
import sys
import time
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from pathlib import Path

from spa_protocol.refusal import Refusal
from tests.chaos.clock import SteppedClock
from tests.chaos.ledger import Knocked, Ledger, Passed
from tests.end_to_end.crafting import Keys, now_ms
from tests.end_to_end.laptop import KNOCK_PORT, Laptop
from tests.lab import Host, Lab
from tests.systemd.installing import CHECKOUT, PROGRAM, add_program
from tests.systemd.machine import Machine

PORT = 8443
DEVICES = 16
SLOTS = 64
LEASES_S = (1, 2, 3)
STATE, CONFIG = "/var/lib/spa", "/etc/spa/server.toml"
STATE_SIZE = "160m"
"""The state has a file system of its own, small enough to be filled."""
KEEPER, NETWORK = "spa-perimeter", "spa-server"


class Site:
    """Everything that a run needs. `stage` builds and removes it."""

    def __init__(self, lab: Lab, machine: Machine, rng: random.Random, folder: Path) -> None:
        self.lab = lab
        self.machine = machine
        self.rng = rng
        # How many knocks there are depends on the machine; what the seed chooses must not.
        self._leases = random.Random(rng.getrandbits(32))
        self._folder = folder
        self.laptop = lab.clients["alice"]
        self.ledger = Ledger()
        self.granted_to: Counter[str] = Counter()
        self.refusals: Counter[str] = Counter()
        self.granted_twice = 0
        self.again: Counter[str] = Counter()
        self.devices: list[Keys] = []
        self._next = 0
        self._right_ms = now_ms() - int(time.monotonic() * 1000)
        self._window = 0
        self._used: list[int] = []
        self._waiting: deque[tuple[Keys, Knocked]] = deque(maxlen=200)
        self._sock = self.laptop.bind_udp(0)
        self._sock.setblocking(False)

    def close(self) -> None:
        self._sock.close()

    def install(self, wheel: Path) -> None:
        """As the documentation tells an operator, with a state file system of its own and a few more slots."""
        self.machine.run("sh", "-c", f"mkdir -m 0700 {STATE} && mount -t tmpfs -o size={STATE_SIZE} state {STATE}")
        self.machine.run("sh", "-c", f"chmod 0700 {STATE}")
        add_program(self.machine, wheel)
        where = [word for version in (4, 6) for word in ("--address", str(self.lab.server.address(version)))]
        self.machine.run(PROGRAM, "install", "--no-start", *where)
        text = self.machine.read(CONFIG)
        self.machine.write(CONFIG, text.replace("#slots = 16", f"slots = {SLOTS}"))
        self.clock = SteppedClock(self.machine, "/opt/spa")
        self.machine.run("systemctl", "start", KEEPER, NETWORK)
        self._enrol()

    def text_of_configuration(self) -> str:
        """server.toml as it stands."""
        return self.machine.read(CONFIG)

    def registered(self) -> list[str]:
        """The labels in the registry."""
        listed = self.machine.run(PROGRAM, "device", "list", "--json").stdout
        return sorted(device["label"] for device in json.loads(listed))

    def pid(self, unit: str) -> int:
        """This machine's number of a unit's main process, 0 when there is none just now."""
        words = {KEEPER: b"keep", NETWORK: b"run"}[unit]
        for child in Path(f"/proc/{self.machine.leader}/task/{self.machine.leader}/children").read_text().split():
            with contextlib.suppress(OSError):
                argv = Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0")
                if any(b"spa-server" in word for word in argv) and words in argv:
                    return int(child)
        return 0

    def knock(self) -> Knocked:
        """Send one knock for a short lease, by turns of device and family; do not wait for the answer."""
        self.hear()
        self._next += 1
        keys = self.devices[self._next % len(self.devices)]
        version = 4 if self._next % 2 else 6
        lease_s = self._leases.choice(LEASES_S)
        slot = self._free_slot(self._next % len(self.devices))
        datagram = keys.knock("web", lease_s=lease_s, slot=slot, time_ms=self._clock_ms())
        knocked = Knocked(time.monotonic(), lease_s, version, datagram)
        self._waiting.append((keys, knocked))
        self.ledger.knocks.append(knocked)
        self.send(datagram, version)
        return knocked

    def _clock_ms(self) -> int:
        """The laptop's clock: right, whatever is done to the server's."""
        return int(time.monotonic() * 1000) + self._right_ms

    def _free_slot(self, device: int) -> int:
        """A slot of the present window that the device has not used; past the last one it is dropped at the gate."""
        window = self._clock_ms() // 60_000
        if window != self._window:
            self._window, self._used = window, [0] * len(self.devices)
        self._used[device] += 1
        return min(self._used[device], SLOTS) - 1

    def send(self, datagram: bytes, version: int) -> None:
        """Send any datagram from the laptop; while its link is down nothing is sent."""
        to = f"::ffff:{self.lab.server.ipv4}" if version == 4 else str(self.lab.server.ipv6)
        with contextlib.suppress(OSError):
            self._sock.sendto(datagram, (to, KNOCK_PORT))

    def hear(self) -> int:
        """Take what answers there are; how many were for a knock of ours."""
        heard = 0
        while True:
            try:
                reply = self._sock.recv(2048)
            except OSError:
                return heard
            now_s = time.monotonic()
            for keys, knocked in reversed(self._waiting):
                answer = keys.answer(reply, knocked.datagram)
                if answer is None:
                    continue
                heard += 1
                self._take(keys, knocked, now_s, answer.refusal)
                break

    def _take(self, keys: Keys, knocked: Knocked, now_s: float, refusal: Refusal | None) -> None:
        """Note an answer. A knock that could not be recorded, on a full disk, may be judged again when repeated."""
        if knocked.granted and refusal is None:
            self.granted_twice += 1
        if knocked.answered_s is not None:
            first = "granted" if knocked.granted else knocked.refusal
            self.again[f"{first}, then {'granted' if refusal is None else refusal.name}"] += 1
        knocked.answered_s, knocked.granted = now_s, knocked.granted or refusal is None
        if refusal is None:
            self.granted_to[keys.perimeter.label] += 1
        else:
            knocked.refusal = refusal.name
            self.refusals[refusal.name] += 1

    def seconds_until_granted(self, patience_s: float, every_s: float = 0.1) -> float | None:
        """Knock again and again; how long it took until a knock sent from now on was granted, or None."""
        begun_s = time.monotonic()
        sent: list[Knocked] = []
        while time.monotonic() - begun_s < patience_s:
            sent.append(self.knock())
            end_s = time.monotonic() + every_s
            while time.monotonic() < end_s:
                self.hear()
                for knocked in sent:
                    if knocked.granted and knocked.answered_s is not None:
                        return knocked.answered_s - begun_s
                time.sleep(0.002)
        return None

    def _enrol(self) -> None:
        for number in range(DEVICES):
            label = f"laptop-{number}"
            invite = self.machine.run(PROGRAM, "invite", label, "--user", "chaos", "--role", "admin").stdout.strip()
            laptop = Laptop(self.laptop, self._folder / label)
            laptop.join(invite)
            self.devices.append(laptop.keys())


class Probe:
    """The program `probe`, at work in one host of the lab."""

    def __init__(self, host: Host, addresses: Sequence[str], gap_ms: float, output: Path) -> None:
        argv = [sys.executable, "-m", "tests.chaos.probe", str(PORT), str(gap_ms), *addresses]
        self._output = output
        self._file = output.open("w")
        path = {**os.environ, "PYTHONPATH": str(CHECKOUT)}
        self._process: subprocess.Popen[bytes] = host.popen(argv, stdout=self._file, env=path, cwd=CHECKOUT)
        self.attempts = 0

    def passes(self) -> list[Passed]:
        """What got through, or was answered at all, until now."""
        found = []
        for line in self._output.read_text().splitlines():
            words = line.split()
            if words[0] == "attempts":
                self.attempts = int(words[1])
            else:
                found.append(Passed(float(words[0]), float(words[1]), 6 if ":" in words[2] else 4))
        return found

    def stop(self) -> list[Passed]:
        """End it; everything that got through."""
        self._process.terminate()
        self._process.wait(20)
        self._file.close()
        return self.passes()


@contextlib.contextmanager
def stage(wheel: Path, folder: Path, rng: random.Random) -> Iterator[Site]:
    """A lab with the machine in its server's place, installed and serving."""
    root = folder / "machine"
    root.mkdir()
    with Lab(("alice", "stranger")) as lab, Machine(lab.server, root) as machine:
        site = Site(lab, machine, rng, folder)
        try:
            site.install(wheel)
            yield site
        finally:
            site.close()
