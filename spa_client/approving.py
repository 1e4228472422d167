"""Deciding on what somebody else asked for: a signed knock that approves or denies a request (docs/protocol.md, 5.5).

A request is denied once, so each family makes one knock, one after the other, until one is answered: a second knock
might be told that nothing waits any more. It must not know of files or terminals.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field

from spa_client.addresses import no_network, places, resolve
from spa_client.errors import BadSurroundings, BadUsage, NoAnswer
from spa_client.exchange import Next, Reply, ask, wall_ms
from spa_client.knocking import DEFAULT_TIMEOUT_S, MAX_LEASE_S, channel_of
from spa_client.memory import Memory
from spa_client.pace import Pace
from spa_client.perimeter import Perimeter
from spa_client.posture.collecting import INTERVAL_S
from spa_client.refused import refused
from spa_client.second_factor import CodeSource, checked, no_code
from spa_client.signing.signers import unlock
from spa_protocol.answer import Answer
from spa_protocol.body import Address
from spa_protocol.keys import ChannelKeys
from spa_protocol.knock import Action, Knock, seal_knock
from spa_protocol.posture import Posture
from spa_protocol.refusal import Refusal
from spa_protocol.seal import NONCE_SIZE
from spa_protocol.tag import TagKind

MAX_REQUEST = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class Wish:
    """What to do with a request. `action`: APPROVE or DENY. `for_s`: how long an approval holds, 0: as usual there."""

    number: int
    action: Action
    for_s: int = 0


def decide(
    perimeter: Perimeter,
    wish: Wish,
    memory: Memory,
    *,
    timeout_s: float = DEFAULT_TIMEOUT_S,
    code: CodeSource = no_code,
    clock: Callable[[], int] = wall_ms,
) -> str:
    """Approve or deny; what the server says of it, and whose request it was.

    Raises BadUsage, Refused, NoAnswer (it may be decided all the same) and BadSurroundings.
    """
    if not 0 < wish.number <= MAX_REQUEST or not 0 <= wish.for_s <= MAX_LEASE_S:
        raise BadUsage("a request has the number that the refusal named, and an approval holds for some seconds")
    if perimeter.certificate is not None:
        raise BadUsage("a delegate decides on nobody's requests: do it as the device itself")
    unlock(perimeter.signer)
    asker = _Asker(perimeter, wish, memory, _posture(perimeter, memory))
    reply = _answered(asker, timeout_s, clock)
    wanted = reply.answer is not None and reply.answer.refusal is Refusal.STEP_UP_NEEDED
    if wanted and (given := code()):
        asker.code, asker.posture = checked(given), _posture(perimeter, memory)
        reply = _answered(asker, timeout_s, clock)
    answer = reply.answer
    if answer is None:
        raise NoAnswer(
            f"no answer from {places([reply.target])}; it may be decided all the same (on the server: spa-server"
            " request list)",
            (reply.target.address,),
        )
    if answer.refusal is not None:
        raise refused(perimeter.name, answer, answer.refusal, reply.asked_ms, reply.local)
    return answer.about


def _posture(perimeter: Perimeter, memory: Memory) -> Posture | None:
    """What is told of this device's health: a policy may want approvers whose device is well, too."""
    return memory.health.posture(perimeter.posture, INTERVAL_S)


def _answered(asker: _Asker, timeout_s: float, clock: Callable[[], int]) -> Reply:
    """The reply of the first family that is answered; the last one's where none is."""
    targets = resolve(asker.perimeter.hosts, *asker.memory.port.first(asker.perimeter.knock_ports))
    pace = Pace.within(timeout_s, len(targets)).sparing() if asker.perimeter.answers else Pace.unanswered()
    replies: list[Reply] = []
    fault: OSError | None = None
    for target in targets:
        try:
            replies += ask((target,), asker, pace, clock)
        except OSError as error:
            fault = error
            continue
        answer = replies[-1].answer
        if answer is not None:
            asker.memory.checkpoint.note((answer,))
            return replies[-1]
    if not replies:
        raise BadSurroundings(no_network(targets, fault or OSError("no address")))
    return replies[-1]


@dataclass(slots=True)
class _Asker:
    """Makes the knock. `code`: what the next one gives, and no other."""

    perimeter: Perimeter
    wish: Wish
    memory: Memory
    posture: Posture | None
    code: str = field(default="", repr=False)
    keys: ChannelKeys = field(init=False)

    def __post_init__(self) -> None:
        self.keys = channel_of(self.perimeter)

    @property
    def server_identity(self) -> bytes:
        return self.perimeter.server_identity

    def question(self, local: Address, kind: TagKind, now_ms: int) -> bytes:
        code, self.code = self.code, ""
        wish = self.wish
        knock = Knock(
            now_ms,
            lease_s=wish.for_s,
            action=wish.action,
            posture=self.posture,
            code=code,
            request=wish.number,
        )
        return seal_knock(
            knock,
            keys=self.keys,
            signer=self.perimeter.signer,
            server_identity=self.perimeter.server_identity,
            slot=self.memory.slots.claim(now_ms),
            nonce=os.urandom(NONCE_SIZE),
            kind=kind,
        )

    def weigh(self, local: Address, answer: Answer) -> Next:
        return Next.ASK_AGAIN if answer.refusal is Refusal.ALREADY_USED else Next.DONE
