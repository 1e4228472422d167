"""One call of osquery, and what is made of its answer."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spa_client.posture.osquery import command, look
from spa_client.posture.programs import Command, Ran
from spa_protocol.posture import Fact, Posture, PostureSource
from tests.client.posture.fake_linux import answering

NOW_S = 1_713_000_000.0


def rows(**facts: str) -> str:
    """As `osqueryi --json` prints them."""
    lines = ",\n".join(f'  {{"fact":{json.dumps(fact)},"value":{json.dumps(value)}}}' for fact, value in facts.items())
    return f"[\n{lines}\n]\n"


def told(text: str, platform: str = "darwin", code: int | None = 0) -> Posture:
    return look(answering({command(platform): Ran(code, text)}), platform, NOW_S).posture()


def test_it_is_one_call() -> None:
    asked: list[Command] = []
    look(answering({}, asked), "linux", NOW_S)
    ((program, option, query),) = asked
    assert (program, option) == ("osqueryi", "--json")
    assert query.count(";") == 1


def test_what_it_says_is_osquerys() -> None:
    said = rows(
        name="macOS",
        version="14.4.1",
        uptime="86400",
        disk="1",
        boot="1",
        firewall="2",
        lock="1",
        installed="1712000000",
    )
    assert told(said) == Posture(
        0, PostureSource.OSQUERY, Fact.YES, Fact.YES, Fact.YES, Fact.YES, 11, 86_400, "macOS 14.4.1"
    )


def test_what_it_does_not_say_stays_unknown_and_is_osquerys_too() -> None:
    assert told(rows(name="Debian", version="12")) == Posture(source=PostureSource.OSQUERY, system="Debian 12")
    assert told("[\n\n]\n") == Posture(source=PostureSource.OSQUERY)


def test_two_answers_are_none() -> None:
    said = '[\n  {"fact":"disk","value":"1"},\n  {"fact":"disk","value":"0"}\n]\n'
    assert told(said).disk_encrypted is Fact.UNKNOWN


def test_a_warning_before_the_answer_is_passed_over() -> None:
    warned = f"W0413 10:20:00.1 options.cpp:106] [experimental] Cannot set\n{rows(disk='1')}"
    assert told(warned).disk_encrypted is Fact.YES


@pytest.mark.parametrize("value", ["2", "-1", "", "yes", "01"])
def test_another_number_is_no_yes(value: str) -> None:
    posture = told(rows(disk=value, boot=value, lock=value))
    assert {posture.disk_encrypted, posture.secure_boot, posture.screen_lock} == {Fact.UNKNOWN}


def test_where_it_is_not_installed_everything_is_unknown() -> None:
    found = look(answering({}), "linux", NOW_S)
    assert found.posture() == Posture(source=PostureSource.OSQUERY)
    assert found.disk_encrypted.unknown == "there is no osqueryi here"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["fact", "value"]), inner),
    max_leaves=10,
)


@given(text=st.text(max_size=100) | json_values.map(json.dumps), code=st.sampled_from([0, 1, None]))
def test_nothing_that_it_prints_breaks_it(text: str, code: int | None) -> None:
    posture = told(text, code=code)
    assert posture.source is PostureSource.OSQUERY
    assert Fact.YES not in {posture.disk_encrypted, posture.screen_lock, posture.firewall, posture.secure_boot}
