"""Programs that hang, talk without end, leave children, or are not there."""

from __future__ import annotations

import os
import select
import sys
from pathlib import Path

import pytest

from spa_client.posture.programs import MAX_OUTPUT, Ran, run
from tests.stalls import PATIENCE_S

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the programs of these tests are of POSIX")
LONG = "3600"


def ran(*command: str, timeout_s: float = PATIENCE_S) -> Ran:
    (each,) = run((command,), timeout_s)
    return each


def test_output_exit_code_and_both_streams_are_told() -> None:
    assert ran("sh", "-c", "echo out; echo err >&2; exit 3") == Ran(3, "out\nerr\n")


def test_outcomes_come_in_the_order_of_the_commands() -> None:
    commands = (("sh", "-c", "exit 1"), ("no-such-program",), ("echo", "hello"))
    assert run(commands, PATIENCE_S) == (
        Ran(1),
        Ran(None, fault="there is no no-such-program here"),
        Ran(0, "hello\n"),
    )


def test_programs_speak_english() -> None:
    assert ran("sh", "-c", "echo $LC_ALL").text == "C\n"


def test_a_program_that_hangs_is_killed() -> None:
    hung = ran("sh", "-c", f"echo $$; exec sleep {LONG}", timeout_s=0.3)
    assert hung == Ran(None, fault="sh did not finish within 0.3 s")


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lets one wait for another's child")
def test_its_children_are_killed_too_though_they_hold_the_pipe(tmp_path: Path) -> None:
    noted = tmp_path / "child"
    hung = ran("sh", "-c", f"sleep {LONG} & echo $! >{noted}; wait", timeout_s=1.0)
    assert hung.code is None
    try:
        child = os.pidfd_open(int(noted.read_text()))
    except ProcessLookupError:
        return
    try:
        assert select.select([child], [], [], PATIENCE_S)[0], "the child outlived its parent"
    finally:
        os.close(child)


def test_a_child_left_behind_with_the_pipe_does_not_hold_us_up(tmp_path: Path) -> None:
    assert ran("sh", "-c", f"sleep {LONG} & exit 0", timeout_s=0.3).code is None


def test_a_program_that_closes_its_output_and_stays_is_killed() -> None:
    assert ran("sh", "-c", f"exec >&- 2>&-; exec sleep {LONG}", timeout_s=0.3).code is None


def test_a_program_that_talks_without_end_is_cut_off() -> None:
    endless = ran("sh", "-c", "while :; do echo yes; done")
    assert endless.code is None
    assert len(endless.text) <= MAX_OUTPUT


def test_what_is_no_text_is_no_fault() -> None:
    assert ran("sh", "-c", r"printf '\377\376'").text == "\ufffd\ufffd"


def test_what_cannot_be_run_is_told(tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_text("not for you")
    assert "cannot be run" in ran(str(program)).fault
    assert "cannot be run" in ran("echo\0").fault


def test_a_program_that_reads_gets_nothing() -> None:
    assert ran("cat") == Ran(0, "")
