"""The control socket: one line in, one line out, each caller as far as it may ask; nobody can hold the server up."""

from __future__ import annotations

import grp
import json
import os
import selectors
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spa_server.tell.control import (
    MOST_BYTES,
    MOST_CALLERS,
    PATIENCE_S,
    AlreadyRunning,
    Answer,
    ControlListener,
    NotRunning,
    ask,
    bind_control,
    parse_request,
    refuse_second_server,
)

NOBODY = 65534
PATIENT_S = 20.0


class Server:
    """A listener and the loop it lives in."""

    def __init__(self, path: Path, group: int | None = None, **answers: Callable[[], Answer]) -> None:
        self.selector = selectors.DefaultSelector()
        self.listener = ControlListener(bind_control(path, group), self.selector, answers)

    def turn(self, most_s: float = 0.0) -> bool:
        """One turn of the loop; whether anything was ready."""
        ready = [key for key, _ in self.selector.select(most_s)]
        for key in ready:
            if self.selector.get_map().get(key.fileobj) is key:
                key.data(key.fileobj)
        self.listener.give_up_late()
        return bool(ready)

    def settle(self) -> None:
        """Turn until nothing is ready."""
        while self.turn():
            pass

    @contextmanager
    def serving(self) -> Iterator[None]:
        """Turn in another thread for the time of the block."""
        done = threading.Event()

        def loop() -> None:
            while not done.is_set():
                self.turn(0.01)

        thread = threading.Thread(target=loop)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join(PATIENT_S)


def ok() -> Answer:
    return {"ok": True}


def status() -> Answer:
    return {"pid": 7}


@pytest.fixture
def path() -> Iterator[Path]:
    """In a folder that every user can enter."""
    with tempfile.TemporaryDirectory(prefix="spa-control-") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder) / "run" / "control.sock"


@pytest.fixture
def server(path: Path) -> Iterator[Server]:
    made = Server(path, status=status, refresh=ok, reload=ok)
    yield made
    made.listener.socket.close()
    made.selector.close()


@contextmanager
def calling(path: Path, line: bytes = b"") -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as caller:
        caller.settimeout(PATIENT_S)
        caller.connect(str(path))
        caller.sendall(line)
        yield caller


def called(server: Server, path: Path, line: bytes) -> bytes:
    """What comes back for that line."""
    with calling(path, line) as caller:
        server.settle()
        return caller.recv(1 << 16)


@pytest.mark.parametrize(("asked", "answer"), [("status", status), ("refresh", ok), ("reload", ok)])
def test_a_request_is_answered_with_one_line(
    server: Server, path: Path, asked: str, answer: Callable[[], Answer]
) -> None:
    said = called(server, path, json.dumps({"ask": asked}).encode() + b"\n")
    assert said == json.dumps(answer()).encode() + b"\n"


def test_a_line_may_come_in_pieces(server: Server, path: Path) -> None:
    with calling(path) as caller:
        for piece in (b'{"ask"', b': "sta', b'tus"}', b"\n"):
            caller.sendall(piece)
            server.settle()
        assert caller.recv(100) == b'{"pid": 7}\n'


@pytest.mark.parametrize(
    "line",
    [
        b"\n",
        b"garbage\n",
        b"\xff\xfe\n",
        b"null\n",
        b"[]\n",
        b'"status"\n',
        b"{}\n",
        b'{"ask": 1}\n',
        b'{"ask": ["status"]}\n',
        b'{"ask": "stop"}\n',
        b'{"ask": "status", "more": 1}\n',
        b'{"tell": "status"}\n',
        b"[" * 4000 + b"\n",
        b"9" * 4090 + b"\n",
        b"x" * (MOST_BYTES + 100) + b"\n",
    ],
)
def test_anything_else_is_an_unknown_request(server: Server, path: Path, line: bytes) -> None:
    assert json.loads(called(server, path, line)) == {"error": "unknown request"}


@given(st.binary(max_size=200) | st.text().map(str.encode))
def test_no_bytes_make_parsing_fail(line: bytes) -> None:
    name = parse_request(line)
    assert name is None or isinstance(name, str)


def test_nobody_is_waited_for(server: Server, path: Path) -> None:
    """Callers that say nothing or half a line keep no other waiting, and are hung up on when their time is over."""
    with calling(path) as silent, calling(path, b'{"ask": "st') as half:
        begun_s = time.monotonic()
        server.settle()
        assert called(server, path, b'{"ask": "status"}\n') == b'{"pid": 7}\n'
        if time.monotonic() - begun_s < PATIENCE_S:
            deadline_s = server.listener.next_deadline_s()
            assert deadline_s is not None
            assert deadline_s - begun_s <= PATIENCE_S + 0.5
        with server.serving():
            assert (silent.recv(1), half.recv(1)) == (b"", b"")
        assert server.listener.next_deadline_s() is None


