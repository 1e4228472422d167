"""Something that happened, as a value, told through the log; its handlers know where it goes from there.

The names are the Elastic Common Schema's. It must not know where an event is told.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from enum import StrEnum

from spa_protocol.posture import Posture
from spa_server.service import Address
from spa_server.tell.chain import Checkpoint
from spa_server.tell.event_types import TYPES, EventType
from spa_server.traffic import Traffic


class Outcome(StrEnum):
    """How it ended, in ECS's words."""

    SUCCESS = "success"
    FAILURE = "failure"
    UNKNOWN = "unknown"
    """It is about to be done: the record that is written first, so that nothing is done without one."""


@dataclass(frozen=True, slots=True)
class Actor:
    """Who ran a command: the user it runs as, and the login behind it where one is known."""

    uid: int
    user: str
    login: str


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened, and all that is told of it. `message` is a sentence for people; nothing is secret.

    `user` and `device` are whom it concerns, `delegate` who acts for that device by its leave; `actor` is who did it,
    where that is a person at a command line.
    `services` are pairs of a name and seconds. `session` is the same in all records of one knock or one command.
    `risk` is the score, 0 to 100, and `risk_parts` what it is the sum of; `policies` are the ids of those that decided,
    in the policy of that hash; `request` is the number of a wish that somebody has to approve. `count` is how many
    there were, where one event stands for several; `checkpoint` is of the audit trail. `lasted_ms` is how long a
    session was open, `traffic` what went through it, None where nobody counted.
    """

    type: EventType
    message: str
    outcome: Outcome = Outcome.SUCCESS
    reason: str = ""
    about: str = ""
    source: Address | None = None
    destination: Address | None = None
    user: str = ""
    device: str = ""
    delegate: str = ""
    services: tuple[tuple[str, int], ...] = ()
    session: str = ""
    skew_ms: int | None = None
    actor: Actor | None = None
    posture: Posture | None = None
    risk: int | None = None
    risk_parts: tuple[tuple[str, int], ...] = ()
    policies: tuple[str, ...] = ()
    policy_hash: str = ""
    request: int = 0
    count: int = 0
    checkpoint: Checkpoint | None = None
    lasted_ms: int | None = None
    traffic: Traffic | None = None


def happened(log: logging.Logger, event: Event) -> None:
    """Tell an event through the log, whose handlers know where it goes."""
    log.log(event.type.level, "%s", event.message, extra={"event": event})


def event_of(record: logging.LogRecord) -> Event | None:
    """The event that a line of the log tells, if it tells one.

    Code that must not know this module names the type alone: `log.error("...", extra={"event": "perimeter-restored"})`.
    """
    told = getattr(record, "event", None)
    if isinstance(told, Event):
        return told
    kind = TYPES.get(told) if isinstance(told, str) else None
    return Event(kind, record.getMessage()) if kind is not None else None
