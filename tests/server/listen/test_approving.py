"""Approving by a knock: recorded before it counts, and not at all where it cannot be recorded."""

from __future__ import annotations

from pathlib import Path

import pytest

from spa_protocol.knock import Action, Knock, seal_knock
from spa_protocol.refusal import Refusal
from spa_protocol.signature import SeedSigner
from spa_server.approval_table import ApprovalSettings
from spa_server.listen.approvals import Approvals
from spa_server.remember.requests import Requests
from spa_server.tell.events import Outcome
from tests.server.listen.world import IDENTITY, START, Keyring, ListeningServer, nonce

SETTINGS = ApprovalSettings()


@pytest.fixture
def server(tmp_path: Path) -> ListeningServer:
    folder = tmp_path / "state"
    folder.mkdir(mode=0o700)
    return ListeningServer(folder, START)


def said(server: ListeningServer, who: Keyring, knock: Knock, slot: int) -> tuple[Refusal | None, str]:
    datagram = seal_knock(
        knock,
        keys=who.channel,
        signer=SeedSigner(who.seed),
        server_identity=IDENTITY.public,
        slot=slot,
        nonce=nonce(who.label, knock, slot),
    )
    answer = who.answer(server.hear(datagram, START), datagram)
    assert answer is not None
    return answer.refusal, answer.about


def test_an_approval_is_on_record_before_it_counts_or_is_none(server: ListeningServer) -> None:
    # All devices of this world are of one user, so somebody else asks here.
    number = Approvals(Requests(server.store), SETTINGS).ask("alice", "alice-laptop", "web", START.wall_s)
    bob = server.add("bob-laptop", ("approver",))
    approve = Knock(START.wall_ms, action=Action.APPROVE, request=number)
    server.records.is_full = True
    assert said(server, bob, approve, 0)[0] is Refusal.NOT_RECORDED
    assert Requests(server.store).approval("alice", "web", START.wall_s, SETTINGS.longest_s).by == frozenset()
    server.records.is_full = False
    assert said(server, bob, approve, 1) == (None, f"web for alice: approved for {SETTINGS.valid_s} s")
    assert Requests(server.store).approval("alice", "web", START.wall_s, SETTINGS.longest_s).by == {"user"}
    (record,) = server.records.events
    assert (record.request, record.outcome, record.device) == (number, Outcome.UNKNOWN, "bob-laptop")


def test_who_may_not_decide_leaves_no_record_of_an_approval(server: ListeningServer) -> None:
    number = Approvals(Requests(server.store), SETTINGS).ask("alice", "alice-laptop", "web", START.wall_s)
    mallory = server.add("mallory-laptop", ("admin",))
    for slot, action in enumerate((Action.APPROVE, Action.DENY)):
        knock = Knock(START.wall_ms, action=action, request=number)
        assert said(server, mallory, knock, slot) == (Refusal.NOT_AN_APPROVER, str(number))
    assert server.records.events == []


def test_a_disabled_device_decides_on_nothing(server: ListeningServer) -> None:
    number = Approvals(Requests(server.store), SETTINGS).ask("alice", "alice-laptop", "web", START.wall_s)
    bob = server.add("bob-laptop", ("approver",))
    server.registry.set_enabled("bob-laptop", False)
    knock = Knock(START.wall_ms, action=Action.APPROVE, request=number)
    assert said(server, bob, knock, 0)[0] is Refusal.DEVICE_DISABLED
    assert Requests(server.store).approval("alice", "web", START.wall_s, SETTINGS.longest_s).by == frozenset()
