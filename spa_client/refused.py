"""From a server's refusal to the error that says what to do about it on this side.

It must not know how the answer came; a knock and an enrolment are explained alike.
"""

from __future__ import annotations

import sys

from spa_client.errors import ApprovalNeeded, ClockWrong, CodeNeeded, Refused
from spa_client.meant import service_hint
from spa_client.perimeter import KnownService
from spa_protocol.answer import Answer
from spa_protocol.body import Address
from spa_protocol.refusal import Refusal
from spa_protocol.tag import TagKind

_SET_CLOCK = {"darwin": "sudo sntp -sS time.apple.com", "win32": "w32tm /resync"}


def refused(
    perimeter: str,
    answer: Answer,
    refusal: Refusal,
    asked_ms: int,
    local: Address,
    known: tuple[KnownService, ...] = (),
) -> Refused:
    """The error for a refusal.

    `asked_ms`: this computer's clock when it asked; `local`: its address; `known`: the services it has been told of.
    """
    if refusal in (Refusal.STALE, Refusal.EARLY):
        skew_ms = asked_ms - answer.time_ms
        return ClockWrong(f"this computer's clock is {skew_sentence(skew_ms)}", refusal, skew_ms, answer.slots)
    if refusal is Refusal.SOURCE_NOT_SIGNED:
        reason = _unsigned(answer, local)
    elif refusal is Refusal.CLOCK_ONLY:
        reason = "it answers, but none of this minute's knocks reached it; knock again in the next minute"
    elif refusal is Refusal.BEFORE_START:
        wait_s = (TagKind.KNOCK.ends_ms(TagKind.KNOCK.window(asked_ms)) - asked_ms) / 1000
        reason = f"it has just started after a boot; knock again in {wait_s:.0f} s"
    elif refusal is Refusal.UNKNOWN_SERVICE and known:
        reason = f"{refusal.sentence(answer.about)}; {service_hint(answer.about, known)}"
    elif refusal is Refusal.APPROVAL_NEEDED:
        reason = f"somebody has to approve it first; {ask_for_approval(perimeter, answer.about)}"
    else:
        reason = refusal.sentence(answer.about)
    kind = {Refusal.STEP_UP_NEEDED: CodeNeeded, Refusal.APPROVAL_NEEDED: ApprovalNeeded}.get(refusal, Refused)
    return kind(f"{perimeter} refused: {reason}", refusal, answer.about, answer.slots)


def ask_for_approval(perimeter: str, number: str) -> str:
    """What whoever may approve it has to type. `perimeter`: the name here; theirs may be another."""
    return f"ask an approver to run: spa-client approve {perimeter} {number}"


def skew_sentence(skew_ms: int) -> str:
    """How wrong the clock is, and the command that sets it. `skew_ms`: this clock minus the server's."""
    side = "behind" if skew_ms < 0 else "ahead of"
    command = _SET_CLOCK.get(sys.platform, "timedatectl set-ntp true")
    return f"{abs(skew_ms) / 1000:.0f} s {side} the server's; set it ({command})"


def _unsigned(answer: Answer, local: Address) -> str:
    service = f"service {answer.about}" if answer.about else "the service"
    return (
        f"{service} opens only to an address named in the signed knock; the server saw {answer.seen}, which is not"
        f" this computer's {local} (NAT): if {answer.seen} is yours, knock again with --source {answer.seen}"
    )
