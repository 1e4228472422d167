"""The figures of a period, counted from its records one at a time.

Memory is bounded whatever the trail holds: counts go by step of the period, and of everything else the report names
(devices, sources, edits) no more is kept than so many. Nothing is guessed: what the records do not say is a figure of
its own.
"""

from __future__ import annotations

import re
from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from spa_server.report.open_leases import OpenLeases
from spa_server.report.period import Period
from spa_server.tell.reading import Record

LEAD_MS = 3_600_000
"""How much before the period is read, for the leases that are open when it begins."""
MOST_NAMES = 20_000
"""Of each kind. The rarest make room for new ones; then the counts of what remains are still true."""
MOST_TOLD = 200
"""Edits and happenings that are listed, the newest."""
MOST_RISK = 100
_NOT_LISTED = frozenset(
    {"granting", "closed", "enrolling", "enrolled", "enrolment-refused", "cut", "session-ended", "refusals-summed"}
)
"""What belongs to somebody's knock: it is counted, not told one by one."""
_RESTART_MS = 60_000
_SUMMED = re.compile(r"([a-z_]+) (\d{1,7})")
_GRANTING = frozenset({"granting", "enrolling"})
_MOST_PENDING = 10_000


@dataclass(slots=True)
class Tally:
    """What somebody, or an address, did: how often granted and refused, and when last."""

    granted: int = 0
    refused: int = 0
    last_ms: int = 0

    @property
    def total(self) -> int:
        """Both."""
        return self.granted + self.refused


