"""`spa-client` as a process of its own, and a service that does what a test needs. It must not know pytest."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator

from spa_protocol.answer import AnsweredService

_MAIN = "from spa_client.commands import main; main()"


def start_client(*words: str, **options: object) -> subprocess.Popen[bytes]:
    """Start a command; it reads and writes pipes unless told otherwise."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
    return subprocess.Popen([sys.executable, "-c", _MAIN, *words], start_new_session=True, **pipes)  # type: ignore[call-overload,no-any-return]


@contextlib.contextmanager
def serving(handle: Callable[[socket.socket], None], address: str = "127.0.0.1") -> Iterator[int]:
    """A service, each connection of which is handled in a thread and then closed; its port."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.create_server((address, 0), family=family, backlog=64) as listener:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    threading.Thread(target=handled, args=(connection,), daemon=True).start()

        def handled(connection: socket.socket) -> None:
            with connection, contextlib.suppress(OSError):
                handle(connection)

        threading.Thread(target=serve, daemon=True).start()
        yield listener.getsockname()[1]
        # So that a blocked accept ends too.
        listener.shutdown(socket.SHUT_RDWR)


def everything(connection: socket.socket) -> bytes:
    """What comes until the other side's end."""
    return b"".join(iter(lambda: connection.recv(1 << 16), b""))


def answer_after_the_end(connection: socket.socket) -> None:
    """Say what was said, once all of it has been: only a half-close gets an answer."""
    connection.sendall(b"all: " + everything(connection))


def offered(name: str, port: int, lease_s: int = 30) -> AnsweredService:
    """A service as a server tells of it."""
    return AnsweredService(name, lease_s, port, 0, False)
