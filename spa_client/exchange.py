"""One question and its answer over UDP, by every family at once.

Theory of operation. Each family is a path to one address, with a way to each of its knock ports. Every question is
sealed anew, so each has its own tag, nonce and time, and goes out on the schedule of a Pace until its family has an
answer. A little later the same bytes go out once more by the same way, and then by every other, should the network
block the first. Copies cost no slot: all ports lead to one gate, which lets one of them through. Where questions get
through but their answers do not come back by that way, copies are void, so the later questions go by all ways in turn.
Whatever arrives is dropped unless it starts with the tag that only the answer to one of our own questions can have, and
then opens and verifies as that answer; so neither garbage nor an answer to somebody else's question changes anything
but the time spent. ICMP errors are hints that anyone can forge, and are ignored. It must not know what is asked.
"""

from __future__ import annotations

import contextlib
import selectors
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from operator import attrgetter
from typing import NamedTuple, Protocol

from spa_client.addresses import Target
from spa_client.errors import SpaError
from spa_client.pace import Pace
from spa_client.steps import tell
from spa_client.ways import Way, open_ways
from spa_protocol.answer import Answer, open_answer
from spa_protocol.body import Address
from spa_protocol.keys import ChannelKeys
from spa_protocol.seal import HEAD_SIZE, answer_tag
from spa_protocol.tag import TAG_SIZE, TagKind

MOST_HASTENED = 2
"""How often an answer may make a family ask again at once."""
_RECEIVED_AT_ONCE = 32
"""Datagrams read before the clock is looked at again, so that a flood cannot hold the client."""


class Next(Enum):
    """What to do after an answer."""

    DONE = auto()
    ASK_AGAIN = auto()
    """Another question at once, and go on."""
    KEEP_ASKING = auto()
    """Go on as planned; this answer counts if no other comes."""


class Asker(Protocol):
    """What is asked; the client's knock and its enrolment are the two."""

    @property
    def keys(self) -> ChannelKeys:
        """The keys of the channel."""

    @property
    def server_identity(self) -> bytes:
        """Who must have signed the answer."""

    def question(self, local: Address, kind: TagKind, now_ms: int) -> bytes:
        """A new datagram for the family of `local`, this side's address. Raises SpaError when there can be none."""

    def weigh(self, local: Address, answer: Answer) -> Next:
        """What to do after this answer."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What came of one family.

    `local`: this side's address. `answer`: the verified answer, or None. `asked_ms`: this computer's clock when the
    answered question was made. `fault`: why nothing could be sent, or "". `took_s`: from the question to the answer, 0
    without one. `port`: the port that answered, 0 if none did.
    """

    target: Target
    local: Address
    answer: Answer | None
    asked_ms: int
    fault: str
    took_s: float = 0.0
    port: int = 0


def port_answered(replies: Sequence[Reply], preferred: int) -> int:
    """The knock port that got through: the preferred one, if it is among those that did; 0 if none did."""
    answered = [reply.port for reply in replies if reply.answer is not None]
    return preferred if preferred in answered else next(iter(answered), 0)


def wall_ms() -> int:
    """This computer's clock: milliseconds since 1970, UTC."""
    return time.time_ns() // 1_000_000


@dataclass(frozen=True, slots=True)
class _Question:
    """A question that was made. `asked_ms`: when (UTC). `sent_s`: when it first went out by each way (monotonic)."""

    datagram: bytes
    asked_ms: int
    sent_s: dict[Way, float] = field(default_factory=dict)

    @property
    def head(self) -> bytes:
        """What its answer is bound to."""
        return self.datagram[:HEAD_SIZE]


class _Due(NamedTuple):
    """A question to be made."""

    at_s: float
    kind: TagKind
    way: Way


class _Copy(NamedTuple):
    """A question to be sent once more."""

    at_s: float
    question: _Question
    way: Way


