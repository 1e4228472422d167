"""What the server's signed answers say: granted or refused and why, and how far apart the two clocks are. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime

from spa_client.errors import ClockWrong
from spa_client.examine.findings import Finding, Severity
from spa_client.examine.knocks import Round
from spa_client.exchange import Reply
from spa_client.knocking import SKEW_WARNED_MS
from spa_client.memory import ClockNote, PastRefusal
from spa_client.perimeter import Perimeter
from spa_client.refused import refused, skew_sentence
from spa_protocol.answer import Answer
from spa_protocol.refusal import Refusal


def outcome_findings(perimeter: Perimeter, tried: Round) -> Iterator[Finding]:
    """What was granted and refused, each reason once."""
    told: set[Refusal] = set()
    granted = any(answer.refusal is None for _, answer in tried.answered)
    for reply, answer in tried.answered:
        if answer.refusal is None:
            services = ", ".join(f"{service.name} for {service.left_s} s" for service in answer.services)
            yield Finding("granted", Severity.OK, f"the server granted {services}", f"its answer to {answer.seen}")
        elif answer.refusal not in told:
            told.add(answer.refusal)
            finding = _refused(perimeter, reply, answer, answer.refusal)
            # A service need not have an address of both families.
            yield replace(finding, severity=Severity.NOTE) if granted else finding


def _refused(perimeter: Perimeter, reply: Reply, answer: Answer, refusal: Refusal) -> Finding:
    error = refused(perimeter.name, answer, refusal, reply.asked_ms, reply.local, perimeter.services)
    evidence = f"signed answer from {reply.target.address}"
    if isinstance(error, ClockWrong):
        return Finding("clock-wrong", Severity.FAULT, f"every knock is refused: {error.sentence}", evidence)
    remedy = f"ask whoever runs the server for the output of: spa-server why {perimeter.label}"
    return Finding("refused", Severity.FAULT, error.sentence, evidence, remedy)


def clock_findings(tried: Round) -> Iterator[Finding]:
    """How far this clock is from the server's, where it is not so far that the server refuses."""
    skews_ms = [
        reply.asked_ms - answer.time_ms
        for reply, answer in tried.answered
        if answer.refusal not in (Refusal.STALE, Refusal.EARLY)
    ]
    if not skews_ms:
        return
    # The smallest, for a datagram that was long on its way makes the clocks look further apart than they are.
    skew_ms = min(skews_ms, key=abs)
    if abs(skew_ms) > SKEW_WARNED_MS:
        what = f"this computer's clock is {skew_sentence(skew_ms)} before the server refuses its knocks"
        yield Finding("clock-off", Severity.WARNING, what, "the time in the server's signed answer")
    else:
        what = f"this computer's clock is right: {abs(skew_ms) / 1000:.1f} s from the server's"
        yield Finding("clock", Severity.OK, what, "the time in the server's signed answer")


def remembered_clock_finding(skew_ms: int) -> Finding:
    """What the server said of this clock earlier today, for a device may ask about it only a few times a day."""
    what = f"the server refused earlier today: this computer's clock is {skew_sentence(skew_ms)}"
    return Finding("clock-wrong", Severity.FAULT, what, "an earlier signed answer; it answers that a few times a day")


def keep_clock_note(note: ClockNote, tried: Round) -> None:
    """A day has few questions about the clock; what these found out is kept for when there are none left."""
    for reply, answer in tried.answered:
        if answer.refusal in (Refusal.STALE, Refusal.EARLY):
            note.write(reply.asked_ms - answer.time_ms, reply.asked_ms)


def past_finding(past: PastRefusal) -> Finding:
    """The last refusal, which may be over."""
    return Finding("last-refusal", Severity.NOTE, f"the last refusal, at {when(past)}: {past.sentence}")


def when(past: PastRefusal) -> str:
    """The time of a refusal."""
    try:
        return datetime.fromtimestamp(past.time_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M UTC")
    except (OverflowError, ValueError, OSError):
        return "a time that never was"
