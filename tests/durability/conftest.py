"""A running server with one service and short fixtures around it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

from spa_protocol.refusal import Refusal
from tests.durability.grants import GrantWatch
from tests.end_to_end.crafting import Keys
from tests.end_to_end.laptop import ANSWER_S
from tests.end_to_end.running import WEB, Laptop, RunningServer, ask_udp, enrolled, open_folder, wait_until
from tests.lab import Host, Lab


@dataclass(slots=True)
class Site:
    """A server that runs, Alice's enrolled laptop, and the count of what the kernel was given."""

    lab: Lab
    server: RunningServer
    alice: Laptop
    keys: Keys
    watch: GrantWatch

    def hear(self, datagram: bytes, host: Host | None = None, *, patience_s: float = ANSWER_S) -> Refusal | str:
        """Send a datagram from Alice's host or another: a refusal, "granted", or "nothing" when nothing came back."""
        sender = host or self.alice.host
        reply = ask_udp(sender, datagram, self.lab.server.ipv4, self.server.knock_port, patience_s=patience_s)
        if reply is None:
            return "nothing"
        answer = self.keys.answer(reply, datagram)
        assert answer is not None, "an answer that is not this server's to this request"
        return answer.refusal or "granted"

    def is_dropped_at_the_gate(self, datagram: bytes, host: Host | None = None) -> bool:
        """Whether the kernel dropped it: then no process has seen it, and nothing is to be waited for."""
        before = self.server.counter("knock_dropped")
        verdict = self.hear(datagram, host, patience_s=0.2)
        wait_until(lambda: self.server.counter("knock_dropped") > before, "a dropped datagram")
        return verdict == "nothing" and self.server.counter("knock_dropped") == before + 1


@contextmanager
def running_site(lab: Lab) -> Iterator[Site]:
    """A site that runs while the block does."""
    with open_folder() as folder, RunningServer(lab, folder, WEB) as server, GrantWatch(lab.server) as watch:
        alice = enrolled(server, lab.clients["alice"], "alice-laptop")
        yield Site(lab, server, alice, alice.keys(), watch)


@pytest.fixture
def site(lab: Lab) -> Iterator[Site]:
    with running_site(lab) as running:
        yield running


@pytest.fixture(scope="module")
def module_site(module_lab: Lab) -> Iterator[Site]:
    """As `site`, for tests that only look."""
    with running_site(module_lab) as running:
        yield running
