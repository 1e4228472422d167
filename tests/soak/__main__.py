"""`tests/soak/run`: a day's work compressed, with what the server held at first and at last.

Valid knocks go on all the time, a thousand laptops with a lease each that every further knock renews. Strangers' bogus
datagrams come in bursts at full speed from another host. What is held at last is compared with the first look after the
server has begun to drop the oldest uses of slots: before that its state grows as it should. Exit status 1 when anything
grew from there on, when that is too short a time to tell, or when a knock was not answered as it should be.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Iterator

from tests.durability.test_flood import FLOOD
from tests.end_to_end.crowd import enrol_crowd
from tests.end_to_end.running import WEB, RunningServer, open_folder
from tests.lab import Lab
from tests.soak.figures import Held, look
from tests.soak.knocker import Knocker, members

SLOTS = 64
TRAIL_MIB, TRAIL_FILES = 8, 4
"""A small audit trail, so that its oldest records go from early on."""
STEPS = 100
EVERY = 4
"""So many steps of the hundred from look to look."""
FEWEST_LOOKS = 8
"""So many have to come after the one that the last is held against."""
GROWTH = 1.10
GROWTH_KIB = 2048
"""Memory may be larger at last by a tenth, and two MiB for the allocator's waste."""


def main() -> int:
    """Run; 1 when something is not as it should be."""
    asked = _options()
    with Lab() as lab, open_folder() as folder:
        server = RunningServer(lab, folder, WEB, slots=SLOTS, audit_file_mib=TRAIL_MIB, audit_files=TRAIL_FILES)
        crowd = members(enrol_crowd(server, asked.devices))
        with server, lab.clients["alice"].bind_udp(0) as sock:
            knocker = Knocker(sock, lab.server, server.knock_port, crowd, SLOTS)
            begun_s = time.monotonic()
            looks: list[Held] = []
            for step, flood in enumerate(_floods(lab, server, asked.bogus // STEPS), start=1):
                knocker.knock(asked.knocks // STEPS)
                if flood.wait(120):
                    raise SystemExit("the strangers' datagrams could not be sent")
                if step % EVERY == 0:
                    looks.append(look(server))
                    print(
                        f"{time.monotonic() - begun_s:6.0f} s  {knocker.answered} answered  {looks[-1].told()}",
                        flush=True,
                    )
            took_s = time.monotonic() - begun_s
            return _verdict(server, knocker, looks, took_s, asked.bogus)


def _options() -> argparse.Namespace:
    options = argparse.ArgumentParser(prog="tests/soak/run", description=__doc__)
    options.add_argument("--knocks", type=int, default=1_000_000, help="valid knocks and renewals")
    options.add_argument("--bogus", type=int, default=10_000_000, help="strangers' datagrams")
    options.add_argument("--devices", type=int, default=1000)
    return options.parse_args()


def _floods(lab: Lab, server: RunningServer, each: int) -> Iterator[subprocess.Popen[bytes]]:
    """A burst of strangers' datagrams for each step, by turns of the two families."""
    for step in range(STEPS):
        to = lab.server.address(4 if step % 2 else 6)
        yield lab.clients["stranger"].popen([sys.executable, "-c", FLOOD, str(to), str(server.knock_port), str(each)])


def _verdict(server: RunningServer, knocker: Knocker, looks: list[Held], took_s: float, bogus: int) -> int:
    flat = [held for held in looks if held.retired] or looks[-1:]
    first, last = flat[0], flat[-1]
    results, dropped = server.results(), server.counter("knock_dropped")
    print(f"first  {first.told()}")
    print(f"last   {last.told()}")
    print(
        f"{knocker.sent} knocks in {took_s:.0f} s ({knocker.sent / took_s:.0f}/s), {knocker.answered} answered,"
        f" {knocker.lost} not; answers opened: {dict(knocker.opened)}; the server's outcomes: {results}"
    )
    print(f"{bogus} bogus datagrams sent, {dropped} dropped at the gate")
    wrong = [
        f"{name} grew from {before} to {after}"
        for name, before, after in (
            ("the network process's memory", first.network_kib, last.network_kib),
            ("the firewall process's memory", first.firewall_kib, last.firewall_kib),
            ("the state", first.state_kib, last.state_kib),
        )
        if after > before * GROWTH + GROWTH_KIB
    ]
    if len(flat) <= FEWEST_LOOKS:
        wrong.append(
            f"too few knocks to tell: it holds {last.used_slots} used slots, and dropped the oldest late or never"
        )
    if last.trail_kib > TRAIL_MIB * TRAIL_FILES * 1024 + GROWTH_KIB:
        wrong.append(f"the audit trail takes {last.trail_kib} KiB")
    if last.network_descriptors > first.network_descriptors or last.firewall_descriptors > first.firewall_descriptors:
        wrong.append("a process holds more descriptors than at first")
    if set(results) != {"granted"}:
        wrong.append(f"not everything that reached the server was granted: {results}")
    if knocker.lost > knocker.sent // 1000:
        wrong.append(f"{knocker.lost} of {knocker.sent} knocks were not answered")
    if set(knocker.opened) != {"granted"}:
        wrong.append(f"answers that were opened: {dict(knocker.opened)}")
    for each in wrong:
        print(f"WRONG: {each}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
