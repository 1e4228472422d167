"""The network process's side of the socket pair: asking the firewall process, and waiting for its answer.

It must not import kernel code: it runs where packets from strangers are read.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Sequence

from spa_server.enforce.requests import (
    MAX_TAGS,
    MESSAGE_LARGEST,
    Answer,
    Arm,
    Disarm,
    Malformed,
    Open,
    Request,
    Status,
    Wanted,
)
from spa_server.service import Address

SEQUENCES = 1 << 32
GRACE_S = 0.2


class FirewallError(Exception):
    """Nothing was opened or armed as far as is known; the message says why."""


class FirewallRefused(FirewallError):
    """The firewall process's configuration does not allow what was asked."""


class FirewallFailed(FirewallError):
    """The kernel did not do it."""


class FirewallSilent(FirewallError):
    """No answer within the time limit. Tags may still be armed; nothing will be opened."""


class FirewallGone(FirewallError):
    """The firewall process has ended."""


class FirewallClient:
    """Asks over `channel`, one request at a time."""

    def __init__(self, channel: socket.socket, time_limit_s: float = 2.0) -> None:
        self._channel = channel
        self._time_limit_s = time_limit_s
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
        not_after_ms = int((time.monotonic() + self._time_limit_s) * 1000)
        return self._ask(Open(self._next(), not_after_ms, source, destination, label, tuple(wanted))).seconds_left

    def has_ended(self) -> bool:
        """Whether the other end is closed; to be asked between requests. Throws away answers that came too late."""
        # With a time limit, Python would wait for data before it looks at flags such as MSG_DONTWAIT.
        self._channel.setblocking(False)
        try:
            while self._channel.recv(MESSAGE_LARGEST):
                pass
        except BlockingIOError:
            return False
        except OSError:
            return True
        return True

    def close(self) -> None:
        """Let the firewall process end."""
        self._channel.close()

    def _next(self) -> int:
        self._sequence = (self._sequence + 1) % SEQUENCES
        return self._sequence

    def _ask(self, request: Request) -> Answer:
        answer = self._exchange(request)
        if answer.status is Status.REFUSED:
            raise FirewallRefused(f"the firewall process refused a request to {_doing(request)}")
        if answer.status is Status.FAILED:
            raise FirewallFailed(f"the kernel did not {_doing(request)}; the firewall process's log says why")
        return answer

    def _exchange(self, request: Request) -> Answer:
        # A little longer than an OPEN may take effect, so that silence means that it never will.
        end = time.monotonic() + self._time_limit_s + GRACE_S
        try:
            self._channel.settimeout(self._time_limit_s)
            self._channel.send(request.pack())
            while (left := end - time.monotonic()) > 0:
                self._channel.settimeout(left)
                data = self._channel.recv(MESSAGE_LARGEST)
                if not data:
                    raise FirewallGone("the firewall process has ended")
                answer = Answer.unpack(data)
                if answer.sequence == request.sequence:  # an older one is for a request that was given up
                    return answer
        except TimeoutError:
            pass
        except Malformed as error:
            raise FirewallFailed(f"the firewall process answered nonsense: {error}") from error
        except OSError as error:
            raise FirewallGone(f"the firewall process has ended: {error}") from error
        raise FirewallSilent(f"the firewall process did not answer within {self._time_limit_s:g} s")


def _doing(request: Request) -> str:
    match request:
        case Arm():
            return f"arm {len(request.tags)} tags"
        case Disarm():
            return f"disarm {len(request.tags)} tags"
        case Open():
            return f"open {len(request.wanted)} services to {request.source}"
