"""When questions and their copies go out, and how long answers are waited for (docs/protocol.md, section 10).

Plain values and the reasons for them. It must not know what is asked, nor sockets.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from spa_protocol.signature import Signer

COPY_AFTER_S = 0.1
"""How long after a question its copy goes out; what is lost on a path is often lost in a row."""
ELSEWHERE_AFTER_S = 0.2
"""How long after a question its copies go to the other ports: most answers are there by then."""
_OVERDUE = 1.25
"""An answer that takes this many times as long as the last one did is not waited for any more."""
_LONGEST_ROUND_TRIP_S = 1.0
"""A longer one would leave too few questions; it was most likely a computer that stood still."""

# When questions go out, for 3 s, to one address and to each of two. Two families together may spend no more than half
# of the 16 slots of a minute in vain, so that a second knock is still as good as the first.
#
# Let each datagram be lost with the probability q on its own, whichever way it goes. A question and its copy are both
# lost with q^2, its one answer with q, so a question is answered with a = (1 - q^2)(1 - q), and a knock of n questions
# fails with (1 - a)^n. For q = 0.3, a = 0.637: one address, n = 6, fails 0.23 % of the time, and two, n = 8, 0.03 %.
# Without copies a would be 0.49, and six questions would fail 1.8 %. The last copy leaves 0.6 s for its answer.
_TO_ONE_S = (0.0, 0.25, 0.6, 1.1, 1.7, 2.3)
_TO_EACH_OF_TWO_S = (0.0, 0.5, 1.25, 2.25)
_CLOCK_S = 1.5
_SCHEDULED_S = 3.0


@dataclass(frozen=True, slots=True)
class Pace:
    """When to ask, in seconds from the start.

    `questions_s`: the questions. `clock_s`: the one under a clock tag, which finds a wrong clock; None for none.
    `total_s`: when to give up. `grace_s` and `refused_grace_s`: how long another family is still waited for after one
    has a grant or a refusal. `copies_after_s`: how long after each its copies. `elsewhere_after_s`: how long after each
    those to every other port.
    """

    questions_s: tuple[float, ...]
    clock_s: float | None
    total_s: float
    grace_s: float = 0.1
    refused_grace_s: float = 0.5
    copies_after_s: tuple[float, ...] = (COPY_AFTER_S,)
    elsewhere_after_s: tuple[float, ...] = (ELSEWHERE_AFTER_S,)

    @classmethod
    def within(cls, total_s: float, addresses: int = 1, round_trip_s: float = 0.0) -> Pace:
        """Questions to so many addresses and one about the clock in that time, the schedule stretched to fit.

        `round_trip_s`: how long the last answer took, 0 when that is not known. No slot is spent on asking again, and
        no other port is tried, while an answer that takes as long may still come.
        """
        scale = total_s / _SCHEDULED_S
        gap_s = _OVERDUE * min(round_trip_s, _LONGEST_ROUND_TRIP_S)
        questions_s: list[float] = []
        for at_s in _TO_ONE_S if addresses == 1 else _TO_EACH_OF_TWO_S:
            if not questions_s or at_s * scale >= questions_s[-1] + gap_s:
                questions_s.append(at_s * scale)
        elsewhere_s = max(ELSEWHERE_AFTER_S, gap_s)
        return cls(tuple(questions_s), _CLOCK_S * scale, total_s, elsewhere_after_s=(elsewhere_s,))

    @classmethod
    def closing(cls, total_s: float) -> Pace:
        """Three questions in that time, and none about the clock."""
        return cls((0.0, 0.25 * total_s, 0.6 * total_s), None, total_s)

    def signed_by(self, signer: Signer) -> Pace:
        """The same; with one signature, where another would need another touch: later questions become copies."""
        return self if signer.every_time else self.sparing()

    def sparing(self) -> Pace:
        """The same with one slot: what is sent later are copies, which are lost on their answer's loss alone."""
        first, *later = self.questions_s
        again_s = tuple(at_s - first for at_s in later)
        return replace(
            self,
            questions_s=(first,),
            clock_s=None,
            copies_after_s=self.copies_after_s + again_s,
            elsewhere_after_s=self.elsewhere_after_s + again_s,
        )

    @classmethod
    def unanswered(cls) -> Pace:
        """One question with its copies, and no waiting: for a server that does not answer."""
        return cls((0.0,), None, 0.0, copies_after_s=(0.0,), elsewhere_after_s=(0.0,))
