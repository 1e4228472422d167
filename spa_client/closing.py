"""Closing the door behind oneself: a signed knock that gives back what an earlier one opened (docs/protocol.md, 5.1).

It names the very source that was opened, so that it also ends a lease for an address that this computer has left: to
give something back, any address may be signed. It must not know of files or terminals.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field

from spa_client.addresses import Target, sockaddr_of
from spa_client.errors import BadSurroundings, NoAnswer, Refused
from spa_client.exchange import Next, Reply, ask, wall_ms
from spa_client.knocking import Opened, Opening, channel_of
from spa_client.memory import Memory
from spa_client.pace import Pace
from spa_client.perimeter import Perimeter
from spa_client.refused import refused
from spa_client.signing.signers import unlock
from spa_protocol.answer import Answer
from spa_protocol.body import Address
from spa_protocol.keys import ChannelKeys
from spa_protocol.knock import Action, Knock, seal_knock
from spa_protocol.refusal import Refusal
from spa_protocol.seal import NONCE_SIZE
from spa_protocol.tag import TagKind

DEFAULT_TIMEOUT_S = 1.5
"""Nobody waits long for a door to close; the lease ends by itself soon."""


def close_opened(
    perimeter: Perimeter,
    opened: Opened,
    memory: Memory,
    *,
    timeout_s: float = DEFAULT_TIMEOUT_S,
    clock: Callable[[], int] = wall_ms,
) -> tuple[str, ...]:
    """Give back all that `opened` says is open; the names of the services that were closed.

    Raises Refused, NoAnswer (also where the server answers nothing at all; it may have closed all the same) and
    BadSurroundings.
    """
    port, *further = memory.port.first(perimeter.knock_ports)
    targets = tuple(
        Target(opening.server, sockaddr_of(opening.server, port), tuple(further)) for opening in opened.openings
    )
    if not targets:
        return ()
    unlock(perimeter.signer)
    closer = _Closer(perimeter, opened.openings, memory)
    pace = Pace.closing(timeout_s) if perimeter.answers else Pace.unanswered()
    pace = pace.signed_by(perimeter.signer)
    try:
        replies = ask(targets, closer, pace, clock)
    except OSError as error:
        raise BadSurroundings(f"no network that leads to {perimeter.name}: {error.strerror or error}") from None
    memory.checkpoint.note(reply.answer for reply in replies if reply.answer is not None)
    return _closed(perimeter, replies)


@dataclass(slots=True)
class _Closer:
    """Makes the closing knocks: one for each family that was opened."""

    perimeter: Perimeter
    openings: tuple[Opening, ...]
    memory: Memory
    keys: ChannelKeys = field(init=False)

    def __post_init__(self) -> None:
        self.keys = channel_of(self.perimeter)

    @property
    def server_identity(self) -> bytes:
        return self.perimeter.server_identity

    def question(self, local: Address, kind: TagKind, now_ms: int) -> bytes:
        opening = next(each for each in self.openings if each.server.version == local.version)
        names = tuple(service.name for service in opening.services)
        certificate = self.perimeter.certificate
        return seal_knock(
            Knock(now_ms, names, 0, opening.source, Action.CLOSE, certificate),
            keys=self.keys,
            signer=self.perimeter.signer,
            server_identity=self.perimeter.server_identity,
            slot=self.memory.slots.claim(now_ms),
            nonce=os.urandom(NONCE_SIZE),
            kind=kind,
        )

    def weigh(self, local: Address, answer: Answer) -> Next:
        return Next.ASK_AGAIN if answer.refusal is Refusal.ALREADY_USED else Next.DONE


def _closed(perimeter: Perimeter, replies: tuple[Reply, ...]) -> tuple[str, ...]:
    names: dict[str, None] = {}
    turned_down: Refused | None = None
    for reply in replies:
        if reply.answer is None:
            continue
        if reply.answer.refusal is None:
            names.update(dict.fromkeys(service.name for service in reply.answer.services))
        else:
            turned_down = refused(perimeter.name, reply.answer, reply.answer.refusal, reply.asked_ms, reply.local)
    if turned_down is not None:
        raise turned_down
    if not any(reply.answer is not None for reply in replies):
        places = tuple(reply.target.address for reply in replies)
        raise NoAnswer(f"{perimeter.name} did not say that it closed; the lease ends by itself", places)
    return tuple(names)
