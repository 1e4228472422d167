"""When something ceased to get through: attempts every few milliseconds, each with the times between which it was made.

An attempt that passed shows that the way was open at some moment after the attempt was begun; one that did not shows
that it was shut at some moment before the attempt was over. A machine that stands still between the two thus makes what
is known less exact, and never wrong. It must not know servers or clients, only hosts, addresses and ports.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from tests.end_to_end.observing import family_of, is_connected
from tests.lab import Address, Host
from tests.stalls import SLACK_S, Between, TooLate

_AFTERWARDS = 20
"""Attempts made after the time has come, however late that is noticed."""
_SETTLED_S = 0.3
"""When an attempt to connect is decided: long after a round trip, well before the kernel repeats the SYN."""


@dataclass(slots=True)
class Edge:
    """When a way ceased to be open: an attempt begun at `last_s` passed, one over at `first_not_s` did not."""

    last_s: float = 0.0
    first_not_s: float = float("inf")

    def note(self, made: Between, passed: bool) -> None:
        """One attempt."""
        if passed:
            self.last_s = max(self.last_s, made.first_s)
        else:
            self.first_not_s = min(self.first_not_s, made.last_s)

    def measured(self, due: Between) -> str:
        """Between which milliseconds of its time it ceased, such as "-3.1 to +5.8 ms"."""
        return f"{(self.last_s - due.last_s) * 1000:+.1f} to {(self.first_not_s - due.first_s) * 1000:+.1f} ms"

    def check(self, due: Between, slack_s: float = SLACK_S) -> None:
        """AssertionError when it ceased too early or too late; TooLate when it was not seen open at all."""
        if not self.last_s:
            raise TooLate("it was never seen open")
        assert self.first_not_s < float("inf"), "it never ceased"
        assert self.last_s <= due.last_s + slack_s, f"open {self.last_s - due.last_s:.3f} s past its end"
        assert self.first_not_s >= due.first_s - slack_s, f"shut {due.first_s - self.first_not_s:.3f} s before its end"


@dataclass(slots=True)
class Prober:
    """Attempts from one host to another: a datagram and a new connection, by each of the families."""

    source: Host
    target: Host
    port: int
    versions: tuple[int, ...] = (4, 6)
    gap_s: float = 0.005
    edges: dict[str, Edge] = field(default_factory=dict)

    def run_past(self, due_s: float) -> None:
        """Try until that time is well over, and then say in `edges` when each way ceased, by "tcp 4" and so on."""
        with contextlib.ExitStack() as stack:
            listener = stack.enter_context(self.target.listen_tcp(self.port))
            receiver = stack.enter_context(self.target.bind_udp(self.port))
            senders = {
                version: stack.enter_context(self.source.new_socket(family_of(address), socket.SOCK_DGRAM))
                for version, address in self._addresses()
            }
            listener.setblocking(False)
            receiver.setblocking(False)
            sent: list[tuple[str, Between]] = []
            arrived: set[int] = set()
            connecting: list[tuple[str, Between, socket.socket]] = []
            afterwards = 0
            while afterwards < _AFTERWARDS or time.monotonic() < due_s + 0.3:
                begun: list[tuple[str, float, socket.socket | None]] = []
                for version, address in self._addresses():
                    begun.append((f"udp {version}", time.monotonic(), None))
                    number = len(sent) + sum(sock is None for _, _, sock in begun) - 1
                    senders[version].sendto(struct.pack("=I", number), (str(address), self.port))
                    begun.append((f"tcp {version}", time.monotonic(), self._connecting(address)))
                afterwards += begun[0][1] > due_s + SLACK_S
                # The pause is part of each attempt: in it the kernel has judged whatever it had put off.
                time.sleep(self.gap_s)
                over_s = time.monotonic()
                for way, begun_s, sock in begun:
                    if sock is None:
                        sent.append((way, Between(begun_s, over_s)))
                    else:
                        connecting.append((way, Between(begun_s, over_s), sock))
                arrived.update(_drained(receiver))
                self._settle(connecting, over_s - _SETTLED_S)
                _accept_all(listener)
            time.sleep(_SETTLED_S)
            arrived.update(_drained(receiver))
            self._settle(connecting, float("inf"))
            for number, (way, made) in enumerate(sent):
                self._edge(way).note(made, number in arrived)

    def _addresses(self) -> Iterator[tuple[int, Address]]:
        for version in self.versions:
            yield version, self.target.address(version)

    def _connecting(self, address: Address) -> socket.socket:
        sock = self.source.new_socket(family_of(address), socket.SOCK_STREAM)
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock.connect_ex((str(address), self.port))
        return sock

    def _settle(self, attempts: list[tuple[str, Between, socket.socket]], before_s: float) -> None:
        """Take note of the attempts that were over before that time."""
        while attempts and attempts[0][1].last_s < before_s:
            way, made, sock = attempts.pop(0)
            with sock:
                self._edge(way).note(made, is_connected(sock))

    def _edge(self, way: str) -> Edge:
        return self.edges.setdefault(way, Edge())


def _drained(sock: socket.socket) -> Iterator[int]:
    with contextlib.suppress(BlockingIOError):
        while True:
            yield struct.unpack("=I", sock.recv(2048))[0]


def _accept_all(listener: socket.socket) -> None:
    with contextlib.suppress(BlockingIOError):
        while True:
            listener.accept()[0].close()
