"""What fails is told once, tried again soon and ever more slowly, and told once more when it is over."""

from __future__ import annotations

import pytest

from spa_server.listen.faults import RETRY_FIRST_S, RETRY_MOST_S, Faults


class Trouble(Exception):
    """A failure that is expected."""


class Job:
    def __init__(self) -> None:
        self.trouble = ""

    def __call__(self) -> None:
        if self.trouble:
            raise Trouble(self.trouble)


def test_a_job_that_works_is_not_spoken_of(caplog: pytest.LogCaptureFixture) -> None:
    faults = Faults(Trouble)
    assert faults.attempt("gate", Job())
    assert (str(faults), faults.next_try_s(), caplog.text) == ("", None, "")


def test_a_failure_is_said_once_until_it_is_another(caplog: pytest.LogCaptureFixture) -> None:
    faults, job = Faults(Trouble), Job()
    for job.trouble in ("no room", "no room", "no kernel"):
        assert not faults.attempt("gate", job)
    assert [record.levelname for record in caplog.records] == ["ERROR", "ERROR"]
    assert str(faults) == "no kernel"


def test_it_is_tried_again_soon_and_never_more_than_a_second_apart() -> None:
    faults, job = Faults(Trouble), Job()
    job.trouble = "no room"
    waits_s = []
    for _ in range(8):
        faults.attempt("gate", job)
        waits_s.append(faults.next_try_s())
    assert waits_s[:3] == [RETRY_FIRST_S, 2 * RETRY_FIRST_S, 4 * RETRY_FIRST_S]
    assert set(waits_s[4:]) == {RETRY_MOST_S}


def test_its_end_is_said_and_the_next_failure_is_tried_again_soon(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    faults, job = Faults(Trouble), Job()
    job.trouble = "no room"
    for _ in range(5):
        faults.attempt("gate", job)
        faults.next_try_s()
    job.trouble = ""
    assert faults.attempt("gate", job)
    assert "mended: gate" in caplog.text
    assert faults.next_try_s() is None
    job.trouble = "again"
    faults.attempt("gate", job)
    assert faults.next_try_s() == RETRY_FIRST_S


def test_one_job_in_order_does_not_hide_the_failure_of_another() -> None:
    faults, job = Faults(Trouble), Job()
    job.trouble = "no room"
    faults.attempt("state", job)
    assert faults.attempt("gate", Job())
    assert str(faults) == "no room"


def test_what_is_not_expected_is_not_taken_for_a_failure() -> None:
    def bug() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        Faults(Trouble).attempt("gate", bug)
