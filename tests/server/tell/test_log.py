"""How lines look on standard error, as text and as JSON."""

from __future__ import annotations

import json
import logging
import os
import threading
from collections.abc import Iterator

import pytest

from spa_server.tell import event_types
from spa_server.tell.events import happened
from spa_server.tell.log import LogFormat, StandardError, start_logging
from tests.server.tell.told import granted


@pytest.fixture(autouse=True)
def _logging_as_it_was() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level, raising = root.handlers[:], root.level, logging.raiseExceptions
    yield
    root.handlers[:], logging.raiseExceptions = handlers, raising
    root.setLevel(level)


def test_a_line_of_text_has_the_time_in_utc_and_no_line_end_of_its_own(capfd: pytest.CaptureFixture[str]) -> None:
    start_logging(verbose=False)
    logging.getLogger("spa.test").info("one\ntwo \x1b[31m")
    line = capfd.readouterr().err
    assert line.endswith(r"Z INFO one\ntwo \x1b[31m" + "\n")
    assert line.count("\n") == 1


def test_a_line_of_json_says_what_the_trail_says(capfd: pytest.CaptureFixture[str]) -> None:
    start_logging(verbose=False, form=LogFormat.JSON)
    happened(logging.getLogger("spa.knock"), granted("ab12"))
    logging.getLogger("spa.test").warning("plain\nso")
    event, plain = map(json.loads, capfd.readouterr().err.splitlines())
    assert (event["event"]["code"], event["session"]["id"]) == (event_types.GRANTED.message_id, "ab12")
    assert event["log"] == {"level": "info", "logger": "spa.knock"}
    assert (plain["message"], plain["log"]["level"]) == ("plain\nso", "warning")
    assert plain["@timestamp"].endswith("Z")


def test_a_reader_who_does_not_read_holds_nobody_up() -> None:
    read_end, write_end = os.pipe()
    with os.fdopen(read_end, "rb"), os.fdopen(write_end, "w") as stream:
        handler = StandardError(stream)
        for number in range(20_000):  # would stand still for ever if it waited
            handler.emit(logging.makeLogRecord({"msg": f"line {number}"}))


def test_every_type_has_a_name_and_an_id_of_its_own() -> None:
    kinds = event_types.TYPES.values()
    assert len({kind.message_id for kind in kinds}) == len({kind.name for kind in kinds}) == len(kinds) > 25
    for kind in kinds:
        assert len(bytes.fromhex(kind.message_id)) == 16
        assert kind.message_id[12] == "4", "a random one, as `journalctl --new-id128` makes it"
        assert kind.means
        assert kind.kind in ("event", "alert", "state")


def test_a_long_line_holds_nobody_up_either() -> None:
    read_end, write_end = os.pipe()
    with os.fdopen(read_end, "rb"), os.fdopen(write_end, "w") as stream:
        handler = StandardError(stream)

        def tell() -> None:
            for _ in range(20):
                handler.emit(logging.makeLogRecord({"msg": "a long line " * 2_000}))

        telling = threading.Thread(target=tell, daemon=True)
        telling.start()
        telling.join(60)
        assert not telling.is_alive(), "it waits for a reader"
