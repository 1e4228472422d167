"""How a key agent is reached: one request, one answer, within a time.

On Unix its socket is named in SSH_AUTH_SOCK; on Windows OpenSSH's agent listens on a named pipe. It must not know what
is asked.
"""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
from collections.abc import Callable

from spa_client.errors import BadSurroundings
from spa_protocol.openssh import ssh_string

SOCKET_VARIABLE = "SSH_AUTH_SOCK"
_PIPE = r"\\.\pipe\openssh-ssh-agent"
_LONGEST_ANSWER = 256 * 1024
_START_ONE = "start one (ssh-agent) and add the key to it (ssh-add)"


class AgentSilent(BadSurroundings):
    """The agent was reached and gave no answer in time."""


def ask_agent(request: bytes, timeout_s: float) -> bytes:
    """The agent's answer to a request, both without their lengths. Raises BadSurroundings."""
    place = os.environ.get(SOCKET_VARIABLE) or (_PIPE if sys.platform == "win32" else "")
    if not place:
        raise BadSurroundings(f"no key agent is known here ({SOCKET_VARIABLE} is not set): {_START_ONE}")
    try:
        return _talk(place, ssh_string(request), timeout_s)
    except TimeoutError:
        raise AgentSilent(f"the key agent at {place} gave no answer within {timeout_s:g} s") from None
    except (OSError, EOFError) as error:
        reason = getattr(error, "strerror", None) or error
        raise BadSurroundings(f"the key agent at {place} is gone ({reason}): {_START_ONE}") from None


def _talk(place: str, request: bytes, timeout_s: float) -> bytes:
    if sys.platform == "win32":
        return _by_pipe(place, request, timeout_s)
    end_s = time.monotonic() + timeout_s
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as channel:
        channel.settimeout(timeout_s)
        channel.connect(place)
        channel.sendall(request)

        def receive(size: int) -> bytes:
            channel.settimeout(max(0.001, end_s - time.monotonic()))
            return channel.recv(size)

        return read_answer(receive)


def _by_pipe(place: str, request: bytes, timeout_s: float) -> bytes:
    """A pipe has no time-out of its own, so a thread waits for it; one that waits for ever ends with the process."""
    outcome: list[bytes | Exception] = []

    def talk() -> None:
        try:
            with open(place, "r+b", buffering=0) as pipe:  # noqa: PTH123 - a pipe is no path
                pipe.write(request)
                outcome.append(read_answer(lambda size: pipe.read(size) or b""))
        except (OSError, EOFError) as error:
            outcome.append(error)

    thread = threading.Thread(target=talk, name="spa-agent", daemon=True)
    thread.start()
    thread.join(timeout_s)
    if not outcome:
        raise TimeoutError
    if isinstance(outcome[0], Exception):
        raise outcome[0]
    return outcome[0]


def read_answer(receive: Callable[[int], bytes]) -> bytes:
    """One answer, without its length. Raises EOFError where it ends too early or cannot be one."""
    size = int.from_bytes(_whole(receive, 4), "big")
    if not 1 <= size <= _LONGEST_ANSWER:
        raise EOFError("what answers there is no key agent")
    return _whole(receive, size)


def _whole(receive: Callable[[int], bytes], size: int) -> bytes:
    received = bytearray()
    while len(received) < size:
        part = receive(size - len(received))
        if not part:
            raise EOFError("it hung up")
        received += part
    return bytes(received)