@dataclass(slots=True)
class Tallies:
    """Of each name its tally; `given_up`: names that were let go of, to bound the memory."""

    of: dict[str, Tally] = field(default_factory=dict)
    given_up: int = 0

    def note(self, name: str, time_ms: int, *, granted: int = 0, refused: int = 0) -> None:
        """Count so many."""
        tally = self.of.get(name)
        if tally is None:
            if len(self.of) >= MOST_NAMES:
                self._make_room()
            tally = self.of[name] = Tally()
        tally.granted += granted
        tally.refused += refused
        tally.last_ms = max(tally.last_ms, time_ms)

    def top(self, number: int) -> list[tuple[str, Tally]]:
        """Those with the most, by name where they have as many."""
        return sorted(self.of.items(), key=lambda item: (-item[1].total, item[0]))[:number]

    def _make_room(self) -> None:
        kept = self.top(MOST_NAMES // 2)
        self.given_up += len(self.of) - len(kept)
        self.of = dict(kept)


@dataclass(frozen=True, slots=True)
class Span:
    """A time in which the plots are empty for a reason."""

    since_ms: int
    until_ms: int
    why: str


@dataclass(slots=True)
class Risk:
    """The scores in one step: how many of each."""

    scores: list[int] = field(default_factory=lambda: [0] * (MOST_RISK + 1))

    def median(self) -> int | None:
        """The lower median, or None where there is no score."""
        total, seen = sum(self.scores), 0
        if not total:
            return None
        for score, count in enumerate(self.scores):
            seen += count
            if 2 * seen >= total:
                return score
        return None

    def most(self) -> int | None:
        """The highest, or None."""
        return max((score for score, count in enumerate(self.scores) if count), default=None)


class Figures:
    """All figures of `period`; feed it the records from LEAD_MS before it on, then call `finish`."""

    def __init__(self, period: Period) -> None:
        self.period = period
        self.granted = [0] * period.steps
        self.refused = [0] * period.steps
        self.reasons: Counter[str] = Counter()
        self.services: Counter[str] = Counter()
        """How often each was granted or renewed."""
        self.users, self.devices, self.sources = Tallies(), Tallies(), Tallies()
        self.risk: dict[int, Risk] = {}
        self.leases = OpenLeases(period)
        self.enrolled = self.enrolments_refused = self.closed = self.revoked = self.alerts = 0
        self.edits: deque[Record] = deque(maxlen=MOST_TOLD)
        self.edits_in_all = 0
        self.happenings: deque[Record] = deque(maxlen=MOST_TOLD)
        self.happenings_in_all = 0
        self.away: deque[Span] = deque(maxlen=MOST_TOLD)
        """When the server did not run."""
        self.first: Record | None = None
        self.last: Record | None = None
        self.records = self.checkpoints = self.set_back = 0
        self.last_checkpoint: Record | None = None
        self._first_ms, self._step_ms = period.first_ms, period.step_ms
        self._pending: dict[str, None] = {}
        self._unanswered = 0
        self._stopped_ms: int | None = None
        self._runs: bool | None = None

    def take(self, records: Iterable[Record]) -> None:
        """Count all of them."""
        for record in records:
            self.leases.note(record)
            if record.time_ms >= self.period.since_ms:
                self._count(record)

    def finish(self) -> None:
        """After the last record."""
        self.leases.finish()
        if self._stopped_ms is not None:
            self._was_away(self._stopped_ms, self.period.until_ms, "the server was stopped")

    @property
    def unanswered(self) -> int:
        """Grants and enrolments that were about to be made, of which no second record says what came of them."""
        return self._unanswered + len(self._pending)

    @property
    def knocks_granted(self) -> int:
        """In the whole period."""
        return sum(self.granted)

    @property
    def knocks_refused(self) -> int:
        """In the whole period."""
        return sum(self.refused)

    def _count(self, record: Record) -> None:
        self.records += 1
        if self.first is None:
            self.first = record
        if self.last is not None and record.time_ms < self.last.time_ms - 1000:
            self.set_back += 1
        action, step = record.action, (record.time_ms - self._first_ms) // self._step_ms
        if record.session:
            self._follow(record)
        if action == "granted":
            self.granted[step] += 1
            self.services.update(name for name, _ in record.services)
        elif action == "refused":
            self.refused[step] += 1
            self.reasons[record.reason or "(no reason)"] += 1
        if action in ("granted", "refused"):
            self._tally(record, granted=int(action == "granted"), refused=int(action == "refused"))
            if record.risk is not None:
                self.risk.setdefault(step, Risk()).scores[record.risk] += 1
        else:
            self._count_seldom(record, step)
        self.last = record

    def _count_seldom(self, record: Record, step: int) -> None:
        done = record.outcome == "success"
        match record.action:
            case "enrolled":
                self.enrolled += 1
            case "enrolment-refused":
                self.enrolments_refused += 1
            case "closed":
                self.closed += 1
            case "revoked" | "cut" if done:
                self.revoked += 1
            case "refusals-summed":
                self._add_summed(record, step)
            case "started":
                self._started(record)
            case "stopped":
                self._stopped_ms, self._runs = record.time_ms, False
        if record.is_checkpoint:
            self.checkpoints += 1
            self.last_checkpoint = record
        elif record.actor:
            if record.outcome != "unknown":
                self.edits_in_all += 1
                self.edits.append(record)
        elif record.action not in _NOT_LISTED:
            self.alerts += record.kind == "alert"
            self.happenings_in_all += 1
            self.happenings.append(record)

    def _started(self, record: Record) -> None:
        if self._stopped_ms is not None:
            self._was_away(self._stopped_ms, record.time_ms, "the server was stopped")
        elif self._runs and self.last is not None:
            self._was_away(self.last.time_ms, record.time_ms, "the server ended at some time here without saying so")
        elif self._runs is None and record.seq > 1:
            begin_ms = self.period.since_ms if self.last is None else self.last.time_ms
            if record.time_ms - begin_ms > _RESTART_MS:
                self._was_away(
                    begin_ms, record.time_ms, "the server started after this; since when it had not run is not known"
                )
        self._stopped_ms, self._runs = None, True

    def _was_away(self, since_ms: int, until_ms: int, why: str) -> None:
        if until_ms > since_ms:
            self.away.append(Span(since_ms, until_ms, why))

    def _add_summed(self, record: Record, step: int) -> None:
        """One record for the many refusals of a device within a minute; what it is about is how many of each reason."""
        self.refused[step] += record.stands_for
        found = {reason: int(count) for reason, count in _SUMMED.findall(record.about)}
        if sum(found.values()) != record.stands_for:
            found = {"(summed)": record.stands_for}
        self.reasons.update(found)
        self._tally(record, refused=record.stands_for)

    def _tally(self, record: Record, *, granted: int = 0, refused: int = 0) -> None:
        if record.user:
            self.users.note(record.user, record.time_ms, granted=granted, refused=refused)
        if record.device:
            name = f"{record.device}+{record.delegate}" if record.delegate else record.device
            self.devices.note(name, record.time_ms, granted=granted, refused=refused)
        if record.source:
            self.sources.note(record.source, record.time_ms, granted=granted, refused=refused)

    def _follow(self, record: Record) -> None:
        """Whether what was about to be done was said to be done, or not."""
        if record.action in _GRANTING and record.outcome == "unknown":
            self._pending[record.session] = None
            if len(self._pending) > _MOST_PENDING:
                self._pending.pop(next(iter(self._pending)))
                self._unanswered += 1
        else:
            self._pending.pop(record.session, None)
