"""The operator's program: what it is told, and that it can hang, fail or shout without anybody waiting for it."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

import pytest

from spa_server.announce.hook import HookFailed, run_hook
from spa_server.announce.lane import MOST_WAITING, Lane
from spa_server.announce.news import News
from tests.server.announce.told import news


def program(folder: Path, text: str) -> Path:
    path = folder / "hook"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def test_it_is_told_on_its_standard_input_and_in_its_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_OF_THE_PROCESS", "x")
    run_hook(program(tmp_path, f"cat >{tmp_path}/in; env >{tmp_path}/env; echo $# >{tmp_path}/count"), news())
    assert json.loads((tmp_path / "in").read_text()) == news().fields()
    told = dict(line.split("=", 1) for line in (tmp_path / "env").read_text().splitlines())
    assert {
        "SPA_WHAT": "asked",
        "SPA_NUMBER": "482113",
        "SPA_USER": "alice",
        "SPA_SERVICE": "vault",
    }.items() <= told.items()
    assert told["SPA_TYPE"] == "spa-server request approve 482113"
    assert "SECRET_OF_THE_PROCESS" not in told
    assert (tmp_path / "count").read_text() == "0\n"


def test_one_that_fails_or_is_not_there_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(HookFailed, match="ended with 3"):
        run_hook(program(tmp_path, "exit 3"), news())
    with pytest.raises(HookFailed, match="No such file"):
        run_hook(tmp_path / "none", news())


def test_one_that_hangs_is_ended_with_all_that_it_started(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    with pytest.raises(HookFailed, match="not done after 1 s"):
        run_hook(program(tmp_path, f"sleep 1000 & echo $! >{pid}.new; mv {pid}.new {pid}; wait"), news(), patience_s=1)
    if pid.exists():  # on a stalled machine it may not have come so far
        state = Path(f"/proc/{pid.read_text().strip()}/stat")
        assert not state.exists() or state.read_text().rsplit(")", 1)[1].split()[0] in "ZX"


def test_one_that_shouts_and_does_not_listen_is_run_to_its_end(tmp_path: Path) -> None:
    run_hook(program(tmp_path, "exec <&-; head -c 10000000 /dev/zero; head -c 10000000 /dev/zero >&2"), news())


def test_a_few_are_told_at_a_time_and_what_is_too_much_is_left_out_at_once(caplog: pytest.LogCaptureFixture) -> None:
    go_on, begun, told = threading.Event(), threading.Semaphore(0), list[int]()
    inside = most = 0
    lock = threading.Lock()

    def slow(each: News) -> None:
        nonlocal inside, most
        with lock:
            inside += 1
            most = max(most, inside)
        begun.release()
        go_on.wait()
        with lock:
            inside -= 1
        told.append(each.notice.number)

    lane = Lane("hook", slow, at_a_time=2)
    for number in range(2):
        lane.put(news(number))
        assert begun.acquire(timeout=300)
    for number in range(2, MOST_WAITING + 12):
        lane.put(news(number))
    go_on.set()
    lane.join()
    assert most == 2
    assert sorted(told) == list(range(MOST_WAITING + 2))
    assert sum("too slow" in each.message for each in caplog.records) == 10


def test_one_failure_does_not_keep_the_next_from_being_told(caplog: pytest.LogCaptureFixture) -> None:
    told = []

    def moody(each: News) -> None:
        if each.notice.number == 1:
            raise OSError(os.strerror(28))
        told.append(each.notice.number)

    lane = Lane("hook", moody, at_a_time=1)
    lane.put(news(1))
    lane.put(news(2))
    lane.join()
    assert told == [2]
    assert "of request 1" in caplog.text