@dataclass(slots=True, eq=False)
class _Path:
    """One family's ways and what has happened on them. `due` and `copies` are sorted by their times."""

    target: Target
    ways: tuple[Way, ...]
    due: list[_Due]
    copies: list[_Copy] = field(default_factory=list)
    asked: dict[bytes, _Question] = field(default_factory=dict)
    reply: Reply | None = None
    answered_s: float | None = None
    hastened: int = 0
    sent: bool = False
    fault: str = ""
    unasked: SpaError | None = None

    @property
    def local(self) -> Address:
        """This side's address."""
        return self.ways[0].local

    def result(self) -> Reply:
        return self.reply or Reply(self.target, self.local, None, 0, "" if self.sent else self.fault)

    def wakes_s(self) -> list[float]:
        """When something is to be sent next."""
        return [entries[0].at_s for entries in (self.due, self.copies) if entries]


def ask(targets: Sequence[Target], asker: Asker, pace: Pace, clock: Callable[[], int] = wall_ms) -> tuple[Reply, ...]:
    """Ask by every family that has a route; one Reply each, in the order of `targets`.

    Raises OSError when no family has a route, and whatever `asker.question` raises when it makes none at all.
    """
    with contextlib.ExitStack() as stack:
        paths = _open_paths(targets, pace, stack)
        selector = stack.enter_context(selectors.DefaultSelector())
        for path in paths:
            for way in path.ways:
                selector.register(way.socket, selectors.EVENT_READ, (path, way))
        _run(paths, selector, asker, pace, clock)
    for path in paths:
        if path.reply is None and path.sent:
            tell("silence", "nothing came back from {}", path.target.address)
    for path in paths:
        if path.unasked is not None and not any(other.sent for other in paths):
            raise path.unasked
    return tuple(path.result() for path in paths)


def _open_paths(targets: Sequence[Target], pace: Pace, stack: contextlib.ExitStack) -> list[_Path]:
    paths: list[_Path] = []
    no_route: OSError | None = None
    for target in targets:
        try:
            paths.append(_open_path(target, pace, stack))
        except OSError as error:
            no_route = error
            tell("no-route", "none to {}: {}", target.address, error.strerror or error)
    if not paths and no_route is not None:
        raise no_route
    return paths


def _open_path(target: Target, pace: Pace, stack: contextlib.ExitStack) -> _Path:
    ways = open_ways(target, stack)
    # The first two questions go by the first way, the others by all in turn.
    due = [
        _Due(at_s, TagKind.KNOCK, ways[max(0, number - 1) % len(ways)]) for number, at_s in enumerate(pace.questions_s)
    ]
    if pace.clock_s is not None:
        due.append(_Due(pace.clock_s, TagKind.CLOCK, ways[0]))
    return _Path(target, ways, sorted(due, key=attrgetter("at_s")))


def _run(
    paths: list[_Path], selector: selectors.BaseSelector, asker: Asker, pace: Pace, clock: Callable[[], int]
) -> None:
    watch = _Watch()
    while True:
        now_s = watch.now_s()
        end_s = _end_s(paths, pace)
        for path in paths:
            if path.answered_s is None:
                _send_due(path, now_s, asker, pace, clock, watch)
                _send_copies(path, now_s)
        waiting = [path for path in paths if path.answered_s is None]
        if not waiting or now_s >= end_s:
            return
        wake_s = min([end_s, *(at_s for path in waiting for at_s in path.wakes_s())])
        for key, _ in selector.select(max(0.0, wake_s - now_s)):
            path, way = key.data
            if path.answered_s is None:
                _receive(path, way, watch.now_s(), asker)
            if path.answered_s is not None:
                # Later datagrams for it would wake this loop for nothing.
                selector.unregister(way.socket)


def _end_s(paths: list[_Path], pace: Pace) -> float:
    """When to stop: a family that has its answer gives the others a little longer."""
    end_s = pace.total_s
    for path in paths:
        if path.answered_s is not None and path.reply is not None:
            granted = path.reply.answer is not None and path.reply.answer.refusal is None
            end_s = min(end_s, path.answered_s + (pace.grace_s if granted else pace.refused_grace_s))
    return end_s


