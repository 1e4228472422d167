"""Strangers in a user's own network: whatever they send, and however much of it, the user gets in."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter

import pytest

from tests.end_to_end.crafting import Keys
from tests.end_to_end.crowd import enrol_crowd, send_all
from tests.end_to_end.running import Laptop, RunningServer
from tests.lab import Host, Lab
from tests.stalls import wait_until

DATAGRAMS = 100_000
SPENT_TAGS = 12
"""Damaged knocks with live tags, from somebody who has a gate secret: three times as many as are told apart."""

FLOOD = """
import os, socket, sys
to, port, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
sock = socket.socket(socket.AF_INET6 if ":" in to else socket.AF_INET, socket.SOCK_DGRAM)
sock.connect((to, port))
datagrams = [os.urandom(512) for _ in range(500)]
for number in range(count):
    sock.send(datagrams[number % 500])
"""


@pytest.fixture
def colleague(server: RunningServer) -> Keys:
    """Somebody's keys, who is enrolled and means harm."""
    return enrol_crowd(server, 1)[0]


def flood(server: RunningServer, host: Host, family: int) -> subprocess.Popen[bytes]:
    argv = [sys.executable, "-c", FLOOD, str(server.host.address(family)), str(server.knock_port), str(DATAGRAMS // 2)]
    return host.popen(argv)


def damage(datagram: bytes) -> bytes:
    return datagram[:-1] + bytes([datagram[-1] ^ 1])


@pytest.mark.parametrize("version", [4, 6])
def test_a_hundred_thousand_bogus_datagrams_from_the_users_own_network_do_not_keep_him_out(
    server: RunningServer, alice: Laptop, colleague: Keys, lab: Lab, version: int
) -> None:
    neighbour = lab.clients["neighbour"]
    dropped, judged = server.counter("knock_dropped"), server.results()
    floods = [flood(server, neighbour, family) for family in (4, 6)]
    assert [each.wait(120) for each in floods] == [0, 0]
    # A virtual cable loses some of a flood before the kernel's gate; what arrives is dropped there.
    wait_until(lambda: server.counter("knock_dropped") - dropped > DATAGRAMS // 10, "the flood at the gate")
    assert server.results() == judged, "a bogus one reached the server"

    damaged = [damage(colleague.knock("web", slot=slot)) for slot in range(SPENT_TAGS)]
    assert send_all(server, neighbour, damaged, server.host.address(version)) == Counter(not_opened=SPENT_TAGS)

    opened = alice.client("knock", "office", "web", check=True)
    assert opened.returncode == 0
    assert {lease["device"] for lease in server.leases()} == {"alice-laptop"}
    again = alice.client("knock", "office", "web", check=True)
    assert again.returncode == 0, "and he stays in"
