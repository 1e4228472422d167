"""The network process's side of the channel: asking the firewall process, and waiting for its answer.

It must not import kernel code: it runs where packets from strangers are read.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from spa_server.enforce.held import MAX_HELD, Held
from spa_server.enforce.requests import (
    MAX_TAGS,
    MESSAGE_LARGEST,
    Answer,
    Arm,
    Close,
    Counters,
    Disarm,
    Look,
    Malformed,
    Open,
    Reload,
    Request,
    Revoke,
    Status,
    Wanted,
)
from spa_server.service import Address
from spa_server.traffic import Traffic

LAST_SEQUENCE = (1 << 32) - 1
GRACE_S = 0.2
ALIVE_EVERY_S = 1.0
RELOAD_LIMIT_S = 20.0
"""A reload runs the nft program, which may have to wait for a loaded machine."""


class FirewallError(Exception):
    """Nothing was opened or armed as far as is known; the message says why."""


class FirewallRefused(FirewallError):
    """The firewall process's configuration does not allow what was asked."""


class FirewallFailed(FirewallError):
    """The kernel did not do it."""


class FirewallStale(FirewallError):
    """The firewall process has another configuration than this one asked by."""


class FirewallSilent(FirewallError):
    """No answer within the time limit. Tags may still be armed; nothing will be opened."""


class FirewallGone(FirewallError):
    """The firewall process has ended."""


@dataclass(frozen=True, slots=True)
class Events:
    """What the firewall process let be known by itself since it was last asked."""

    ended: bool
    """It is gone, or wants this process to end."""
    disarmed: bool
    """Every tag is gone from the kernel: all have to be armed again."""


@dataclass(frozen=True, slots=True)
class Revoked:
    """What was taken: leases, of each that was named; and flows and sockets in all."""

    leases: tuple[int, ...]
    flows: int


@dataclass(frozen=True, slots=True)
class Standing:
    """How something that was leased stands: what is left of it, the flows there are, and what went through.

    `traffic`: None where the kernel does not count.
    """

    left_ms: int
    flows: int
    traffic: Traffic | None


