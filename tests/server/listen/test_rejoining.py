"""The firewall process comes and goes: another is looked for in time, ever less often; nothing is asked meanwhile."""

from __future__ import annotations

import selectors
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from spa_server.enforce.client import FirewallGone
from spa_server.listen import rejoining
from spa_server.listen.firewall_link import FirewallLink
from spa_server.listen.rejoining import HELD_S, LONGEST_S, SHORTEST_S, Rejoining
from tests.server.listen.world import SERVICES

PORTS = (62_201,)


@dataclass
class Clock:
    """A monotonic clock that a test moves; what else `time` has is not needed."""

    now_s: float = 1000.0

    def monotonic(self) -> float:
        return self.now_s


@dataclass
class Keepers:
    """Who listens, or does not: each time one is reached, it hangs up at once where it is to turn people away."""

    listens: bool = False
    tried: int = 0
    ends: list[socket.socket] = field(default_factory=list)

    def reach(self) -> socket.socket:
        self.tried += 1
        if not self.listens:
            raise ConnectionRefusedError
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        theirs.close()
        self.ends.append(ours)
        return ours


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(rejoining, "time", clock)
    return clock


@pytest.fixture
def channel() -> Iterator[socket.socket]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        yield ours
    ours.close()


def made(channel: socket.socket, keepers: Keepers | None) -> tuple[FirewallLink, Rejoining, selectors.BaseSelector]:
    link, selector = FirewallLink(channel, PORTS, SERVICES, lambda: None), selectors.DefaultSelector()
    return link, Rejoining(link, channel, keepers.reach if keepers else None, selector), selector


def test_where_no_other_can_come_the_end_is_for_good(channel: socket.socket, clock: Clock) -> None:
    link, rejoining, selector = made(channel, None)
    with selector:
        assert not rejoining.lose()
        assert not link.is_away


def test_nothing_is_asked_of_nobody_and_no_descriptor_is_kept(channel: socket.socket, clock: Clock) -> None:
    link, rejoining, selector = made(channel, Keepers())
    with selector:
        assert rejoining.lose()
        assert channel.fileno() == -1
        assert not selector.get_map()
        for ask in (link.counts, lambda: link.arm([bytes(8)], 1000), lambda: link.reload(PORTS, SERVICES)):
            with pytest.raises(FirewallGone, match="is away"):
                ask()


@pytest.mark.parametrize("turns_away", [False, True], ids=["nobody listens", "it hangs up at once"])
def test_another_is_looked_for_ever_less_often_but_at_least_once_a_second(
    channel: socket.socket, clock: Clock, turns_away: bool
) -> None:
    keepers = Keepers(listens=turns_away)
    _, rejoining, selector = made(channel, keepers)
    with selector:
        rejoining.lose()
        begun_s, waits_s = clock.now_s, []
        while clock.now_s < begun_s + 60:
            before = keepers.tried
            with pytest.raises(FirewallGone):
                rejoining.join(PORTS, SERVICES)
            assert keepers.tried == before + 1
            waits_s.append(rejoining.next_s - clock.now_s)
            assert waits_s[-1] <= max(SHORTEST_S, (clock.now_s - begun_s) / 10) + 1e-6
            with pytest.raises(FirewallGone):
                rejoining.join(PORTS, SERVICES)
            assert keepers.tried == before + 1, "it is not looked for before its time"
            clock.now_s = rejoining.next_s
        assert waits_s[0] == pytest.approx(SHORTEST_S)
        assert waits_s[-1] == pytest.approx(LONGEST_S)
        assert len(waits_s) < 120
        assert not selector.get_map()
        assert all(end.fileno() == -1 for end in keepers.ends)


def test_knocks_wait_for_a_few_seconds_only(channel: socket.socket, clock: Clock) -> None:
    _, rejoining, selector = made(channel, Keepers())
    with selector:
        assert not rejoining.holds_knocks
        rejoining.lose()
        assert rejoining.holds_knocks
        clock.now_s += HELD_S - 0.01
        assert rejoining.holds_knocks
        rejoining.next_s = clock.now_s + 1
        left_s = rejoining.left_s()
        assert left_s is not None
        assert left_s <= 0.011, "there is a turn when their time is over"
        clock.now_s += 0.02
        assert not rejoining.holds_knocks
