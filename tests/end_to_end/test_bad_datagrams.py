"""Damaged datagrams at the socket of a live server, from senders who hold live tags: the lists of bad inputs, whole.

What the kernel can tell from the length or the tag never reaches the server; all else costs it one look.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import pytest

from spa_protocol.seal import DATAGRAM_SIZE
from spa_protocol.tag import TAG_SIZE
from tests.end_to_end.crafting import Keys
from tests.end_to_end.crowd import Place, enrol_crowd, live_places, send_all
from tests.end_to_end.running import RunningServer, enrolled, wait_until
from tests.lab import Lab

SLOTS = 64
CROWD = 64
"""So that every window has a live tag for each of the 4032 bits behind the tag."""
MOST_GROWTH_KIB = 6_000
SIZES = (*range(1, 20), 127, 128, 129, 399, 400, 401, 1023, 1024, 1025, 1499, 1500, 1501, 2000)


@pytest.fixture(scope="module")
def server(module_lab: Lab, module_folder: Path) -> Iterator[RunningServer]:
    """A server that allows enough skew for the tags of three whole windows."""
    with RunningServer(module_lab, module_folder, slots=SLOTS, max_skew_s=240) as running:
        yield running


@pytest.fixture(scope="module")
def crowd(server: RunningServer) -> list[Keys]:
    """The senders."""
    return enrol_crowd(server, CROWD)


@pytest.fixture(scope="module")
def places(crowd: list[Keys]) -> Iterator[Place]:
    """The senders' live tags, of which each test takes as many as it needs."""
    return live_places(crowd, SLOTS)


@pytest.fixture(autouse=True)
def unharmed(server: RunningServer, places: Iterator[Place], module_lab: Lab) -> Iterator[None]:
    """After each test: the same two processes, no lease, memory where it was, and the next good knock opens."""
    pids, before_kib = server.pids, server.resident_kib()
    yield
    assert server.leases() == []
    after_kib = server.resident_kib()
    print(f"\nresident KiB: {before_kib} before, {after_kib} after")
    for name, kib in after_kib.items():
        assert kib - before_kib[name] < MOST_GROWTH_KIB
    assert server.pids == pids
    label = f"after-{server.log_lines()}"
    laptop = enrolled(server, module_lab.clients["alice"], label)
    laptop.client("knock", "office", "--for", "60", check=True)
    server.command("lease", "revoke", label)