class FirewallClient:
    """Asks over `channel`, one request at a time.

    `digest` (`spa_server.digest`) is of the configuration by which services are numbered; a reload changes it.
    `alive` is called with every request and each second of waiting: waiting within its limit is no standing still.
    """

    def __init__(
        self,
        channel: socket.socket,
        digest: bytes,
        time_limit_s: float = 2.0,
        alive: Callable[[], None] = lambda: None,
    ) -> None:
        self._channel = channel
        self._digest = digest
        self._disarmed = False
        self._time_limit_s = time_limit_s
        self._alive = alive
        self._sequence = 0

    def arm(self, tags: Sequence[bytes], timeout_ms: int) -> None:
        """Let each tag admit one datagram within `timeout_ms`; each 4096 are all armed or none."""
        for start in range(0, len(tags), MAX_TAGS):
            self._ask(Arm(self._next(), timeout_ms, tuple(tags[start : start + MAX_TAGS])))

    def disarm(self, tags: Sequence[bytes]) -> None:
        """Take tags back; those used or expired are no error."""
        for start in range(0, len(tags), MAX_TAGS):
            self._ask(Disarm(self._next(), tuple(tags[start : start + MAX_TAGS])))

    def open_(self, source: Address, destination: Address, label: str, wanted: Sequence[Wanted]) -> tuple[int, ...]:
        """Open all of `wanted` in one transaction; returns the whole seconds left of each."""
        if source.version != destination.version:  # a message holds one family for both
            raise FirewallRefused(f"no lease can lead from {source} to {destination}")
        request = Open(self._next(), self._not_after_ms(), self._digest, source, destination, label, tuple(wanted))
        return self._ask(request).numbers

    def close_leases(
        self, source: Address, destination: Address, label: str, services: Sequence[int]
    ) -> tuple[int, ...]:
        """Close what the label has open; how many leases of each service were ended."""
        request = Close(self._next(), self._not_after_ms(), self._digest, source, destination, label, tuple(services))
        return self._ask(request).numbers

    def revoke(self, held: Sequence[Held]) -> Revoked:
        """Take from each label what it holds, flows included; each 256 in one go. Raises FirewallError."""
        leases: list[int] = []
        flows = 0
        for start in range(0, len(held), MAX_HELD):
            some = tuple(held[start : start + MAX_HELD])
            *counts, ended = self._ask(Revoke(self._next(), self._digest, some)).numbers
            leases += counts
            flows += ended
        return Revoked(tuple(leases), flows)

    def look(self, held: Sequence[Held], *, final: bool) -> tuple[Standing, ...]:
        """What is left of each, and what went through it. Raises FirewallError."""
        found: list[Standing] = []
        for start in range(0, len(held), MAX_HELD):
            some = tuple(held[start : start + MAX_HELD])
            counts, *numbers = self._ask(Look(self._next(), self._digest, some, final)).numbers
            if len(numbers) != 6 * len(some):
                raise FirewallFailed("the firewall process answered nonsense: another number of accounts")
            for at in range(0, len(numbers), 6):
                left_ms, flows, *counted = numbers[at : at + 6]
                found.append(Standing(left_ms, flows, Traffic(*counted) if counts else None))
        return tuple(found)

    def _not_after_ms(self) -> int:
        return int((time.monotonic() + self._time_limit_s) * 1000)

    def reload(self, digest: bytes) -> None:
        """Have the firewall process read its configuration anew and apply it, if that is the one of this digest.

        On success requests go by the new one from then on. Raises FirewallStale where its file is another one; after
        FirewallSilent opening may fail as stale until a reload succeeds.
        """
        self._ask(Reload(self._next(), digest), RELOAD_LIMIT_S)
        self._digest = digest

    def counters(self) -> tuple[int, ...]:
        """What the perimeter has counted: see `requests.Counters`."""
        return self._ask(Counters(self._next())).numbers

    def take_events(self) -> Events:
        """What came unasked, once; to be asked between requests. Throws away answers that came too late.

        Ask every turn, not only when the channel has something to read: it may have been read with an answer.
        """
        ended = self._read_waiting()
        disarmed, self._disarmed = self._disarmed, False
        return Events(ended, disarmed)

    def _read_waiting(self) -> bool:
        """Read what has come; whether the other end is closed."""
        # With a time limit, Python would wait for data before it looks at flags such as MSG_DONTWAIT.
        self._channel.setblocking(False)
        try:
            while data := self._channel.recv(MESSAGE_LARGEST):
                self._note(data)
        except BlockingIOError:
            return False
        except OSError:
            return True
        return True

    def _note(self, data: bytes) -> Answer | None:
        """An answer; None if it was word that came by itself, which is remembered. Raises FirewallFailed."""
        try:
            answer = Answer.unpack(data)
        except Malformed as error:
            raise FirewallFailed(f"the firewall process answered nonsense: {error}") from error
        if answer.sequence:
            return answer
        self._disarmed |= answer.status is Status.DISARMED
        return None

    def close(self) -> None:
        """Let the firewall process end."""
        self._channel.close()

    def _next(self) -> int:
        self._sequence = self._sequence % LAST_SEQUENCE + 1
        return self._sequence

    def _ask(self, request: Request, time_limit_s: float | None = None) -> Answer:
        answer = self._exchange(request, time_limit_s or self._time_limit_s)
        if answer.status is Status.STALE:
            raise FirewallStale(f"the firewall process has another configuration and did not {_doing(request)}")
        if answer.status is Status.REFUSED:
            raise FirewallRefused(f"the firewall process refused a request to {_doing(request)}")
        if answer.status is Status.FAILED:
            raise FirewallFailed(f"the firewall process could not {_doing(request)}; its log says why")
        return answer

    def _exchange(self, request: Request, time_limit_s: float) -> Answer:
        # A little longer than an OPEN may take effect, so that silence means that it never will.
        end = time.monotonic() + time_limit_s + GRACE_S
        try:
            self._channel.settimeout(time_limit_s)
            self._channel.send(request.pack())
            while (left := end - time.monotonic()) > 0:
                self._alive()
                self._channel.settimeout(min(left, ALIVE_EVERY_S))
                try:
                    data = self._channel.recv(MESSAGE_LARGEST)
                except TimeoutError:
                    continue
                if not data:
                    raise FirewallGone("the firewall process has ended")
                answer = self._note(data)
                if answer and answer.sequence == request.sequence:  # an older one is for a request that was given up
                    return answer
        except TimeoutError:
            pass
        except OSError as error:
            raise FirewallGone(f"the firewall process has ended: {error}") from error
        raise FirewallSilent(f"the firewall process did not answer within {time_limit_s:g} s")


def _doing(request: Request) -> str:
    match request:
        case Arm():
            return f"arm {len(request.tags)} tags"
        case Disarm():
            return f"disarm {len(request.tags)} tags"
        case Open():
            return f"open {len(request.wanted)} services to {request.source}"
        case Close():
            return f"close {len(request.services)} services to {request.source}"
        case Reload():
            return "reload its configuration"
        case Counters():
            return "read the counters"
        case Revoke():
            return f"revoke {len(request.held)} leases"
        case Look():
            return f"tell of {len(request.held)} leases"
