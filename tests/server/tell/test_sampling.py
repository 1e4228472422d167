"""Nobody who may knock can fill the trail with refusals; how many there were is on record all the same."""

from __future__ import annotations

from dataclasses import replace

from spa_server.tell.event_types import ENROLMENT_REFUSED, GRANTED, REFUSALS_SUMMED, REFUSED
from spa_server.tell.events import Event, Outcome
from spa_server.tell.sampling import EACH, WINDOW_S, Sampling

REFUSAL = Event(REFUSED, "refused alice-laptop", Outcome.FAILURE, reason="stale", user="alice", device="alice-laptop")


def test_the_first_refusals_of_a_minute_are_recorded_each_and_the_others_summed() -> None:
    sampling = Sampling()
    taken = [sampling.takes(REFUSAL, 5.0 + number / 1000) for number in range(EACH + 30)]
    taken += [sampling.takes(replace(REFUSAL, reason="early"), 6.0) for _ in range(2)]
    assert taken == [True] * EACH + [False] * 32
    assert list(sampling.summed(5.0 + WINDOW_S - 1)) == [], "the minute is not over"
    (summed,) = sampling.summed(5.0 + WINDOW_S)
    assert (summed.type, summed.count, summed.about) == (REFUSALS_SUMMED, 32, "stale 30, early 2")
    assert (summed.device, summed.user, summed.outcome) == ("alice-laptop", "alice", Outcome.FAILURE)
    assert sampling.takes(REFUSAL, 70.0)
    assert list(sampling.summed(1000.0)) == [], "nothing was left out"


def test_one_device_does_not_use_up_what_is_recorded_of_another() -> None:
    sampling = Sampling()
    for _ in range(EACH + 1):
        sampling.takes(REFUSAL, 0.0)
    assert sampling.takes(replace(REFUSAL, device="bob-laptop"), 0.0)
    assert not sampling.takes(replace(REFUSAL, type=ENROLMENT_REFUSED), 0.0)


def test_all_else_is_recorded_each() -> None:
    sampling = Sampling()
    assert all(sampling.takes(replace(REFUSAL, type=GRANTED), 0.0) for _ in range(10 * EACH))
