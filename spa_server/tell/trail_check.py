"""Whether an audit trail is as it was written: every gap, edit, swap, bad signature and cut end, and where it is.

One pass over the lines, whatever their number, remembering little. What it can tell: each record is what was hashed
then, and stands where it stood. Whoever may write the files and knows this can write all records anew from some place
on; that shows by what is elsewhere: checkpoints under the server's signature, and those that clients were told.
It must not know how files are read.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path

from spa_server.tell import chain
from spa_server.tell.event_types import CHAIN_BEGUN, CHECKPOINT, TRAIL_PRUNED
from spa_server.tell.trail_files import Line

REMEMBERED = 4096
"""Hashes of how many records before the present one are kept at least."""
MOST_FINDINGS = 1000


class Trouble(StrEnum):
    """What can be wrong."""

    NO_RECORD = "no-record"
    EDITED = "edited"
    MISSING = "missing"
    OUT_OF_PLACE = "out-of-place"
    REPEATED = "repeated"
    CHAIN_BROKEN = "chain-broken"
    CHAIN_ANEW = "chain-anew"
    BAD_SIGNATURE = "bad-signature"
    CUT = "cut"
    OTHER_HASH = "other-hash"
    UNFINISHED = "unfinished"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong; `seq` is None where no number is known. `line` counts from 1 in its file."""

    trouble: Trouble
    file: str
    line: int
    seq: int | None
    what: str


@dataclass(frozen=True, slots=True)
class Known:
    """What is known from elsewhere of one record: how its hash begins, and who says so."""

    seq: int
    hash: str
    whose: str


@dataclass(slots=True)
class Report:
    """What came of it. `first`, `last`: numbers of the records that there are; `chained_from`: of the first in the
    chain. `signatures`: how many checkpoints were verified; `unverified`: how many were not, for want of a key.
    `beyond`: what is known of records older than the first.
    """

    records: int = 0
    files: int = 0
    first: int | None = None
    last: int | None = None
    chained_from: int | None = None
    signatures: int = 0
    unverified: int = 0
    signed_to: int | None = None
    deleted_to: int = 0
    beyond: list[Known] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    more_findings: int = 0


def check(
    lines: Iterable[Line], *, keys: Sequence[bytes] = (), known: Sequence[Known] = (), is_all: bool = True
) -> Report:
    """Read the lines, the oldest first. `keys`: those that the server signs with; without any no signature is checked.

    `is_all`: whether they are the trail from its first record on, rather than its end.
    """
    return _Check(keys, known, is_all=is_all).run(lines)


