"""What was knocked, answered and got through, and whether the one explains the other.

Times are intervals of the monotonic clock, so that a machine that stands still makes what is known less exact and never
wrong. It must not know servers or faults.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

SLACK_S = 0.1
"""How far past its time a lease may end."""


@dataclass(slots=True)
class Knocked:
    """One knock that was sent: for how many seconds, in which family, and when it was answered, if it was."""

    sent_s: float
    lease_s: int
    version: int
    datagram: bytes
    answered_s: float | None = None
    granted: bool = False
    refusal: str = ""
    doubtful_until_s: float | None = None
    """Of one that was refused because the kernel did not confirm it, as its keeper ended: until then it may be open."""


@dataclass(frozen=True, slots=True)
class Passed:
    """A connection that got through, made between the two times."""

    first_s: float
    last_s: float
    version: int


@dataclass(slots=True)
class Ledger:
    """Everything that one laptop sent and got."""

    knocks: list[Knocked] = field(default_factory=list)

    def doubt(self, since_s: float, until_s: float) -> None:
        """The keeper ended in between: what it was asked for last, it may have opened and not said so."""
        for knock in reversed(self.knocks):
            if knock.sent_s < since_s:
                break
            if knock.refusal == "KERNEL_FAILED" and not knock.granted:
                knock.doubtful_until_s = until_s

    def unexplained(self, passes: Iterable[Passed]) -> Iterator[Passed]:
        """Connections that no lease can have let in.

        A knock that was never answered may have been granted all the same, but not later than the next one of its
        family that was: datagrams are judged in the order in which they come.
        """
        spans = {version: list(self._spans(version)) for version in (4, 6)}
        for each in passes:
            if not any(each.last_s >= begin_s and each.first_s <= end_s for begin_s, end_s in spans[each.version]):
                yield each

    def _spans(self, version: int) -> Iterator[tuple[float, float]]:
        next_answer_s = float("inf")
        for knock in reversed([knock for knock in self.knocks if knock.version == version]):
            if knock.answered_s is not None:
                next_answer_s = min(next_answer_s, knock.answered_s)
                if not knock.granted:
                    if knock.doubtful_until_s is not None:
                        yield knock.sent_s, min(knock.doubtful_until_s, knock.answered_s + knock.lease_s + SLACK_S)
                    continue
            yield knock.sent_s, (knock.answered_s or next_answer_s) + knock.lease_s + SLACK_S
