"""The control socket: one line in, one line out, for root and the server's own user; nobody can hold the server up."""

from __future__ import annotations

import json
import os
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spa_server.tell.control import (
    MOST_BYTES,
    PATIENCE_S,
    AlreadyRunning,
    ControlListener,
    NotRunning,
    ask,
    bind_control,
    parse_request,
    refuse_second_server,
)

NOBODY = 65534


@pytest.fixture
def path() -> Iterator[Path]:
    """In a folder that every user can enter."""
    with tempfile.TemporaryDirectory(prefix="spa-control-") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder) / "run" / "control.sock"


@pytest.fixture
def listener(path: Path) -> Iterator[ControlListener]:
    sock = bind_control(path)
    yield ControlListener(sock, {"status": lambda: {"pid": 7}, "refresh": lambda: {"ok": True}})
    sock.close()


def called(listener: ControlListener, path: Path, line: bytes) -> bytes:
    """What comes back for that line."""
    with socket.socket(socket.AF_UNIX) as caller:
        caller.settimeout(5)
        caller.connect(str(path))
        caller.sendall(line)
        listener.serve_one()
        return caller.recv(1 << 16)


def test_a_request_is_answered_with_one_line(listener: ControlListener, path: Path) -> None:
    assert called(listener, path, b'{"ask": "status"}\n') == b'{"pid": 7}\n'
    assert called(listener, path, b'{"ask": "refresh"}\n') == b'{"ok": true}\n'


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
def test_anything_else_is_an_unknown_request(listener: ControlListener, path: Path, line: bytes) -> None:
    assert json.loads(called(listener, path, line)) == {"error": "unknown request"}


@given(st.binary(max_size=200) | st.text().map(str.encode))
def test_no_bytes_make_parsing_fail(line: bytes) -> None:
    name = parse_request(line)
    assert name is None or isinstance(name, str)


@pytest.mark.parametrize("pieces", [(b'{"ask": "st',), (b'{"ask": ',) + (b" ",) * 30], ids=["stops", "drips"])
def test_a_slow_caller_is_given_up_in_time(listener: ControlListener, path: Path, pieces: tuple[bytes, ...]) -> None:
    gone = threading.Event()

    def call() -> None:
        with socket.socket(socket.AF_UNIX) as caller:
            caller.connect(str(path))
            for piece in pieces:
                try:
                    caller.sendall(piece)
                except BrokenPipeError:
                    break
                if gone.wait(PATIENCE_S / 4):
                    break
            gone.wait(10)

    slow = threading.Thread(target=call)
    slow.start()
    deadline_s = time.monotonic() + 5
    listener.socket.setblocking(True)
    begun_s = time.monotonic()
    listener.serve_one()
    took_s = time.monotonic() - begun_s
    gone.set()
    slow.join()
    assert time.monotonic() < deadline_s
    assert took_s < 2 * PATIENCE_S


def test_a_caller_who_leaves_at_once_is_no_fault(listener: ControlListener, path: Path) -> None:
    for line in (b"", b'{"ask": "status"}\n'):
        with socket.socket(socket.AF_UNIX) as caller:
            caller.connect(str(path))
            caller.sendall(line)
        listener.serve_one()
    assert called(listener, path, b'{"ask": "status"}\n') == b'{"pid": 7}\n'


def test_nobody_waiting_is_no_fault(listener: ControlListener) -> None:
    listener.serve_one()


def as_nobody(path: Path) -> str:
    """What another user hears. By fork and not by a new interpreter, which that user may not be allowed to run."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        _ask_as_nobody(path, writing)
    os.close(writing)
    with os.fdopen(reading) as file:
        said = file.read()
    os.waitpid(child, 0)
    return said


def _ask_as_nobody(path: Path, writing: int) -> None:
    try:
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
        with socket.socket(socket.AF_UNIX) as caller:
            caller.settimeout(5)
            caller.connect(str(path))
            caller.sendall(b'{"ask": "status"}\n')
            os.write(writing, caller.recv(100) or b"closed")
    except OSError as error:
        os.write(writing, type(error).__name__.encode())
    finally:
        os._exit(0)


def test_another_user_may_not_connect(listener: ControlListener, path: Path) -> None:
    assert path.stat().st_mode & 0o777 == 0o600
    assert as_nobody(path) == "PermissionError"
    listener.serve_one()


def test_another_user_who_could_connect_is_not_heard(listener: ControlListener, path: Path) -> None:
    """Should the mode ever be loosened, the kernel still tells whose call it is."""
    path.chmod(0o666)
    listener.socket.setblocking(True)
    serving = threading.Thread(target=listener.serve_one)
    serving.start()
    told = as_nobody(path)
    serving.join(5)
    assert told in ("closed", "ConnectionResetError", "BrokenPipeError")


def test_a_second_server_is_told_of_the_first(listener: ControlListener, path: Path) -> None:
    listener.socket.setblocking(True)
    serving = threading.Thread(target=listener.serve_one)
    serving.start()
    with pytest.raises(AlreadyRunning):
        refuse_second_server(path)
    serving.join(5)


def test_the_place_of_a_server_that_died_is_taken(listener: ControlListener, path: Path) -> None:
    listener.socket.close()
    with bind_control(path) as again:
        assert called(ControlListener(again, {"status": lambda: {"pid": 8}}), path, b'{"ask": "status"}\n')


def test_without_a_server_a_command_is_told_so_and_a_server_may_start(path: Path) -> None:
    refuse_second_server(path)
    with pytest.raises(NotRunning):
        ask(path, "status")
