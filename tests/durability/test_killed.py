"""SIGKILL at random moments between a knock's receipt and its reply: the same datagram never opens twice.

Each trial sends a knock to a running server, kills one of its processes or both a random moment later, takes the
lease back if there is one, starts the server again and sends the same datagram once more. The kernel's own
notifications are counted: over both lives there may be at most one grant. SPA_KILL_SEED repeats a run's choices,
SPA_KILLS sets how many there are.
"""

from __future__ import annotations

import os
import random
import signal
import socket
import statistics
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from spa_protocol.refusal import Refusal
from tests.durability.grants import GrantWatch
from tests.durability.leases import take_back_leases
from tests.end_to_end.crafting import Keys, now_ms
from tests.end_to_end.running import WEB, Laptop, RunningServer, enrolled, open_folder, udp_socket
from tests.lab import Lab
from tests.stalls import PATIENCE_S

KILLS = int(os.environ.get("SPA_KILLS", "200"))
SLOTS = 64
LAPTOPS = 5
"""Enough for 320 trials a minute: the more of them, the faster the machine may be."""
SAMPLES = 10
VICTIMS = ("network", "firewall", "network, firewall", "firewall, network")


@dataclass(slots=True)
class Site:
    """The running server, laptops that may knock, and the count of grants."""

    lab: Lab
    server: RunningServer
    laptops: list[Laptop]
    watch: GrantWatch

    def knocks(self) -> Iterator[tuple[Keys, bytes]]:
        """Fresh knocks, each under a window and slot of its own, and whose they are."""
        keys = [laptop.keys() for laptop in self.laptops]
        window, used = -1, 0
        while True:
            at_ms = now_ms()
            this = at_ms // 60_000
            window, used = (window, used) if this == window else (this, 0)
            owner, slot = keys[used % LAPTOPS], used // LAPTOPS
            assert slot < SLOTS, "more trials a minute than there are slots"
            used += 1
            yield owner, owner.knock("web", lease_s=60, time_ms=at_ms, slot=slot)

    def receive(self, sock: socket.socket, keys: Keys, request: bytes, patience_s: float) -> Refusal | str:
        """What the server said to that request: a refusal, "granted" or "nothing"."""
        sock.settimeout(patience_s)
        try:
            answer = keys.answer(sock.recv(2048), request)
        except (TimeoutError, BlockingIOError):
            return "nothing"
        assert answer is not None, "an answer that is not this server's to this request"
        return answer.refusal or "granted"

    def kill(self, victims: str) -> None:
        """SIGKILL to these processes in this order; returns when both are gone, as one does not outlive the other."""
        pids = {"network": self.server.network_pid, "firewall": self.server.firewall_pid}
        for victim in victims.split(", "):
            os.kill(pids[victim], signal.SIGKILL)
        assert self.server.process is not None
        self.server.process.wait(timeout=PATIENCE_S)
        self.server.stop()


@pytest.fixture
def site(lab: Lab) -> Iterator[Site]:
    with open_folder() as folder, RunningServer(lab, folder, WEB, slots=SLOTS) as server:
        laptops = [enrolled(server, lab.clients["alice"], f"laptop-{number}") for number in range(LAPTOPS)]
        with GrantWatch(lab.server) as watch:
            yield Site(lab, server, laptops, watch)


def measured_latency_s(site: Site, knocks: Iterator[tuple[Keys, bytes]], sock: socket.socket) -> float:
    """The median time from the departure of a server's first knock to its reply's arrival."""
    taken_s = []
    for _ in range(SAMPLES):
        site.server.kill()
        # What a new firewall process takes over from the one before it would count as a grant, too.
        take_back_leases(site.lab.server)
        site.server.start()
        keys, datagram = next(knocks)
        begun_s = time.perf_counter()
        sock.sendto(datagram, (str(site.lab.server.ipv4), 62201))
        assert site.receive(sock, keys, datagram, PATIENCE_S) == "granted"
        taken_s.append(time.perf_counter() - begun_s)
    assert site.watch.new() == SAMPLES
    return statistics.median(taken_s)


@pytest.mark.timeout(1800)
def test_no_kill_between_receipt_and_reply_makes_a_second_grant(site: Site) -> None:
    seed = int(os.environ.get("SPA_KILL_SEED") or random.SystemRandom().randrange(1 << 32))
    chance = random.Random(seed)
    knocks = site.knocks()
    outcomes: Counter[str] = Counter()
    begun_s = time.monotonic()
    to = (str(site.lab.server.ipv4), 62201)
    with udp_socket(site.lab.clients["alice"], site.lab.server.ipv4) as sock:
        latency_s = measured_latency_s(site, knocks, sock)
        print(f"\nseed {seed}; receipt to reply takes {latency_s * 1000:.2f} ms (median of {SAMPLES})")
        reach_s = latency_s
        for trial in range(KILLS):
            victims, delay_s = chance.choice(VICTIMS), chance.uniform(0, 2 * reach_s)
            keys, datagram = next(knocks)
            sock.sendto(datagram, to)
            until_s = time.perf_counter() + delay_s
            while time.perf_counter() < until_s:
                pass
            site.kill(victims)
            answered = site.receive(sock, keys, datagram, 0)
            before = site.watch.new()
            take_back_leases(site.lab.server)

            site.server.start()
            dropped = site.server.counter("knock_dropped")
            other = "stranger" if trial % 4 == 0 else "alice"
            with udp_socket(site.lab.clients[other], site.lab.server.ipv4) as again:
                again.sendto(datagram, to)
                verdict = site.receive(again, keys, datagram, 0.05)
                if verdict == "nothing" and site.server.counter("knock_dropped") == dropped:
                    verdict = site.receive(again, keys, datagram, PATIENCE_S)
            after = site.watch.new()
            told = f"trial {trial} of seed {seed}: {victims} killed after {delay_s * 1000:.2f} ms"
            assert before + after <= 1, f"{told}: {before} grants, then {after}"
            assert before == 1 or answered != "granted", f"{told}: told of a grant that was not"
            assert after or site.server.counter("knock_dropped") == dropped + 1, f"{told}: then {verdict}"
            assert verdict == ("granted" if after else "nothing"), f"{told}: then {verdict}"
            stage = _stage(before, answered, after)
            outcomes[stage] += 1
            # The machine may be slower or faster by now than when it was measured.
            reach_s *= {NOT_RECORDED: 1.05, TOLD: 0.95}.get(stage, 1)
    took_s = time.monotonic() - begun_s
    print(f"{KILLS} kills in {took_s:.0f} s: " + "; ".join(f"{count} {stage}" for stage, count in outcomes.items()))
    # Kills that all came too early or too late would prove nothing.
    assert outcomes[NOT_RECORDED] >= KILLS // 50
    assert outcomes[NOT_TOLD] + outcomes[NOT_GRANTED] >= KILLS // 50


NOT_RECORDED = "before the use was recorded (the second datagram opened)"
NOT_GRANTED = "after it was recorded, before the grant"
NOT_TOLD = "after the grant, before the reply"
TOLD = "after the reply"


def _stage(before: int, answered: Refusal | str, after: int) -> str:
    if after:
        return NOT_RECORDED
    if not before:
        return NOT_GRANTED
    return TOLD if answered == "granted" else NOT_TOLD
