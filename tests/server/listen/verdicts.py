"""What came of a datagram, in one word."""

from __future__ import annotations

from spa_protocol.refusal import Refusal
from tests.server.listen.world import START, InviteText, Keyring, ListeningServer, later


def verdict(owner: Keyring | InviteText, reply: bytes | None, request: bytes) -> Refusal | str:
    """A refusal, "granted" or "silence"."""
    answer = owner.answer(reply, request)
    return "silence" if answer is None else answer.refusal or "granted"


def heard(server: ListeningServer, owner: Keyring | InviteText, datagram: bytes, after_ms: int = 0) -> Refusal | str:
    """What a server says to it so long after START."""
    return verdict(owner, server.hear(datagram, later(START, after_ms)), datagram)