def test_dripping_does_not_stretch_the_time(server: Server, path: Path) -> None:
    with calling(path, b'{"ask": ') as caller, server.serving():
        begun_s, is_cut_off = time.monotonic(), False
        while not is_cut_off and time.monotonic() - begun_s < PATIENT_S:
            try:
                caller.sendall(b" ")
            except (BrokenPipeError, ConnectionResetError):
                is_cut_off = True
            time.sleep(PATIENCE_S / 20)
        assert is_cut_off


def test_more_callers_than_are_served_cost_the_oldest_its_turn(server: Server, path: Path) -> None:
    callers = [socket.socket(socket.AF_UNIX) for _ in range(MOST_CALLERS + 1)]
    for caller in callers:
        caller.settimeout(PATIENT_S)
        caller.connect(str(path))
        server.settle()
    assert callers[0].recv(1) == b""
    callers[-1].sendall(b'{"ask": "status"}\n')
    server.settle()
    assert callers[-1].recv(100) == b'{"pid": 7}\n'
    for caller in callers:
        caller.close()


def test_a_caller_who_leaves_at_once_is_no_fault(server: Server, path: Path) -> None:
    for line in (b"", b'{"ask": "status"}\n', b'{"ask'):
        with calling(path, line):
            pass
        server.settle()
    assert called(server, path, b'{"ask": "status"}\n') == b'{"pid": 7}\n'


def test_nobody_waiting_is_no_fault(server: Server) -> None:
    assert not server.turn()
    assert server.listener.next_deadline_s() is None


def as_nobody(path: Path, asked: str = "status", groups: tuple[int, ...] = ()) -> str:
    """What another user hears. By fork and not by a new interpreter, which that user may not be allowed to run."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        _ask_as_nobody(path, asked, groups, writing)
    os.close(writing)
    with os.fdopen(reading) as file:
        said = file.read()
    os.waitpid(child, 0)
    return said


def _ask_as_nobody(path: Path, asked: str, groups: tuple[int, ...], writing: int) -> None:
    try:
        os.setgroups(groups)
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
        with calling(path, json.dumps({"ask": asked}).encode() + b"\n") as caller:
            os.write(writing, caller.recv(100) or b"closed")
    except OSError as error:
        os.write(writing, type(error).__name__.encode())
    finally:
        os._exit(0)


def test_others_than_the_group_may_not_connect(server: Server, path: Path) -> None:
    assert path.stat().st_mode & 0o777 == 0o660
    assert as_nobody(path) == "PermissionError"
    server.settle()


def test_a_member_of_the_group_may_ask_for_the_status_and_nothing_else(path: Path) -> None:
    group = grp.getgrnam("daemon").gr_gid
    server = Server(path, group, status=status, refresh=ok, reload=ok)
    assert path.stat().st_gid == group
    with server.serving():
        assert as_nobody(path, "status", (group,)) == '{"pid": 7}\n'
        for asked in ("refresh", "reload"):
            answer = json.loads(as_nobody(path, asked, (group,)))
            assert answer == {"error": f"{asked} is for root", "not_permitted": True}
        assert json.loads(as_nobody(path, "stop", (group,))) == {"error": "unknown request"}
    server.listener.socket.close()


def test_callers_of_the_group_cannot_keep_root_out(path: Path) -> None:
    """However many of them hold a connection: the first that goes is one of theirs."""
    group = grp.getgrnam("daemon").gr_gid
    server = Server(path, group, status=status)
    with calling(path) as root:
        server.settle()
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            _hold_connections(path, group, writing)
        os.close(writing)
        with server.serving():
            assert os.read(reading, 1) == b"x"
        root.sendall(b'{"ask": "status"}\n')
        server.settle()
        assert root.recv(100) == b'{"pid": 7}\n'
        os.kill(child, 9)
        os.waitpid(child, 0)
        os.close(reading)
    server.listener.socket.close()


def _hold_connections(path: Path, group: int, writing: int) -> None:
    try:
        os.setgroups([group])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
        held = [socket.socket(socket.AF_UNIX) for _ in range(2 * MOST_CALLERS)]
        for sock in held:
            sock.connect(str(path))
        os.write(writing, b"x")
        time.sleep(600)
    finally:
        os._exit(0)


def test_a_second_server_is_told_of_the_first(server: Server, path: Path) -> None:
    with server.serving(), pytest.raises(AlreadyRunning):
        refuse_second_server(path)


def test_the_place_of_a_server_that_died_is_taken(server: Server, path: Path) -> None:
    server.selector.unregister(server.listener.socket)
    server.listener.socket.close()
    again = Server(path, status=lambda: {"pid": 8})
    assert called(again, path, b'{"ask": "status"}\n') == b'{"pid": 8}\n'
    again.listener.socket.close()


def test_without_a_server_a_command_is_told_so_and_a_server_may_start(path: Path) -> None:
    refuse_second_server(path)
    with pytest.raises(NotRunning):
        ask(path, "status")