def flipped(datagram: bytes, bit: int) -> bytes:
    damaged = bytearray(datagram)
    damaged[bit // 8] ^= 1 << bit % 8
    return bytes(damaged)


def test_every_flip_of_one_bit_is_refused(server: RunningServer, places: Iterator[Place], module_lab: Lab) -> None:
    bits = range(TAG_SIZE * 8, DATAGRAM_SIZE * 8)
    damaged = (
        flipped(keys.knock("web", time_ms=time_ms, slot=slot), bit)
        for bit, (keys, time_ms, slot) in zip(bits, places, strict=False)
    )
    results = send_all(server, module_lab.clients["alice"], damaged, module_lab.server.ipv4)
    assert results == {"not_opened": len(bits)}


def test_every_flip_of_one_bit_of_the_tag_ends_in_the_kernel(
    server: RunningServer, places: Iterator[Place], module_lab: Lab
) -> None:
    dropped = server.counter("knock_dropped")
    keys, time_ms, slot = next(places)
    good = keys.knock("web", time_ms=time_ms, slot=slot)
    damaged = [flipped(good, bit) for bit in range(TAG_SIZE * 8)]
    assert send_all(server, module_lab.clients["alice"], damaged, module_lab.server.ipv6) == {}
    assert server.counter("knock_dropped") - dropped == len(damaged)


@pytest.mark.parametrize("byte", [0x00, 0x07, 0xFF])
def test_a_byte_replaced_at_any_position_is_refused(
    server: RunningServer, places: Iterator[Place], module_lab: Lab, byte: int
) -> None:
    damaged = []
    for position, (keys, time_ms, slot) in zip(range(TAG_SIZE, DATAGRAM_SIZE), places, strict=False):
        good = keys.knock("web", time_ms=time_ms, slot=slot)
        if good[position] != byte:
            damaged.append(good[:position] + bytes([byte]) + good[position + 1 :])
    results = send_all(server, module_lab.clients["alice"], damaged, module_lab.server.ipv6)
    assert results == {"not_opened": len(damaged)}


def other_lengths(good: bytes) -> Iterator[bytes]:
    """Every truncation, every removal of 1 to 19 bytes anywhere, additions at either end, and two joined."""
    truncated = (good[:length] for length in range(DATAGRAM_SIZE))
    removed = (good[:at] + good[at + size :] for size in range(1, 20) for at in range(DATAGRAM_SIZE - size + 1))
    filler = bytes(range(256)) * 8
    added = (part for size in SIZES for part in (filler[:size] + good, good + filler[:size], good + bytes(size)))
    return chain(truncated, removed, added, [good + good, good + good[::-1]])


@pytest.mark.parametrize("version", [4, 6])
def test_a_datagram_of_another_length_ends_in_the_kernel_and_uses_up_no_tag(
    server: RunningServer, places: Iterator[Place], module_lab: Lab, version: int
) -> None:
    keys, time_ms, slot = next(places)
    good, to = keys.knock("web", lease_s=1, time_ms=time_ms, slot=slot), module_lab.server.address(version)
    admitted, dropped = server.counter("knock_admitted"), server.counter("knock_dropped")
    bad = [datagram for datagram in other_lengths(good) if len(datagram) != DATAGRAM_SIZE]
    assert send_all(server, module_lab.clients["alice"], bad, to) == {}
    assert server.counter("knock_admitted") == admitted
    assert server.counter("knock_dropped") - dropped == len(bad)
    assert send_all(server, module_lab.clients["alice"], [good], to) == {"granted": 1}
    wait_until(lambda: server.leases() == [], "the end of that second's lease")


def test_what_was_shifted_within_the_one_length_is_refused(
    server: RunningServer, places: Iterator[Place], module_lab: Lab
) -> None:
    """Bytes removed behind the tag and made up for at the end; another packet's end; two halves."""
    damaged = []
    for size in range(1, 20):
        for at in (TAG_SIZE, 31, 32, 100, 256, 431, 432, 480, DATAGRAM_SIZE - size):
            keys, time_ms, slot = next(places)
            good = keys.knock("web", time_ms=time_ms, slot=slot)
            damaged.append(good[:at] + good[at + size :] + b"\xa5" * size)
    for at in (TAG_SIZE, 32, 256, 432, 496):
        (keys, time_ms, slot), (other, other_ms, other_slot) = next(places), next(places)
        halves = keys.knock("web", time_ms=time_ms, slot=slot), other.knock("web", time_ms=other_ms, slot=other_slot)
        damaged.append(halves[0][:at] + halves[1][at:])
    results = send_all(server, module_lab.clients["alice"], damaged, module_lab.server.ipv4)
    assert results == {"not_opened": len(damaged)}


def test_a_used_datagram_is_dropped_whoever_sends_it(
    server: RunningServer, places: Iterator[Place], module_lab: Lab
) -> None:
    keys, time_ms, slot = next(places)
    good = keys.knock("web", lease_s=1, time_ms=time_ms, slot=slot)
    assert send_all(server, module_lab.clients["alice"], [good], module_lab.server.ipv4) == {"granted": 1}
    for name in ("alice", "neighbour", "stranger"):
        for to in (module_lab.server.ipv4, module_lab.server.ipv6):
            assert send_all(server, module_lab.clients[name], [good] * 3, to) == {}
    wait_until(lambda: server.leases() == [], "the end of that second's lease")
