"""The checkpoints of the server's audit trail: the newest is kept, and a step back is seen."""

from __future__ import annotations

import json
from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path

import pytest

import spa_client
from spa_client.checkpoints import CheckpointNote, checkpoint_text
from spa_client.commands import run
from spa_client.enrol import join
from spa_client.errors import Refused
from spa_client.perimeter import Perimeter
from spa_client.storage import Store
from spa_protocol.answer import Answer, Checkpoint
from spa_protocol.refusal import Refusal
from tests.client.gatekeeper import Gatekeeper

Captured = pytest.CaptureFixture[str]


def checkpoint(seq: int, letter: str = "a") -> Checkpoint:
    return Checkpoint(seq, letter.encode() * 16)


def answer(time_ms: int, told: Checkpoint | None) -> Answer:
    return Answer(None, time_ms, IPv4Address("192.0.2.1"), 4000, 16, checkpoint=told)


@pytest.fixture
def note(tmp_path: Path) -> CheckpointNote:
    return CheckpointNote(tmp_path / "checkpoint")


class TestTheNote:
    """What is kept."""

    def test_the_newest_is_kept(self, note: CheckpointNote) -> None:
        assert note.read() is None
        note.note([answer(2, checkpoint(5)), answer(1, checkpoint(4))])
        note.note([answer(3, checkpoint(5))])
        assert note.read() == checkpoint(5)
        assert note.step_back() is None
        assert note.warn() == ""

    @pytest.mark.parametrize("later", [checkpoint(4, "b"), checkpoint(5, "b"), checkpoint(1)])
    def test_a_step_back_is_seen_and_warned_of_once(self, later: Checkpoint, note: CheckpointNote) -> None:
        note.note([answer(1, checkpoint(5))])
        note.note([answer(2, later)])
        step = note.step_back()
        assert step is not None
        assert (step.before, step.now, step.time_ms) == (checkpoint(5), later, 2)
        assert "cut short" in note.warn()
        assert note.warn() == ""
        assert note.step_back() == replace(step, told=True)
        assert note.read() == later

    def test_what_another_process_overtook_is_no_step_back(self, note: CheckpointNote) -> None:
        note.note([answer(10, checkpoint(5))])
        note.note([answer(9, checkpoint(4))])
        note.note([answer(10, checkpoint(3))])
        assert note.step_back() is None
        assert note.read() == checkpoint(5)

    def test_a_server_that_tells_none_changes_nothing(self, note: CheckpointNote) -> None:
        note.note([answer(1, checkpoint(5))])
        note.note([answer(2, None)])
        assert (note.read(), note.step_back()) == (checkpoint(5), None)

    @pytest.mark.parametrize("text", ["", "7", "x y", "7 0:00", f"7 5:{'A' * 32}", "\xff\xfe"])
    def test_a_damaged_note_is_as_none(self, text: str, note: CheckpointNote, tmp_path: Path) -> None:
        (tmp_path / "checkpoint").mkdir()
        for name in ("newest", "back"):
            (tmp_path / "checkpoint" / name).write_bytes(text.encode("latin-1"))
        assert (note.read(), note.step_back(), note.warn()) == (None, None, "")
        note.note([answer(1, checkpoint(2))])
        assert note.read() == checkpoint(2)

    def test_without_a_place_nothing_is_kept(self) -> None:
        note = CheckpointNote(None)
        note.note([answer(1, checkpoint(5))])
        assert (note.read(), note.warn()) == (None, "")


class TestKnocking:
    """What users see."""

    def test_show_prints_the_newest_as_the_server_takes_it(
        self, server: Gatekeeper, office: Perimeter, capsys: Captured
    ) -> None:
        assert run(["show", "office", "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["checkpoint"] is None
        server.behaviour.checkpoint = checkpoint(4711)
        assert run(["knock", "office", "--quiet"]) == 0
        assert run(["show", "office"]) == 0
        assert f"4711:{'61' * 16}\n" in capsys.readouterr().out
        assert run(["show", "office", "--json"]) == 0
        said = json.loads(capsys.readouterr().out)
        assert said["checkpoint"] == checkpoint_text(checkpoint(4711))
        assert said["trail_stepped_back"] is None

    def test_a_trail_that_is_shorter_later_is_warned_of_once_and_shown(
        self, server: Gatekeeper, office: Perimeter, store: Store, capsys: Captured
    ) -> None:
        server.behaviour.checkpoint = checkpoint(4711)
        assert run(["knock", "office"]) == 0
        server.behaviour.checkpoint = checkpoint(17)
        assert run(["knock", "office"]) == 0
        assert "may have been cut short" in capsys.readouterr().err
        assert run(["knock", "office"]) == 0
        assert capsys.readouterr().err == ""
        assert run(["show", "office"]) == 0
        assert "may have been cut short" in capsys.readouterr().out
        assert run(["show", "office", "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["trail_stepped_back"]["before"] == checkpoint_text(checkpoint(4711))

    def test_refusals_and_closes_tell_it_too(self, server: Gatekeeper, office: Perimeter, store: Store) -> None:
        server.behaviour.refuse, server.behaviour.checkpoint = Refusal.DEVICE_DISABLED, checkpoint(5)
        with pytest.raises(Refused):
            spa_client.knock("office", store=store)
        assert store.memory("office").checkpoint.read() == checkpoint(5)
        server.behaviour.refuse = None
        with spa_client.pinhole("office", store=store):
            server.behaviour.checkpoint = checkpoint(6)
        assert store.memory("office").checkpoint.read() == checkpoint(6)

    def test_a_session_keeps_what_it_was_told_with_the_device(self, store: Store) -> None:
        store.for_session().memory("office").checkpoint.note([answer(1, checkpoint(5))])
        assert store.memory("office").checkpoint.read() == checkpoint(5)

    def test_joining_again_begins_anew(self, server: Gatekeeper, office: Perimeter, store: Store) -> None:
        store.memory("office").checkpoint.note([answer(1, checkpoint(5))])
        join(server.invite().text(), store=store, name="office", replace_old=True)
        assert store.memory("office").checkpoint.read() is None
