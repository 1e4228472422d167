"""The tag gate: one datagram for each armed tag, nothing for anybody else."""

from __future__ import annotations

import contextlib
import os
import socket

import pytest

from spa_server.enforce import perimeter
from spa_server.enforce.tags import arm, disarm
from tests.server.enforce.conftest import FAMILIES, KNOCK_PORT, PATIENCE_S, QUIET_S, Site

TAG = bytes.fromhex("00ff10203040fe01")
KNOCK = TAG + bytes(504)


class Door:
    """A stranger's sender and the server's receiver at the knock port."""

    def __init__(self, site: Site, version: int, port: int = KNOCK_PORT) -> None:
        family = socket.AF_INET if version == 4 else socket.AF_INET6
        self.receiver = site.server.bind_udp(port)
        self.sender = site.stranger.new_socket(family, socket.SOCK_DGRAM)
        self.sender.connect((str(site.server.address(version)), port))

    def __enter__(self) -> Door:
        return self

    def __exit__(self, *exc: object) -> None:
        self.receiver.close()
        self.sender.close()

    def admits(self, datagram: bytes, patience_s: float = PATIENCE_S) -> bool:
        self.receiver.settimeout(patience_s)
        self.sender.send(datagram)
        try:
            return self.receiver.recv(2000) == datagram
        except TimeoutError:
            return False

    def drops(self, datagram: bytes) -> bool:
        return not self.admits(datagram, QUIET_S)


@pytest.mark.parametrize("version", FAMILIES)
def test_a_tag_admits_one_datagram_and_no_replay(site: Site, version: int) -> None:
    site.close_up()
    arm(site.nft, [TAG], 60_000)
    with Door(site, version) as door:
        assert door.admits(KNOCK)
        assert door.drops(KNOCK)
        assert site.nft.dump("tags") == ()


@pytest.mark.parametrize("version", FAMILIES)
def test_a_tag_admits_one_datagram_over_all_knock_ports(site: Site, version: int) -> None:
    """There is one set of tags: what was used at one port is used at every other."""
    site.knock_ports = (KNOCK_PORT, 443, 53)
    site.close_up()
    with contextlib.ExitStack() as stack:
        doors = [stack.enter_context(Door(site, version, port)) for port in site.knock_ports]
        for used in doors:
            arm(site.nft, [TAG], 60_000)
            assert used.admits(KNOCK)
            assert all(door.drops(KNOCK) for door in doors)


def test_a_port_that_is_no_knock_port_any_more_is_let_be_and_tags_live_on(site: Site) -> None:
    site.knock_ports = (KNOCK_PORT, 443)
    site.close_up()
    arm(site.nft, [TAG], 60_000)
    site.knock_ports = (KNOCK_PORT,)
    site.close_up()
    with Door(site, 4, 443) as former, Door(site, 4) as door:
        assert former.admits(b"anything")
        assert door.admits(KNOCK)
        assert door.drops(KNOCK)


@pytest.mark.parametrize("version", FAMILIES)
@pytest.mark.parametrize("length", [0, 1, 7, 8, 9, 511, 513, 1200])
def test_another_size_is_dropped_and_leaves_the_tag_alone(site: Site, version: int, length: int) -> None:
    site.close_up()
    arm(site.nft, [TAG], 60_000)
    with Door(site, version) as door:
        assert door.drops(KNOCK.ljust(length, b"\0")[:length])
        assert door.admits(KNOCK)


def test_a_bogus_tag_is_dropped_and_both_are_counted(site: Site) -> None:
    site.close_up()
    arm(site.nft, [TAG, b"another!"], 60_000)
    with Door(site, 4) as door:
        assert all(door.drops(os.urandom(8) + bytes(504)) for _ in range(3))
        assert door.drops(TAG[:7] + b"\0" + bytes(504))
        assert door.admits(KNOCK)
    with site.server.enter():
        counted = perimeter.counters()
    assert (counted.knock_admitted.packets, counted.knock_dropped.packets) == (1, 4)
    assert counted.knock_admitted.bytes == 540


def test_a_disarmed_and_an_expired_tag_admit_nothing(site: Site) -> None:
    site.close_up()
    with Door(site, 4) as door:
        arm(site.nft, [TAG], 60_000)
        disarm(site.nft, [TAG, b"unknown!"])
        assert door.drops(KNOCK)
        arm(site.nft, [TAG], 50)
        assert door.drops(bytes(512))  # passes the 50 ms
        assert door.drops(KNOCK)


def test_without_the_daemon_the_knock_port_answers_nothing(site: Site) -> None:
    site.close_up()
    with site.stranger.new_socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.settimeout(0.2)
        sender.connect((str(site.server.ipv4), KNOCK_PORT))
        sender.send(bytes(512))
        with pytest.raises(TimeoutError):
            sender.recv(1)
