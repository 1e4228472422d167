"""What the service manager is told, and the sockets it keeps, over a real Unix datagram socket."""

from __future__ import annotations

import array
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from spa_server import notify

VARIABLES = ("NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC", "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")


@dataclass(frozen=True, slots=True)
class Told:
    """One message as the manager got it."""

    lines: tuple[str, ...]
    sockets: tuple[socket.socket, ...]


class Manager:
    """The manager's end of NOTIFY_SOCKET."""

    def __init__(self, address: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(address)
        self.socket.settimeout(10)

    def hear(self) -> Told:
        data, control, _flags, _peer = self.socket.recvmsg(4096, socket.CMSG_SPACE(4 * 64))
        descriptors = array.array("i")
        for _level, _kind, packed in control:
            descriptors.frombytes(packed)
        return Told(tuple(data.decode().split("\n")), tuple(socket.socket(fileno=number) for number in descriptors))


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Manager]:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    address = str(tmp_path / "notify")
    made = Manager(address)
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    with made.socket:
        yield made


def test_ready_carries_a_status_of_one_line(manager: Manager) -> None:
    assert notify.ready("serving\n3 devices")
    assert manager.hear().lines == ("READY=1", "STATUS=serving 3 devices")


def test_reloading_says_when_by_the_monotonic_clock(manager: Manager) -> None:
    before_us = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    assert notify.reloading()
    first, second = manager.hear().lines
    assert first == "RELOADING=1"
    name, _, value = second.partition("=")
    assert name == "MONOTONIC_USEC"
    assert before_us <= int(value) <= time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000


def test_stopping_and_alive(manager: Manager) -> None:
    assert notify.stopping()
    assert notify.alive()
    assert (manager.hear().lines, manager.hear().lines) == (("STOPPING=1",), ("WATCHDOG=1",))


def test_stored_sockets_are_handed_over_open_and_bound(manager: Manager) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one, socket.socket(socket.AF_INET6) as two:
        one.bind(("127.0.0.1", 0))
        assert notify.store("knock", [one, two])
        told = manager.hear()
        assert told.lines == ("FDSTORE=1", "FDPOLL=0", "FDNAME=knock")
        assert [sock.family for sock in told.sockets] == [socket.AF_INET, socket.AF_INET6]
        assert told.sockets[0].getsockname() == one.getsockname()
        for sock in told.sockets:
            sock.close()


def test_unstoring_names_what_goes(manager: Manager) -> None:
    assert notify.unstore("knock")
    assert manager.hear().lines == ("FDSTOREREMOVE=1", "FDNAME=knock")


def test_an_abstract_socket_is_reached(manager: Manager, monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"spa-notify-{os.getpid()}"
    abstract = Manager("\0" + name)
    monkeypatch.setenv("NOTIFY_SOCKET", "@" + name)
    with abstract.socket:
        assert notify.ready()
        assert abstract.hear().lines == ("READY=1",)


@pytest.mark.parametrize("address", ["", "/nonexistent/notify", "relative", "vsock:2:1234"])
def test_without_a_manager_that_hears_nothing_happens(
    manager: Manager, monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    assert not notify.ready()
    assert not notify.store("knock", [])
    assert not notify.unstore("knock")


@pytest.mark.parametrize(
    ("limit_us", "pid", "expected_s"),
    [
        ("4000000", "", 2.0),
        ("4000000", "own", 2.0),
        ("4000000", "1", None),
        ("0", "own", None),
        ("", "own", None),
        ("soon", "own", None),
    ],
)
def test_the_watchdog_is_fed_at_half_its_time_by_the_process_it_watches(
    manager: Manager, monkeypatch: pytest.MonkeyPatch, limit_us: str, pid: str, expected_s: float | None
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", limit_us)
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()) if pid == "own" else pid)
    assert notify.watchdog_s() == expected_s


_TAKE = """
import os
os.environ["LISTEN_PID"] = str(os.getpid()) if {ours} else "1"
from spa_server import notify
kept = notify.stored()
print({{name: [sock.getsockname()[1] for sock in socks] for name, socks in kept.items()}})
print(sorted(name for name in os.environ if name.startswith("LISTEN_")), notify.stored())
print([sock.get_inheritable() for socks in kept.values() for sock in socks])
"""


def _taken(sockets: list[socket.socket], names: str, *, ours: bool = True) -> list[str]:
    """What a new process says that it was given: the sockets as its descriptors 3, 4, ..., and one that is none."""
    with Path(os.devnull).open() as no_socket:
        numbers = [*(sock.fileno() for sock in sockets), no_socket.fileno()]
        moves = "; ".join(f"os.dup2({number}, {100 + place})" for place, number in enumerate(numbers))
        moves += "; " + "; ".join(f"os.dup2({100 + place}, {3 + place})" for place in range(len(numbers)))
        program = f"import os; {moves}\n{_TAKE.format(ours=ours)}"
        done = subprocess.run(
            [sys.executable, "-c", program],
            pass_fds=numbers,
            env={**os.environ, "LISTEN_FDS": str(len(numbers)), "LISTEN_FDNAMES": names},
            capture_output=True,
            text=True,
            check=True,
        )
    return done.stdout.splitlines()


def test_sockets_come_back_under_their_names_once_and_what_is_no_socket_is_left_out() -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as one, socket.socket(type=socket.SOCK_DGRAM) as two:
        for sock in (one, two):
            sock.bind(("127.0.0.1", 0))
        ports = [sock.getsockname()[1] for sock in (one, two)]
        assert _taken([one, two], "knock:knock:other") == [
            f"{{'knock': {ports}}}",
            "[] {}",
            "[False, False]",
        ]


def test_sockets_meant_for_another_process_are_not_taken() -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as one:
        assert _taken([one], "knock:other", ours=False) == ["{}", "[] {}", "[]"]