class _Watch:
    """Seconds since the start, without those that a signature took: somebody may have had to touch a key for it."""

    def __init__(self) -> None:
        self._start_s = time.monotonic()

    def now_s(self) -> float:
        return time.monotonic() - self._start_s

    @contextlib.contextmanager
    def standing_still(self) -> Iterator[None]:
        begun_s = time.monotonic()
        try:
            yield
        finally:
            self._start_s += time.monotonic() - begun_s


def _send_due(path: _Path, now_s: float, asker: Asker, pace: Pace, clock: Callable[[], int], watch: _Watch) -> None:
    while path.due and path.due[0].at_s <= now_s:
        _, kind, way = path.due.pop(0)
        now_ms = clock()
        try:
            with watch.standing_still():
                datagram = asker.question(path.local, kind, now_ms)
        except SpaError as error:
            # What was asked before may still be answered.
            path.due.clear()
            path.unasked = error
            if not path.sent:
                path.answered_s = now_s
            return
        tell("signed", "under a {} tag, to be sent from {}", kind.name.lower(), path.local)
        question = _Question(datagram, now_ms)
        path.asked[answer_tag(asker.keys, question.head)] = question
        went_out = _sent(path, question, way)
        if went_out:
            tell("sent", "to {}", way)
        else:
            tell("not-sent", "to {}: {}", way, path.fault)
        others = [other for other in path.ways if other is not way]
        path.copies += [_Copy(now_s + after_s, question, way) for after_s in pace.copies_after_s if went_out]
        # A port that this computer itself closes is not waited for.
        elsewhere_s = pace.elsewhere_after_s if went_out else (0.0,)
        path.copies += [_Copy(now_s + after_s, question, other) for after_s in elsewhere_s for other in others]
        path.copies.sort(key=attrgetter("at_s"))


def _send_copies(path: _Path, now_s: float) -> None:
    while path.copies and path.copies[0].at_s <= now_s:
        _, question, way = path.copies.pop(0)
        if _sent(path, question, way):
            tell("sent-again", "the same to {}", way)


def _sent(path: _Path, question: _Question, way: Way) -> bool:
    begun_s = time.monotonic()
    fault = way.send(question.datagram)
    if fault:
        path.fault = fault
        return False
    question.sent_s.setdefault(way, begun_s)
    path.sent = True
    return True


def _receive(path: _Path, way: Way, now_s: float, asker: Asker) -> None:
    for _ in range(_RECEIVED_AT_ONCE):
        try:
            datagram = way.socket.recv(2048)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            continue
        question = path.asked.get(datagram[:TAG_SIZE])
        if question is None or way not in question.sent_s:
            continue
        answer = open_answer(
            datagram, keys=asker.keys, server_identity=asker.server_identity, request_head=question.head
        )
        if answer is None:
            continue
        # One question, one answer: a copy of it that comes later says nothing new.
        del path.asked[datagram[:TAG_SIZE]]
        took_s = time.monotonic() - question.sent_s[way]
        path.reply = Reply(path.target, path.local, answer, question.asked_ms, "", took_s, way.port)
        _tell_answer(way, answer, question.asked_ms, took_s)
        verdict = asker.weigh(path.local, answer)
        if verdict is Next.DONE or (verdict is Next.ASK_AGAIN and path.hastened >= MOST_HASTENED):
            path.answered_s = now_s
            return
        if verdict is Next.ASK_AGAIN:
            path.hastened += 1
            path.due.insert(0, _Due(now_s, TagKind.KNOCK, way))


def _tell_answer(way: Way, answer: Answer, asked_ms: int, took_s: float) -> None:
    if answer.refusal is None:
        outcome = "granted"
    else:
        outcome = f"refused: {answer.refusal.sentence(answer.about, asked_ms - answer.time_ms)}"
    tell("answer", "from {} after {:.1f} ms: {}", way, took_s * 1000, outcome)