class _Check:
    def __init__(self, keys: Sequence[bytes], known: Sequence[Known], *, is_all: bool) -> None:
        self._report = Report()
        self._keys = keys
        self._known: dict[int, list[Known]] = {}
        for each in known:
            self._known.setdefault(each.seq, []).append(each)
        self._is_all = is_all
        self._expected: int | None = None
        self._unread = 0
        """Lines since the last record in its place that are none, or were changed."""
        self._hashes: dict[int, str] = {}
        self._elsewhere: set[int] = set()
        """Records that were met before their place."""
        self._sought: dict[int, Line] = {}
        """Records in whose place another one stood, and where."""
        self._gaps: list[range] = []
        self._old: tuple[Line, int] | None = None
        self._nameless: list[tuple[int, int]] = []
        """Findings before the first number was known, and how many lines after the first each is."""
        self._start: Line | None = None
        self._end: Line | None = None

    def run(self, lines: Iterable[Line]) -> Report:
        for line, read, following in _with_next(self._counted(lines)):
            self._start, self._end = self._start or line, line
            if not line.is_whole:
                self._find(Trouble.UNFINISHED, line, self._here(), "it lacks its line's end")
            if read is None:
                self._find(Trouble.NO_RECORD, line, self._here(), "this is no record")
                self._unread += 1
            elif read.hash is None:
                self._unchained(line, read, following)
            elif not read.is_intact:
                self._find(Trouble.EDITED, line, self._here(), "its hash is not of what it says")
                self._unread += 1
            else:
                self._chained(line, read, following)
        self._finish()
        return self._report

    def _counted(self, lines: Iterable[Line]) -> Iterator[Line]:
        report, file = self._report, None
        for line in lines:
            report.records += 1
            if line.file is not file:
                file = line.file
                report.files += 1
            yield line

    def _here(self) -> int | None:
        """The number of the record that should stand here."""
        return None if self._expected is None else self._expected + self._unread

    def _unchained(self, line: Line, read: chain.Link, following: int | None) -> None:
        if self._report.chained_from is not None:
            self._find(Trouble.EDITED, line, self._here() or read.seq, "it has no hash, and those before it have")
            self._unread += 1
            return
        self._place(line, read.seq, following)
        self._old = line, read.seq

    def _chained(self, line: Line, read: chain.Link, following: int | None) -> None:
        report = self._report
        if report.chained_from is None:
            self._begins(line, read)
            report.chained_from = read.seq
        elif read.seq < report.chained_from:
            report.chained_from = read.seq
        elif read.action == CHAIN_BEGUN.name:
            self._find(Trouble.CHAIN_ANEW, line, read.seq, "the chain begins anew: what was before it cannot be tied")
        else:
            before = self._hashes.get(read.seq - 1)
            if before is not None and before != read.prev:
                what = f"it was written after another record {read.seq - 1} than the one that is there"
                self._find(Trouble.CHAIN_BROKEN, line, read.seq, what)
        self._place(line, read.seq, following)
        self._hashes[read.seq] = read.hash or ""
        if len(self._hashes) > 2 * REMEMBERED:
            for seq in list(self._hashes)[:REMEMBERED]:
                del self._hashes[seq]
        if read.seq in self._known:
            self._compare(line, read)
        if read.action == CHECKPOINT.name:
            self._signed(line, read)
        elif read.action == TRAIL_PRUNED.name:
            self._pruned(read)

    def _begins(self, line: Line, read: chain.Link) -> None:
        """The first record of the chain: after nothing, or after records that have no hashes."""
        if self._old is None:
            if read.seq == 1 and read.prev != chain.NO_HASH:
                self._find(Trouble.CHAIN_BROKEN, line, read.seq, "it is the first and names one before it")
            return
        old, seq = self._old
        if read.action != CHAIN_BEGUN.name:
            self._find(Trouble.EDITED, old, seq, f"it has no hash, though record {read.seq} goes on from one")
        elif read.prev != chain.digest(old.text):
            self._find(Trouble.CHAIN_BROKEN, old, seq, f"record {read.seq} began the chain after another record")

    def _place(self, line: Line, seq: int, following: int | None) -> None:
        """Whether it stands where it belongs, by its number. `following`: the number in the next line."""
        while self._expected in self._elsewhere:
            self._elsewhere.discard(self._expected)
            self._expected += 1
        here, unread = self._expected, self._unread
        self._unread = 0
        self._report.last = max(seq, self._report.last or 0)
        if here is None:
            self._first(line, seq, unread, following)
        elif seq == here or 0 < seq - here <= unread:
            self._expected = seq + 1
        elif seq < here:
            self._late(line, seq)
        elif following == here:
            self._find(Trouble.OUT_OF_PLACE, line, seq, f"it stands before record {here}")
            self._elsewhere.add(seq)
        elif following == here + 1:
            self._find(Trouble.OUT_OF_PLACE, line, seq, f"it stands where record {here} belongs")
            self._elsewhere.add(seq)
            self._sought[here] = line
            self._expected = here + 1
        else:
            self._missing(line, here, seq, unread)
            self._expected = seq + 1

    def _first(self, line: Line, seq: int, unread: int, following: int | None) -> None:
        if following is None or following >= seq:
            # What could not be read before it had numbers, too.
            self._report.first = first = max(seq - unread, min(seq, 1))
            self._expected = seq + 1
            for index, offset in self._nameless:
                self._report.findings[index] = replace(self._report.findings[index], seq=first + offset)
            return
        self._find(Trouble.OUT_OF_PLACE, line, seq, f"it stands before record {following}")
        self._elsewhere.add(seq)
        self._expected = self._report.first = following
        if following < seq - 1 and following > 1:
            self._report.first = following - 1
            self._sought[following - 1] = line

    def _late(self, line: Line, seq: int) -> None:
        self._report.first = min(seq, self._report.first or seq)
        if self._sought.pop(seq, None) is not None or any(seq in gap for gap in self._gaps):
            self._find(Trouble.OUT_OF_PLACE, line, seq, "it stands after records of later numbers")
        else:
            self._find(Trouble.REPEATED, line, seq, "a record of that number, or of a later one, stands before it")

    def _missing(self, line: Line, here: int, seq: int, unread: int) -> None:
        self._gaps.append(range(here, seq))
        count = seq - here - unread
        named = f"record {here} is" if seq == here + 1 else f"records {here} to {seq - 1} are"
        if unread:
            named = f"{count} of the records {here} to {seq - 1} {'is' if count == 1 else 'are'}"
        self._find(Trouble.MISSING, line, here, f"{named} missing before it")

    def _signed(self, line: Line, read: chain.Link) -> None:
        said = chain.Checkpoint.of(read.told)
        if said is None or said.seq >= read.seq or self._hashes.get(said.seq, said.hash) != said.hash:
            self._find(Trouble.BAD_SIGNATURE, line, read.seq, "it signs another trail than this one")
        elif not self._keys:
            self._report.unverified += 1
        elif any(said.is_signed_by(key) for key in self._keys):
            self._report.signatures += 1
            self._report.signed_to = said.seq
        else:
            self._find(Trouble.BAD_SIGNATURE, line, read.seq, "its signature is not the server's")

    def _pruned(self, read: chain.Link) -> None:
        own = read.told.get("spa")
        about = str(own.get("about", "")) if isinstance(own, dict) else ""
        if about.isdecimal():
            self._report.deleted_to = max(self._report.deleted_to, int(about))

    def _compare(self, line: Line, read: chain.Link) -> None:
        for each in self._known.pop(read.seq):
            if not (read.hash or "").startswith(each.hash):
                self._find(Trouble.OTHER_HASH, line, read.seq, f"it is another record than {each.whose} was told of")

    def _finish(self) -> None:
        report, end = self._report, self._end or Line(Path(), 0, b"", True)
        last = report.last or 0
        for seq, line in self._sought.items():
            self._find(Trouble.MISSING, line, seq, f"record {seq} is missing; another one stands in its place")
        first = report.first or 0
        gone = report.deleted_to + 1
        if self._is_all and first > gone and report.chained_from == first:
            file = str((self._start or end).file)
            what = f"the records {gone} to {first - 1} are missing, and none says that they were deleted"
            report.findings.insert(0, Finding(Trouble.MISSING, file, 1, gone, what))
        for seq, whose in sorted(self._known.items()):
            for each in whose:
                if seq > last + self._unread:
                    what = f"{each.whose} was told of record {seq}, and the trail ends at {last}"
                    self._find(Trouble.CUT, end, last + 1, what)
                elif seq < first:
                    report.beyond.append(each)
                else:
                    self._find(
                        Trouble.OTHER_HASH, end, seq, f"{each.whose} was told of record {seq}, which is not there"
                    )

    def _find(self, trouble: Trouble, line: Line, seq: int | None, what: str) -> None:
        if len(self._report.findings) >= MOST_FINDINGS:
            self._report.more_findings += 1
        else:
            if seq is None:
                self._nameless.append((len(self._report.findings), self._unread))
            self._report.findings.append(Finding(trouble, str(line.file), line.number, seq, what))


def _with_next(lines: Iterable[Line]) -> Iterator[tuple[Line, chain.Link | None, int | None]]:
    """Each line, what it says, and the number of the record in the line after it."""
    line: Line | None = None
    read: chain.Link | None = None
    for following in lines:
        read_next = chain.link(following.text)
        if line is not None:
            yield line, read, read_next.seq if read_next is not None else None
        line, read = following, read_next
    if line is not None:
        yield line, read, None
