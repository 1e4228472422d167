"""Knocking for the examination: like any knock, but every family is waited for, and each answer is kept.

It must not know what the answers mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from spa_client.addresses import Target
from spa_client.exchange import Reply, ask
from spa_client.knocking import Knocker, Request
from spa_client.memory import Memory
from spa_client.pace import Pace
from spa_client.perimeter import Perimeter
from spa_client.signing.signers import unlock
from spa_protocol.answer import Answer
from spa_protocol.refusal import Refusal


@dataclass(frozen=True, slots=True)
class Round:
    """What came of knocking at one port by every family. `no_route`: targets that nothing leads to."""

    port: int
    replies: tuple[Reply, ...]
    no_route: tuple[Target, ...] = ()

    @property
    def answered(self) -> tuple[tuple[Reply, Answer], ...]:
        """The families that have a verified answer."""
        return tuple((reply, reply.answer) for reply in self.replies if reply.answer is not None)

    @property
    def about_clock(self) -> bool:
        """Whether nothing but questions about the clock was answered, of which the server takes few."""
        return all(answer.refusal in (Refusal.STALE, Refusal.EARLY) for _, answer in self.answered)

    @property
    def refused(self) -> bool:
        """Whether any answer is a refusal."""
        return any(answer.refusal is not None for _, answer in self.answered)

    @property
    def silent(self) -> tuple[Reply, ...]:
        """Those that have none."""
        return tuple(reply for reply in self.replies if reply.answer is None)


def knock_all(perimeter: Perimeter, memory: Memory, targets: Sequence[Target], timeout_s: float) -> Round:
    """Knock at every target, which are of one port, and wait for each. Raises SpaError where no knock can be made."""
    usual = Pace.within(timeout_s)
    # There are no clock tags for delegates.
    clock_s = usual.clock_s if perimeter.certificate is None else None
    pace = Pace(usual.questions_s, clock_s, timeout_s, timeout_s, timeout_s)
    if not perimeter.answers:
        pace = Pace.unanswered()
    unlock(perimeter.signer)
    pace = pace.signed_by(perimeter.signer)
    try:
        replies = ask(targets, Knocker(perimeter, Request(), memory), pace)
    except OSError:
        replies = ()
    reached = {reply.target for reply in replies}
    return Round(targets[0].sockaddr[1], replies, tuple(target for target in targets if target not in reached))
