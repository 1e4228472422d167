"""From a wish to the word of it: the board, what is new on it, and the loop that waits for that."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from spa_protocol.refusal import Refusal
from spa_server.announce.board import Unreadable, post, read
from spa_server.announce.changes import FolderGone, Replacements
from spa_server.announce.lane import Lane
from spa_server.announce.loop import follow, lanes_of
from spa_server.announce.news import News, What, at_start, since
from spa_server.approval_table import ApprovalSettings
from spa_server.decide.decision import Refused
from spa_server.listen.approvals import Approvals
from spa_server.remember.requests import Request, Requests
from spa_server.remember.store import Store, open_store
from tests.server.announce.told import NOW_S, notice
from tests.stalls import PATIENCE_S


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    (tmp_path / "state").mkdir(mode=0o700)
    with open_store(tmp_path / "state", create=True) as opened:
        yield opened


@pytest.fixture
def board(tmp_path: Path) -> Path:
    return tmp_path / "requests.json"


def told(news: Iterator[News]) -> list[tuple[What, str, int]]:
    return [(each.what, each.who, each.notice.number) for each in news]


def test_what_is_posted_is_read_and_only_the_group_may(board: Path) -> None:
    assert read(board) == ()
    post(board, [notice(1), notice(2, "denied", denied_by="bob")])
    post(board, [notice(3, "approved", ("bob", "carol"))])
    assert read(board) == (notice(3, "approved", ("bob", "carol")),)
    assert board.stat().st_mode & 0o777 == 0o640
    assert [each.name for each in board.parent.iterdir()] == ["requests.json"]


@pytest.mark.parametrize("text", ["", "{}x", "[1]", "[{}]", '[{"number": "1"}]', "[" * 100_000, "\xff", "null"])
def test_what_is_no_board_is_said_so(board: Path, text: str) -> None:
    board.write_text(text)
    with pytest.raises(Unreadable, match=r"requests\.json"):
        read(board)


def test_a_board_that_cannot_be_written_stops_nobody(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    post(tmp_path / "none" / "requests.json", [notice()])
    assert "nobody is told" in caplog.text


def test_what_is_new_is_told_once_and_what_ran_out_is_not() -> None:
    waiting = notice(1)
    steps = [
        ((), (waiting,), [(What.ASKED, "alice", 1)]),
        ((waiting,), (waiting,), []),
        ((waiting,), (notice(1, "approved", ("bob",)),), [(What.APPROVED, "bob", 1)]),
        ((notice(1, "approved", ("bob",)),), (notice(1, "approved", ("bob", "carol")),), [(What.APPROVED, "carol", 1)]),
        ((waiting,), (notice(1, "denied", denied_by="carol"),), [(What.DENIED, "carol", 1)]),
        ((notice(1, "approved", ("bob",)),), (notice(1, "revoked"),), [(What.REVOKED, "", 1)]),
        ((waiting,), (), []),
        ((), (notice(1, "approved", ("bob",)),), [(What.ASKED, "alice", 1), (What.APPROVED, "bob", 1)]),
    ]
    for before, now, expected in steps:
        assert told(since({each.number: each for each in before}, now)) == expected


def test_at_a_start_what_waits_is_told_and_not_what_is_over() -> None:
    now = (notice(1), notice(2, "approved", ("bob",)), notice(3, "denied", denied_by="bob"))
    assert told(at_start(now)) == [(What.ASKED, "alice", 1)]


def test_a_file_that_is_replaced_wakes_whoever_waits_and_others_do_not(board: Path) -> None:
    with Replacements(board) as replaced:
        board.write_text("in place")
        (board.parent / "other.new").write_text("")
        (board.parent / "other.new").replace(board.parent / "other")
        assert not replaced.wait(0)
        post(board, [])
        assert replaced.wait(300)


def test_a_folder_that_goes_ends_the_waiting(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    with Replacements(tmp_path / "run" / "requests.json") as replaced:
        (tmp_path / "run").rmdir()
        with pytest.raises(FolderGone):
            replaced.wait(300)


def test_from_a_knock_to_the_word_of_it(store: Store, board: Path) -> None:
    approvals = Approvals(Requests(store), ApprovalSettings(hook=Path("/bin/true")), board)
    heard: list[News] = []
    ready, done, come = threading.Event(), threading.Event(), threading.Semaphore(0)

    def hear(each: News) -> None:
        heard.append(each)
        come.release()

    lane = Lane("hook", hear, at_a_time=1)
    board.write_text("no board yet")
    thread = threading.Thread(target=follow, args=(board, [lane], ready.set, lambda: not done.is_set()), daemon=True)
    thread.start()
    assert ready.wait(PATIENCE_S)
    post(board, [])
    number = approvals.ask("alice", "alice-laptop", "vault", NOW_S)
    assert approvals.ask("alice", "alice-laptop", "vault", NOW_S) == number
    assert come.acquire(timeout=PATIENCE_S)
    approvals.decide("bob", "bob-pc", number, approve=True, wanted_s=60, now_s=NOW_S, may_decide=lambda _: True)
    assert come.acquire(timeout=PATIENCE_S)
    done.set()
    post(board, [])
    thread.join(300)
    assert not thread.is_alive()
    assert told(iter(heard)) == [(What.ASKED, "alice", number), (What.APPROVED, "bob", number)]


def test_there_are_as_many_ways_as_the_configuration_names() -> None:
    assert lanes_of(ApprovalSettings()) == []
    assert len(lanes_of(ApprovalSettings(hook=Path("/bin/true"), webhook="https://x.example"))) == 2


def test_who_may_not_decide_learns_not_whether_it_waits(store: Store) -> None:
    approvals = Approvals(Requests(store), ApprovalSettings(longest_s=100))
    number = approvals.ask("alice", "alice-laptop", "vault", NOW_S)
    asked: list[int] = []

    def never(request: Request) -> bool:
        asked.append(request.number)
        return False

    for who, may in (("bob", never), ("alice", lambda _: True)):
        refused = approvals.decide(who, "pc", number, approve=True, wanted_s=0, now_s=NOW_S, may_decide=may)
        assert refused == Refused(Refusal.NOT_AN_APPROVER, str(number))
    assert asked == [number]
    refused = approvals.decide("bob", "pc", 1, approve=True, wanted_s=0, now_s=NOW_S, may_decide=lambda _: True)
    assert refused == Refused(Refusal.NO_SUCH_REQUEST, "1")
    said = approvals.decide("bob", "pc", number, approve=True, wanted_s=9999, now_s=NOW_S, may_decide=lambda _: True)
    assert said == "vault for alice: approved for 100 s"
    assert approvals.approval("alice", "vault", NOW_S + 99).by == {"bob"}
    assert approvals.approval("alice", "vault", NOW_S + 100).by == frozenset()
