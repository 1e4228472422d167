"""Where Prometheus asks: one answer a call, whatever callers do, and never a wait."""

from __future__ import annotations

import http.client
import selectors
import socket
import stat
import threading
from collections.abc import Callable, Iterator
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from spa_server.addresses import LoopbackPort
from spa_server.tell import metrics_port
from spa_server.tell.metrics_port import MOST_BYTES, MOST_CALLERS, MetricsPort, bind_metrics
from tests.end_to_end.running import wait_until

GET = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n"


class Port:
    """The port on a selector that a thread of the test turns, as the server's own loop would."""

    def __init__(self, path: Path, page: Callable[[], bytes]) -> None:
        self.path = path
        self._selector = selectors.DefaultSelector()
        listener = bind_metrics(path)
        assert listener is not None
        self._listener = listener
        self.port = MetricsPort(listener, self._selector, page)
        self.turns = 0
        self._ends = False
        self._thread = threading.Thread(target=self._turn, daemon=True)
        self._thread.start()

    def _turn(self) -> None:
        while not self._ends:
            for key, _ in self._selector.select(0.05):
                if self._selector.get_map().get(key.fileobj) is key:
                    key.data(key.fileobj)
                    self.turns += 1
            self.port.give_up_late()

    def connect(self) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(20)
        connection.connect(str(self.path))
        return connection

    def ask(self, request: bytes) -> bytes:
        with self.connect() as connection:
            connection.sendall(request)
            return read_all(connection)

    def callers(self) -> int:
        return len(self._selector.get_map()) - 1

    def close(self) -> None:
        self._ends = True
        self._thread.join(20)
        self._listener.close()
        self._selector.close()


def read_all(connection: socket.socket) -> bytes:
    pieces = []
    try:
        while piece := connection.recv(65536):
            pieces.append(piece)
    except ConnectionResetError:
        pass
    return b"".join(pieces)


@pytest.fixture
def port(tmp_path: Path) -> Iterator[Port]:
    made = Port(tmp_path / "metrics.sock", lambda: b"spa_up 1\n")
    yield made
    made.close()


def test_a_scrape_gets_the_numbers_and_the_end_of_the_connection(port: Port) -> None:
    head, _, body = port.ask(GET).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.0 200 OK\r\n")
    assert b"Content-Type: text/plain; version=0.0.4; charset=utf-8" in head
    assert b"Content-Length: 9" in head
    assert body == b"spa_up 1\n"


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET / HTTP/1.0\r\n\r\n", b"200"),
        (b"GET /metrics?name[]=spa_up HTTP/1.1\n\n", b"200"),
        (b"HEAD /metrics HTTP/1.1\r\n\r\n", b"200"),
        (b"GET /secrets HTTP/1.1\r\n\r\n", b"404"),
        (b"POST /metrics HTTP/1.1\r\nContent-Length: 0\r\n\r\n", b"405"),
        (b"\r\n\r\n", b"400"),
        (b"GET /metrics\r\n\r\n", b"400"),
        (b"\xff\x00 \xff \xff\r\n\r\n", b"400"),
    ],
)
def test_other_requests_get_a_status_that_says_so(port: Port, request_: bytes, status: bytes) -> None:
    assert port.ask(request_).split()[1] == status


def test_a_request_that_comes_byte_by_byte_is_answered(port: Port) -> None:
    with port.connect() as connection:
        for byte in GET:
            connection.sendall(bytes([byte]))
        assert read_all(connection).startswith(b"HTTP/1.0 200")


def test_an_endless_request_is_cut_off(port: Port) -> None:
    with port.connect() as connection:
        connection.sendall(b"x" * (MOST_BYTES + 1))
        assert read_all(connection) == b""
    assert port.ask(GET).startswith(b"HTTP/1.0 200")


def test_callers_who_say_nothing_are_few_at_most_and_keep_nobody_out(port: Port) -> None:
    silent = [port.connect() for _ in range(3 * MOST_CALLERS)]
    assert port.ask(GET).startswith(b"HTTP/1.0 200")
    wait_until(lambda: port.callers() <= MOST_CALLERS, "the bound on callers")
    for connection in silent:
        connection.close()


def test_a_caller_who_says_nothing_is_given_up(port: Port, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics_port, "PATIENCE_S", 0.1)
    with port.connect() as connection:
        assert read_all(connection) == b""
    assert port.callers() == 0


def test_a_caller_who_does_not_read_is_not_waited_for(tmp_path: Path) -> None:
    port = Port(tmp_path / "metrics.sock", lambda: b"x" * 5_000_000)
    try:
        with port.connect() as slow:
            slow.sendall(GET)
            wait_until(lambda: port.callers() == 1, "the slow caller")
            quick = port.ask(GET)
            assert len(quick) > 5_000_000
            assert len(read_all(slow)) == len(quick)
    finally:
        port.close()


def test_the_numbers_are_gathered_at_most_once_a_second(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics_port, "FRESH_S", 3600)
    asked: list[int] = []

    def page() -> bytes:
        asked.append(1)
        return b""

    port = Port(tmp_path / "metrics.sock", page)
    try:
        for _ in range(5):
            port.ask(GET)
    finally:
        port.close()
    assert len(asked) == 1


def test_a_client_library_is_satisfied(tmp_path: Path, port: Port) -> None:
    class Connection(http.client.HTTPConnection):
        def connect(self) -> None:
            self.sock = port.connect()

    connection = Connection("localhost")
    connection.request("GET", "/metrics")
    assert connection.getresponse().read() == b"spa_up 1\n"
    connection.close()


def test_the_socket_is_for_its_owner_and_group_and_takes_a_dead_ones_place(tmp_path: Path) -> None:
    path = tmp_path / "run" / "metrics.sock"
    for _ in range(2):
        bound: Any = bind_metrics(path, group=4)
        found = path.stat()
        assert (stat.S_IMODE(found.st_mode), found.st_gid) == (0o660, 4)
        bound.close()


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_a_loopback_port_is_bound_to_loopback_alone(address: str) -> None:
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as probe:
        probe.bind((address, 0))
        free = probe.getsockname()[1]
    bound = bind_metrics(LoopbackPort(ip_address(address), free))
    assert bound is not None
    with bound:
        assert bound.getsockname()[:2] == (address, free)


def test_without_a_place_there_is_no_port() -> None:
    assert bind_metrics(None) is None


def test_a_page_that_took_long_is_not_made_again_for_each_who_waited(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or a few callers could keep the server from its work for as long as the firewall process does not answer."""
    monkeypatch.setattr(metrics_port, "FRESH_S", 20.0)
    monkeypatch.setattr(metrics_port, "PATIENCE_S", 600.0)
    clock = Clock()
    monkeypatch.setattr(metrics_port, "time", clock)
    made: list[bytes] = []

    def slow() -> bytes:
        clock.now_s += 30
        made.append(b"spa_up 1\n")
        return made[-1]

    port = Port(tmp_path / "metrics", slow)
    try:
        assert [port.ask(GET).endswith(b"spa_up 1\n") for _ in range(3)] == [True] * 3
    finally:
        port.close()
    assert len(made) == 1


class Clock:
    """Stands where the time module does."""

    now_s = 0.0

    def monotonic(self) -> float:
        return self.now_s
