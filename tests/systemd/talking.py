"""TCP sessions that talk all the time, so that the loss of one is seen; and what listens behind the ports.

It must not know servers or machines.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from tests.lab import Host


class Session:
    """A TCP session that says something every few milliseconds and waits for the echo, until it is told to end."""

    def __init__(self, source: Host, server: Host, port: int) -> None:
        self._connection = source.connect_tcp(server.ipv4, port)
        self._connection.settimeout(20)
        self._stop = threading.Event()
        self.echoes = 0
        self.fault: BaseException | None = None
        self._thread = threading.Thread(target=self._talk, daemon=True)
        self._thread.start()

    def end(self) -> None:
        """Stop; raises what went wrong while it lived."""
        self._stop.set()
        self._thread.join()
        self._connection.close()
        if self.fault is not None:
            raise AssertionError(f"a session was lost after {self.echoes} echoes: {self.fault}")

    def _talk(self) -> None:
        try:
            while not self._stop.wait(0.005):
                self._connection.sendall(b"there?")
                assert self._connection.recv(6) == b"there?", "the session was closed"
                self.echoes += 1
        except BaseException as error:  # it is raised by end()
            self.fault = error


class Listener:
    """Echoes on a port of the machine, by both families, for as many as come."""

    def __init__(self, host: Host, port: int) -> None:
        self._socket = host.listen_tcp(port)
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)  # closing alone would not wake the thread, which holds it open
        self._thread.join()
        self._socket.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            threading.Thread(target=_echo, args=(connection,), daemon=True).start()


def _echo(connection: socket.socket) -> None:
    with connection:
        try:
            while data := connection.recv(4096):
                connection.sendall(data)
        except OSError:
            return


@contextmanager
def listening(host: Host, *ports: int) -> Iterator[None]:
    """Something listens on the ports, so that whatever passes is answered."""
    with ExitStack() as stack:
        for port in ports:
            stack.callback(Listener(host, port).close)
        yield
