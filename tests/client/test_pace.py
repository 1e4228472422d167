"""When questions go out, and what is remembered so that none goes out in vain.

The times are those of 6 s, which is twice as long as usual.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from spa_client.errors import NoAnswer
from spa_client.knocking import Request, knock_perimeter
from spa_client.pace import Pace
from spa_client.perimeter import Perimeter
from spa_client.storage import Store
from tests.client.gatekeeper import Gatekeeper

TOTAL_S = 6.0


def test_one_address_alone_is_asked_more_often_than_each_of_two() -> None:
    assert Pace.within(TOTAL_S, 1).questions_s == (0.0, 0.5, 1.2, 2.2, 3.4, 4.6)
    assert Pace.within(TOTAL_S, 2).questions_s == (0.0, 1.0, 2.5, 4.5)


def test_the_schedule_is_stretched_over_the_time_there_is() -> None:
    pace = Pace.within(9.0, 2)
    assert (pace.questions_s, pace.clock_s, pace.total_s) == ((0.0, 1.5, 3.75, 6.75), 4.5, 9.0)


def test_an_answer_that_takes_long_is_waited_for() -> None:
    assert Pace.within(TOTAL_S, 1, 0.8).questions_s == (0.0, 1.2, 2.2, 3.4, 4.6)
    assert Pace.within(TOTAL_S, 2, 1.0).questions_s == (0.0, 2.5, 4.5)


@pytest.mark.parametrize("addresses", [1, 2])
def test_however_long_one_took_there_is_a_second_question(addresses: int) -> None:
    assert len(Pace.within(TOTAL_S, addresses, 60.0).questions_s) >= 2
    assert len(Pace.within(2.9, addresses, 60.0).questions_s) == 2


def test_a_slow_answer_is_remembered_until_none_comes(server: Gatekeeper, office: Perimeter, store: Store) -> None:
    server.behaviour.delay_s = {4: 0.3}
    by_ipv4, memory = replace(office, hosts=("127.0.0.1",)), store.memory("office")
    knock_perimeter(by_ipv4, Request(), memory)
    assert memory.round_trip.seconds() >= 0.3
    server.behaviour.silent = True
    with pytest.raises(NoAnswer):
        knock_perimeter(by_ipv4, Request(timeout_s=0.3), memory)
    assert memory.round_trip.seconds() == 0


def test_a_quick_answer_is_not_remembered(store: Store) -> None:
    note = store.memory("office").round_trip
    note.write(0.7)
    note.write(0.1)
    assert note.seconds() == 0
    assert not list(store.folder.rglob("round-trip"))


def test_a_note_that_is_damaged_is_no_note(store: Store) -> None:
    note = store.memory("office").round_trip
    note.write(0.7)
    (written,) = store.folder.rglob("round-trip")
    written.write_text("soon")
    assert note.seconds() == 0
