"""What a wrong signature can cost: one verification for each tag that is armed, and never one more."""

from __future__ import annotations

import os
import time
from collections import Counter
from pathlib import Path

from spa_protocol.knock import Knock
from tests.end_to_end.crafting import now_ms
from tests.end_to_end.crowd import send_all
from tests.end_to_end.running import Laptop, RunningServer, udp_socket
from tests.lab import Lab
from tests.stalls import ATTEMPTS

SLOTS = 16


def test_all_slots_of_a_window_with_bad_signatures_cost_sixteen_verifications(
    server: RunningServer, alice: Laptop, lab: Lab
) -> None:
    """Each is sent twice, by an attacker who has the gate secret but not the key."""
    keys, at = alice.keys(), now_ms()
    good = keys.knock("web", time_ms=at, slot=0)
    body = Knock(at, ("web",)).body()
    forged = [keys.sealed(body, time_ms=at, slot=slot, seed=os.urandom(32)) for slot in range(SLOTS + 4)]
    admitted, before_s = server.counter("knock_admitted"), cpu_s(server.network_pid)
    results = send_all(server, lab.clients["neighbour"], [*forged, *forged], lab.server.ipv4)
    assert results == {"bad_signature": SLOTS}
    assert server.counter("knock_admitted") - admitted == SLOTS
    cost_ms = (cpu_s(server.network_pid) - before_s) * 1000
    print(f"\n{SLOTS} forgeries took {cost_ms:.0f} ms of the network process's time")
    assert send_all(server, alice.host, [good], lab.server.ipv4) == {}, "whose tag was spent must wait for the next"
    assert server.leases() == []


def test_a_flood_without_tags_costs_the_server_no_time(server: RunningServer, alice: Laptop, lab: Lab) -> None:
    # The processor's time is told in hundredths of a second, and a busy machine charges some of its own to anybody.
    costs_s = [cost_of_a_flood_s(server, alice, lab) for _ in range(ATTEMPTS)]
    assert min(costs_s) < 0.1


def cost_of_a_flood_s(server: RunningServer, alice: Laptop, lab: Lab) -> float:
    """What a second's flood and one good knock took of the network process's time."""
    judged, dropped = Counter(server.results()), server.counter("knock_dropped")
    before_s, admitted = cpu_s(server.network_pid), server.counter("knock_admitted")
    stranger = lab.clients["stranger"]
    with udp_socket(stranger, lab.server.ipv4) as sock:
        begun_s, sent = time.monotonic(), 0
        while time.monotonic() - begun_s < 1:
            for _ in range(100):
                sock.sendto(os.urandom(512), (str(lab.server.ipv4), server.knock_port))
            sent += 100
        alice.client("knock", "office", check=True)
    took_s = cpu_s(server.network_pid) - before_s
    print(f"\n{sent} datagrams of a stranger's in 1 s; the network process worked {took_s * 1000:.0f} ms meanwhile")
    knocks = Counter(server.results()) - judged
    assert set(knocks) == {"granted"}, "alice's knocks and nothing else"
    assert server.counter("knock_admitted") - admitted == knocks["granted"] >= 2
    dropped = server.counter("knock_dropped") - dropped
    assert sent / 10 < dropped <= sent, "on a busy machine the network may lose some itself"
    return took_s


def cpu_s(pid: int) -> float:
    """Processor time a process has used, in seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
