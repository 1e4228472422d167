"""`tests/chaos/run`: random faults, each while knocks are under way, and what must hold through all of them.

All the time: no stranger gets through or is answered, and the laptop gets through only while a lease can be there.
After each fault: a knock is granted again within two seconds of its end, without a human. Knocks recorded on the way
are sent again when no lease is left: they open nothing. At the end: nobody is missing from the registry, and no grant
from the audit trail. The same seed chooses the same faults. Exit status 1 when anything did not hold.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import random
import signal
import socket
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

from tests.chaos.faults import FAULTS, Fault
from tests.chaos.ledger import Passed
from tests.chaos.site import DEVICES, KEEPER, NETWORK, PORT, Probe, Site, stage
from tests.systemd.installing import build_wheel

RECOVERY_S = 2.0
PATIENCE_S = 30.0
REPLAY_EVERY = 10
"""After so many faults the recorded knocks are sent again."""
AUDIT = "/var/lib/spa/audit.jsonl"


def main() -> int:
    """Run; 1 when something did not hold."""
    asked = _options()
    rng = random.Random(asked.seed)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by a signal"))  # so that the machine is removed
    faults = [fault for fault in FAULTS if asked.only in fault.name]
    with tempfile.TemporaryDirectory(prefix="spa-chaos-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        wheel = build_wheel(folder)
        with stage(wheel, folder, rng) as site:
            return Run(site, rng, folder).go(faults, asked.faults)


def _options() -> argparse.Namespace:
    options = argparse.ArgumentParser(prog="tests/chaos/run", description=__doc__)
    options.add_argument("--faults", type=int, default=1000, help="how many (default 1000)")
    options.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    options.add_argument("--only", default="", help="only faults with this in their name")
    asked = options.parse_args()
    print(f"seed {asked.seed}", flush=True)
    return asked


class Run:
    """One run on one site."""

    def __init__(self, site: Site, rng: random.Random, folder: Path) -> None:
        self._site = site
        self._rng = rng
        self._replaying = random.Random(rng.getrandbits(32))
        self._broken: list[str] = []
        self._recovered_s: list[tuple[float, str]] = []
        self._done: Counter[str] = Counter()
        addresses = [str(site.lab.server.ipv4), str(site.lab.server.ipv6)]
        self._stranger = Probe(site.lab.clients["stranger"], addresses, 1, folder / "stranger")
        self._laptop = Probe(site.laptop, addresses, 5, folder / "laptop")
        self._seen = 0

    def go(self, faults: list[Fault], count: int) -> int:
        """So many faults, one after another."""
        begun_s = time.monotonic()
        before = self._site.registered()
        with self._site.lab.server.listen_tcp(PORT) as listener:
            threading.Thread(target=_take_all, args=(listener,), daemon=True).start()
            if self._site.seconds_until_granted(PATIENCE_S) is None:
                print("the server does not serve to begin with:", self._site.machine.journal()[-3000:])
                return 1
            for number in range(1, count + 1):
                fault = self._rng.choices(faults, [each.weight for each in faults])[0]
                self._do(number, fault)
                if number % REPLAY_EVERY == 0:
                    self._replay()
                if number % 50 == 0 or number == count:
                    self._look(begun_s, number)
            time.sleep(4)
            self._look(begun_s, count)
        self._at_the_end(before)
        return self._told(count, time.monotonic() - begun_s)

    def _do(self, number: int, fault: Fault) -> None:
        """One fault, at a random moment around the arrival of a knock, and the recovery from it."""
        self._done[fault.name] += 1
        begun_s, pids = time.monotonic(), {unit: self._site.pid(unit) for unit in (KEEPER, NETWORK)}
        acting = fault.act(self._site)
        hold_s = self._rng.uniform(0, fault.hold_s)
        if self._rng.random() < 0.8:
            self._site.knock()
            time.sleep(self._rng.uniform(0, 0.004))
        try:
            next(acting)
            end_s = time.monotonic() + hold_s
            while time.monotonic() < end_s:
                self._site.knock()
                time.sleep(min(0.05, hold_s))
            with contextlib.suppress(StopIteration):
                next(acting)
        except Exception as error:
            self._break(f"fault {number}, {fault.name}, could not be done: {error}")
        took_s = self._site.seconds_until_granted(PATIENCE_S)
        ended = {unit for unit, pid in pids.items() if self._site.pid(unit) != pid}
        if KEEPER in ended:
            # The network process has the next keeper close what is in doubt before anything else; unless it ended, too.
            self._site.ledger.doubt(begun_s, math.inf if NETWORK in ended else time.monotonic())
        if took_s is None:
            self._break(f"fault {number}, {fault.name}: no knock was granted in the {PATIENCE_S:.0f} s after it")
            print(self._site.machine.journal("--lines=40"), flush=True)
        else:
            self._recovered_s.append((took_s, fault.name))
            if took_s > RECOVERY_S:
                self._break(f"fault {number}, {fault.name}: a knock was granted only {took_s:.2f} s after it")
                print(self._site.machine.journal("--lines=25"), flush=True)

    def _replay(self) -> None:
        """When every lease has ended, send knocks of the last minute again, as a recorder on the path can."""
        time.sleep(3.2)
        self._site.hear()
        recent = [knock for knock in self._site.ledger.knocks[-120:] if knock.answered_s is not None]
        for knock in self._replaying.sample(recent, min(10, len(recent))):
            self._site.send(knock.datagram, knock.version)
        time.sleep(0.2)
        self._site.hear()
        if self._site.granted_twice:
            self._break(f"{self._site.granted_twice} knocks were granted a second time")
            self._site.granted_twice = 0

    def _look(self, begun_s: float, number: int) -> None:
        """Hold the connections that got through against the leases that were given."""
        strangers = self._stranger.passes()
        for each in strangers[self._seen :]:
            self._break(f"a stranger was answered at {each.first_s - begun_s:.3f} s of the run")
        self._seen = len(strangers)
        passes = self._laptop.passes()
        for stray in self._site.ledger.unexplained(passes):
            self._break(
                f"the laptop got through without a lease at {stray.first_s - begun_s:.3f} s: {_near(self._site, stray)}"
            )
        worst_s, worst = max(self._recovered_s, default=(0.0, ""))
        print(
            f"{time.monotonic() - begun_s:6.0f} s  {number} faults, {len(self._site.ledger.knocks)} knocks,"
            f" {sum(self._site.granted_to.values())} granted, {len(passes)} connections through,"
            f" slowest recovery {worst_s:.2f} s ({worst}), {len(self._broken)} broken",
            flush=True,
        )

    def _at_the_end(self, before: list[str]) -> None:
        after = self._site.registered()
        if before != after:
            self._break(f"the registry had {len(before)} devices and has {len(after)}")
        recorded: Counter[str] = Counter()
        for line in self._site.machine.run("sh", "-c", f"cat {AUDIT}.[0-9]* {AUDIT}", check=False).stdout.splitlines():
            record = json.loads(line)
            if record["event"]["action"] == "granted":
                recorded[record["device"]["id"]] += 1
        for label, granted in self._site.granted_to.items():
            if recorded[label] < granted:
                self._break(f"{label} was granted {granted} times, and {recorded[label]} are in the audit trail")

    def _told(self, count: int, took_s: float) -> int:
        strangers, _ = self._stranger.stop(), self._laptop.stop()
        times = sorted(seconds for seconds, _ in self._recovered_s)
        print(f"{count} faults in {took_s:.0f} s: {dict(self._done.most_common())}")
        if times:
            print(
                f"recovery, n {len(times)}: median {statistics.median(times):.2f} s,"
                f" p95 {times[int(len(times) * 0.95)]:.2f} s, slowest {times[-1]:.2f} s"
            )
        slowest: dict[str, float] = {}
        for seconds, name in self._recovered_s:
            slowest[name] = max(seconds, slowest.get(name, 0))
        for name, seconds in sorted(slowest.items(), key=lambda item: -item[1]):
            print(f"  {seconds:6.2f} s  {name}")
        print(f"strangers tried {self._stranger.attempts} connections, {len(strangers)} were answered")
        print(
            f"the laptop tried {self._laptop.attempts}; knocks refused: {dict(self._site.refusals)}; devices {DEVICES}"
        )
        print(f"knocks answered again when they were repeated: {dict(self._site.again)}")
        return 1 if self._broken else 0

    def _break(self, what: str) -> None:
        self._broken.append(what)
        print(f"BROKEN: {what}", flush=True)


def _near(site: Site, stray: Passed) -> str:
    before = [knock for knock in site.ledger.knocks if knock.version == stray.version and knock.sent_s < stray.last_s]
    if not before:
        return "nobody had knocked"
    last = before[-1]
    answered = "never" if last.answered_s is None else f"{stray.first_s - last.answered_s:.3f} s before"
    answered += f", {last.refusal or 'granted'}"
    return f"last knock {stray.first_s - last.sent_s:.3f} s before, answered {answered}, for {last.lease_s} s"


def _take_all(listener: socket.socket) -> None:
    """Accept what comes, so that no connection fails for want of room."""
    with contextlib.suppress(OSError):
        while True:
            listener.accept()[0].close()


if __name__ == "__main__":
    sys.exit(main())
