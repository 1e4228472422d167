"""The journal's own protocol: the fields that arrive at its socket, and what becomes of lines that it does not take."""

from __future__ import annotations

import logging
import os
import re
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from spa_server.tell import event_types
from spa_server.tell.events import happened
from spa_server.tell.journal import LONGEST_VALUE, JournalHandler, stderr_is_journal
from tests.server.tell.told import granted


class Kept(logging.Handler):
    """Stands behind the journal and keeps what comes to it."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


class Journal:
    """A journal's socket, and a log that goes there."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "journal.sock"
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self.socket.bind(str(self.path))
        self.kept = Kept()
        self.handler = JournalHandler("spa-server", self.kept, str(self.path))
        self.log = logging.Logger("spa.knock")
        self.log.addHandler(self.handler)

    def receive(self) -> dict[str, str]:
        return parsed(self.socket.recv(1 << 20))


def parsed(data: bytes) -> dict[str, str]:
    """The fields of a datagram, read as the documentation of the protocol says."""
    fields = {}
    while data:
        line, _, data = data.partition(b"\n")
        name, equals, value = line.partition(b"=")
        if not equals:
            (length,) = struct.unpack("<Q", data[:8])
            value, data = data[8 : 8 + length], data[8 + length :]
            assert data[:1] == b"\n"
            data = data[1:]
        assert re.fullmatch(rb"[A-Z][A-Z0-9_]{0,63}", name)
        fields[name.decode()] = value.decode()
    return fields


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    made = Journal(tmp_path)
    yield made
    made.handler.close()
    made.socket.close()


def test_an_event_arrives_with_its_id_and_all_that_it_says(journal: Journal) -> None:
    happened(journal.log, granted("ab12", services=(("web", 30), ("db", 60))))
    assert journal.receive() == {
        "MESSAGE": "granted alice-laptop (alice) from 192.0.2.7: web 30 s; skew -5 ms",
        "MESSAGE_ID": event_types.GRANTED.message_id,
        "PRIORITY": "6",
        "SYSLOG_IDENTIFIER": "spa-server",
        "SPA_LOGGER": "spa.knock",
        "SPA_EVENT": "granted",
        "SPA_OUTCOME": "success",
        "SPA_DEVICE": "alice-laptop",
        "SPA_USER": "alice",
        "SPA_SOURCE": "192.0.2.7",
        "SPA_DESTINATION": "198.51.100.1",
        "SPA_SERVICES": "web db",
        "SPA_SECONDS": "30 60",
        "SPA_SKEW_MS": "-5",
        "SPA_SESSION": "ab12",
    }


@pytest.mark.parametrize(
    ("level", "priority"), [("debug", "7"), ("info", "6"), ("warning", "4"), ("error", "3"), ("critical", "2")]
)
def test_a_plain_line_has_its_level_and_no_id(journal: Journal, level: str, priority: str) -> None:
    getattr(journal.log, level)("so %s", "it is")
    assert journal.receive() == {
        "MESSAGE": "so it is",
        "PRIORITY": priority,
        "SYSLOG_IDENTIFIER": "spa-server",
        "SPA_LOGGER": "spa.knock",
    }


def test_a_value_with_line_ends_cannot_forge_a_field(journal: Journal) -> None:
    happened(journal.log, granted(about="evil\nMESSAGE_ID=00000000000000000000000000000000\n"))
    fields = journal.receive()
    assert fields["MESSAGE_ID"] == event_types.GRANTED.message_id
    assert fields["SPA_ABOUT"] == "evil\nMESSAGE_ID=00000000000000000000000000000000\n"


def test_a_traceback_goes_whole_and_a_huge_line_is_cut(journal: Journal) -> None:
    try:
        Path("x" * 100_000).read_bytes()
    except OSError:
        journal.log.exception("it failed")
    message = journal.receive()["MESSAGE"]
    assert message.startswith("it failed\nTraceback")
    assert len(message) == LONGEST_VALUE


def test_without_a_journal_lines_go_to_standard_error_until_there_is_one_again(journal: Journal) -> None:
    journal.socket.close()
    journal.log.info("one")
    journal.path.unlink()
    journal.log.info("two")
    assert journal.kept.lines == ["one", "two"]
    journal.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    journal.socket.bind(str(journal.path))
    journal.log.info("three")
    assert journal.receive()["MESSAGE"] == "three"
    assert journal.kept.lines == ["one", "two"]


def test_a_journal_that_does_not_read_costs_lines_but_no_time(journal: Journal) -> None:
    for number in range(5_000):  # would stand still for ever if it waited
        journal.log.info("%d", number)
    assert journal.handler.lost > 0
    while True:
        try:
            journal.receive()
        except BlockingIOError:
            break
    lost = journal.handler.lost
    journal.log.info("again")
    assert journal.receive()["SPA_LINES_LOST"] == str(lost)
    assert journal.handler.lost == 0


PROGRAM = """
import sys
from spa_server.tell.journal import stderr_is_journal
print(stderr_is_journal())
"""


def test_standard_error_is_the_journal_only_while_it_is_the_very_stream(tmp_path: Path) -> None:
    def asked(stream: str, errors: int) -> str:
        env = {**os.environ, "JOURNAL_STREAM": stream}
        return subprocess.run(
            [sys.executable, "-c", PROGRAM], env=env, stdout=subprocess.PIPE, stderr=errors, text=True, check=True
        ).stdout.strip()

    ours, theirs = socket.socketpair()
    with ours, theirs, (tmp_path / "log").open("w") as file:
        found = os.fstat(theirs.fileno())
        stream = f"{found.st_dev}:{found.st_ino}"
        assert asked(stream, theirs.fileno()) == "True"
        assert asked(stream, file.fileno()) == "False"
        assert asked(f"{found.st_dev}:{found.st_ino + 1}", theirs.fileno()) == "False"
        assert asked("nonsense", theirs.fileno()) == "False"
    assert not stderr_is_journal({})
