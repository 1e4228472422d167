"""What is told of a datagram: recorded before it is granted or enrolled, and counted without users or addresses."""

from __future__ import annotations

import pytest

from spa_protocol.answer import Checkpoint
from spa_protocol.refusal import Refusal
from spa_server.decide.decision import Grant
from spa_server.tell.counts import Decision
from spa_server.tell.events import Event, event_of
from tests.server.listen.verdicts import heard
from tests.server.listen.world import START, ListeningServer, RecordingFirewall
from tests.server.tell.told import granting


def test_a_grant_is_on_record_before_the_kernel_is_asked(
    server: ListeningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_record: list[list[str]] = []
    really = RecordingFirewall.open_leases

    def open_leases(self: RecordingFirewall, grant: Grant, label: str) -> tuple[int, ...]:
        on_record.append([event.type.name for event in server.records.events])
        return really(self, grant, label)

    monkeypatch.setattr(RecordingFirewall, "open_leases", open_leases)
    alice = server.add("alice-laptop")
    assert heard(server, alice, alice.knock(START.wall_ms, 0, "web")) == "granted"
    assert on_record == [["granting"]]


def test_what_cannot_be_recorded_is_not_granted_and_its_slot_is_used_up(server: ListeningServer) -> None:
    alice = server.add("alice-laptop")
    server.records.is_full = True
    assert heard(server, alice, alice.knock(START.wall_ms, 0, "web")) is Refusal.NOT_RECORDED
    assert not server.firewall.granted
    server.records.is_full = False
    server.restart(START)
    assert heard(server, alice, alice.knock(START.wall_ms, 0, "web")) is Refusal.ALREADY_USED
    assert heard(server, alice, alice.knock(START.wall_ms, 1, "web")) == "granted"


def test_what_cannot_be_recorded_redeems_no_invite(server: ListeningServer) -> None:
    invite = server.invite("bob-laptop", START)
    server.records.is_full = True
    datagram, _ = invite.enrolment(START.wall_ms, 0, "bob")
    answer = invite.answer(server.hear(datagram, START), datagram)
    assert answer is not None
    assert answer.refusal is Refusal.NOT_RECORDED
    assert server.registry.device("bob-laptop") is None


def test_a_refusal_says_what_was_wanted(server: ListeningServer, caplog: pytest.LogCaptureFixture) -> None:
    guest = server.add("guest-laptop", roles=("guest",))
    with caplog.at_level("INFO"):
        heard(server, guest, guest.knock(START.wall_ms, 0, "web"))
    told = [event for event in map(event_of, caplog.records) if event is not None and event.type.name == "refused"]
    assert [(event.reason, event.services, event.device) for event in told] == [
        ("service_not_allowed", (("web", 0),), "guest-laptop")
    ]


def test_only_services_that_there_are_become_labels(server: ListeningServer) -> None:
    alice = server.add("alice-laptop")
    for slot, name in enumerate(("web", "made-up-1", "made-up-2")):
        heard(server, alice, alice.knock(START.wall_ms, slot, name))
    assert set(server.account.counts.decisions) == {
        Decision("web", "granted", ""),
        Decision("", "refused", "unknown_service"),
    }


def test_a_kernel_that_does_not_open_is_counted_and_told_as_a_refusal(
    server: ListeningServer, caplog: pytest.LogCaptureFixture
) -> None:
    alice = server.add("alice-laptop")
    server.firewall.opening_fails = True
    with caplog.at_level("INFO"):
        assert heard(server, alice, alice.knock(START.wall_ms, 0, "web")) is Refusal.KERNEL_FAILED
    assert server.account.counts.kernel_errors == 1
    refused: list[Event] = [
        event for event in map(event_of, caplog.records) if event is not None and event.type.name == "refused"
    ]
    assert [event.session for event in refused] == [event.session for event in server.records.events]


@pytest.mark.parametrize("service", ["web", "vault"])
def test_every_answer_says_how_far_the_trail_had_come(server: ListeningServer, service: str) -> None:
    alice = server.add("alice")
    server.records.is_told = True
    server.records.events.append(granting("before"))
    request = alice.knock(START.wall_ms, 0, service)
    answer = alice.answer(server.hear(request, START), request)
    assert answer is not None
    newest = len(server.records.events)
    assert answer.checkpoint == Checkpoint(newest, bytes([newest]) * 16)


def test_a_server_without_a_record_tells_none(server: ListeningServer) -> None:
    alice = server.add("alice")
    request = alice.knock(START.wall_ms, 0, "web")
    answer = alice.answer(server.hear(request, START), request)
    assert answer is not None
    assert answer.checkpoint is None
