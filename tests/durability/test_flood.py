"""Strangers by the hundred thousand: they die in the kernel, and the server does not so much as log a line of them."""

from __future__ import annotations

import subprocess
import sys
import time
from collections import Counter

from tests.durability.conftest import Site
from tests.stalls import wait_until

DATAGRAMS = 200_000
GROWTH_KIB = 1024

FLOOD = """
import os, socket, sys
to, port, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
sock = socket.socket(socket.AF_INET6 if ":" in to else socket.AF_INET, socket.SOCK_DGRAM)
sock.connect((to, port))
datagrams = [os.urandom(512) for _ in range(500)]
for number in range(count):
    sock.send(datagrams[number % 500])
"""


def start_flood(site: Site, family: int) -> subprocess.Popen[bytes]:
    """A stranger who sends half of all the bogus datagrams, in one family."""
    argv = [sys.executable, "-c", FLOOD, str(site.lab.server.address(family)), str(site.server.knock_port)]
    return site.lab.clients["stranger"].popen([*argv, str(DATAGRAMS // 2)])


def test_a_flood_costs_the_server_nothing_and_a_good_knock_opens_meanwhile(site: Site) -> None:
    assert site.hear(site.keys.knock("web")) == "granted"
    site.server.status()
    wait_until(lambda: "granted alice-laptop" in site.server.log(), "its line, which comes through a pipe")
    memory, lines = site.server.resident_kib(), site.server.log_lines()
    dropped, judged = site.server.counter("knock_dropped"), Counter(site.server.results())
    begun_s = time.monotonic()
    floods = [start_flood(site, family) for family in (4, 6)]
    asked = 0
    took_ms: list[float] = []
    while len(took_ms) < 3 or (len(took_ms) < 8 and any(flood.poll() is None for flood in floods)):
        asked, asked_s = asked + 1, time.monotonic()
        verdict = site.hear(site.keys.knock("web"), patience_s=5)
        # A virtual cable may lose a knock or its answer in a flood; a laptop would ask again.
        assert verdict in ("granted", "nothing")
        if verdict == "granted":
            took_ms.append((time.monotonic() - asked_s) * 1000)
        assert asked <= len(took_ms) + 3, "knocks are not answered"
        time.sleep(0.1)
    assert [flood.wait(120) for flood in floods] == [0, 0]
    flooded_s = time.monotonic() - begun_s

    dropped = site.server.counter("knock_dropped") - dropped
    told = ", ".join(f"{ms:.1f}" for ms in took_ms)
    print(f"\n{dropped} datagrams dropped in {flooded_s:.1f} s; knocks meanwhile took {told} ms")
    # A virtual cable loses some of a flood before the kernel's gate; what arrives is dropped there.
    assert dropped > DATAGRAMS // 10
    results = Counter(site.server.results()) - judged
    assert set(results) == {"granted"}, "a bogus one reached the server"
    assert len(took_ms) <= results["granted"] <= asked
    # Its lines come through a pipe.
    wait_until(lambda: site.server.log_lines() - lines >= results["granted"], "a line of every knock")
    assert site.server.log_lines() - lines == results["granted"], "more lines than knocks"
    for name, kib in site.server.resident_kib().items():
        assert kib - memory[name] < GROWTH_KIB, f"the {name} process grew by {kib - memory[name]} KiB"


def test_those_of_other_sizes_and_no_size_are_dropped_too(site: Site) -> None:
    dropped, judged = site.server.counter("knock_dropped"), site.server.results()
    knock = site.keys.knock("web")
    wrong = (b"", knock[:8], knock[:511], knock + b"\0", knock + bytes(700))
    for datagram in wrong:
        assert site.hear(datagram, patience_s=0.1) == "nothing"
    wait_until(lambda: site.server.counter("knock_dropped") - dropped >= len(wrong), "all of them at the gate")
    assert site.server.counter("knock_dropped") - dropped == len(wrong)
    assert site.server.results() == judged
    assert site.hear(knock) == "granted", "a wrong size does not use the tag up"
