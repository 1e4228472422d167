"""What came of a verified request, and the datagram that tells it (docs/protocol.md, section 7).

It must not know how it came to be.
"""

from __future__ import annotations

from dataclasses import dataclass

from spa_protocol.answer import MAX_ABOUT, Answer, AnsweredService, Checkpoint, seal_answer
from spa_protocol.keys import ChannelKeys
from spa_protocol.seal import Opened
from spa_server.decide.decision import Refused
from spa_server.listen.arrival import Arrival
from spa_server.remember.identity import ServerIdentity
from spa_server.service import Service


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of a verified request: a refusal, or the services to tell of."""

    refused: Refused | None
    services: tuple[AnsweredService, ...] = ()
    about: str = ""


def seal_verdict(
    verdict: Verdict,
    arrival: Arrival,
    opened: Opened,
    *,
    keys: ChannelKeys,
    identity: ServerIdentity,
    slots: int,
    nonce: bytes,
    checkpoint: Checkpoint | None = None,
) -> bytes:
    """The answer to whoever sent `opened`, in a datagram that `keys` open. `checkpoint`: of the audit trail."""
    answer = Answer(
        refusal=verdict.refused.refusal if verdict.refused else None,
        time_ms=arrival.at.wall_ms,
        seen=arrival.path.source,
        seen_port=arrival.source_port,
        slots=slots,
        about=verdict.about.encode("ascii", "replace").decode()[:MAX_ABOUT],
        services=verdict.services,
        checkpoint=checkpoint,
    )
    return seal_answer(
        answer,
        keys=keys,
        server_seed=identity.seed,
        server_identity=identity.public,
        request_head=opened.head,
        nonce=nonce,
    )


def told(service: Service, left_s: int) -> AnsweredService:
    """A service as answers have it."""
    tcp = service.tcp[0].first if service.tcp else 0
    udp = service.udp[0].first if service.udp else 0
    return AnsweredService(service.name, left_s, tcp, udp, service.source.value == "signed")
