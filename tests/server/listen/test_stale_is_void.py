"""A knock that a wrong clock refused is void: whoever recorded it cannot send it again when the clock is right."""

from __future__ import annotations

import pytest

from spa_protocol.refusal import Refusal
from tests.server.listen.verdicts import verdict
from tests.server.listen.world import SKEW_MS, START, ListeningServer, later


@pytest.mark.parametrize("step_ms", [SKEW_MS + 2_000, -SKEW_MS - 2_000])
@pytest.mark.parametrize("restart", [False, True])
def test_it_opens_nothing_later(server: ListeningServer, step_ms: int, restart: bool) -> None:
    alice = server.add("alice-laptop")
    knock = alice.knock(START.wall_ms, 0, "web")
    wrong = later(START, step_ms, 0)
    assert verdict(alice, server.hear(knock, wrong), knock) in (Refusal.STALE, Refusal.EARLY)
    if restart:
        server.restart(START)
    server.membership.keep_time(wrong)
    server.membership.keep_time(START)
    assert verdict(alice, server.hear(knock, START), knock) is Refusal.ALREADY_USED
    assert server.firewall.granted == []
    fresh = alice.knock(START.wall_ms, 1, "web")
    assert verdict(alice, server.hear(fresh, START), fresh) == "granted"
