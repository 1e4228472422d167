"""Waiting for the firewall process within a limit is not standing still: the service manager is told so meanwhile."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from spa_server.enforce import client
from spa_server.enforce.client import FirewallClient, FirewallSilent
from spa_server.enforce.requests import Answer, Status

DIGEST = bytes(8)


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        yield ours, theirs


def test_a_long_wait_is_no_standing_still(
    ends: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "ALIVE_EVERY_S", 0.01)
    told: list[None] = []
    asking = FirewallClient(ends[0], DIGEST, time_limit_s=0.3, alive=lambda: told.append(None))
    with pytest.raises(FirewallSilent):
        asking.counters()
    assert len(told) > 2


def test_nor_are_many_requests(ends: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "MAX_TAGS", 2)
    told: list[None] = []
    asking = FirewallClient(ends[0], DIGEST, time_limit_s=20, alive=lambda: told.append(None))
    for sequence in (1, 2, 3):
        ends[1].send(Answer(sequence, Status.DONE).pack())
    asking.arm([bytes([number] * 8) for number in range(6)], 1000)
    assert len(told) >= 3
