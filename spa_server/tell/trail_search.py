"""Finding records in the audit trail: which of its lines somebody asks for. It must not know files or terminals."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass

from spa_server.tell import ecs


@dataclass(frozen=True, slots=True)
class Wanted:
    """What records have to say to be shown; "" is anything. `since_ms` and `until_ms`: UTC, since 1970.

    `user`: whom it concerns, or who ran the command. `device`: its label, for all that delegates of it did, too, or
    LABEL+DELEGATE.
    """

    user: str = ""
    device: str = ""
    service: str = ""
    source: str = ""
    session: str = ""
    action: str = ""
    outcome: str = ""
    since_ms: int | None = None
    until_ms: int | None = None

    @property
    def is_anything(self) -> bool:
        """Whether every record is wanted."""
        return self == Wanted()

    def finder(self) -> Callable[[bytes], bool]:
        """Says of a line whether it is a record that is wanted."""
        if self.is_anything:
            return lambda _line: True
        names = self._names()

        def finds(line: bytes) -> bool:
            if not all(name in line for name in names):  # most lines are not worth being parsed
                return False
            try:
                told = json.loads(line)
            except (ValueError, RecursionError):
                return False
            return isinstance(told, dict) and self._fits(told)

        return finds

    def _names(self) -> tuple[bytes, ...]:
        device = self.device.partition("+")[0]
        said = (self.user, device, self.service, self.source, self.session, self.action, self.outcome)
        return tuple(json.dumps(each, ensure_ascii=False).encode("utf-8", "replace") for each in said if each)

    def _fits(self, told: dict[str, object]) -> bool:
        time = text(told, "@timestamp")
        if self.since_ms is not None and time < ecs.utc_ms(self.since_ms):
            return False
        if self.until_ms is not None and time >= ecs.utc_ms(self.until_ms):
            return False
        device, _, delegate = self.device.partition("+")
        asked = (
            (device, (text(told, "device", "id"),)),
            (delegate, (text(told, "spa", "delegate"),)),
            (self.user, users(told)),
            (self.source, (text(told, "source", "ip"),)),
            (self.session, (text(told, "session", "id"),)),
            (self.action, (text(told, "event", "action"),)),
            (self.outcome, (text(told, "event", "outcome"),)),
            (self.service, services(told)),
        )
        return all(not wanted or wanted in said for wanted, said in asked)


def text(told: object, *path: str) -> str:
    """The text at that place in a record; "" where there is none."""
    for name in path:
        told = told.get(name) if isinstance(told, dict) else None
    return told if isinstance(told, str) else ""


def users(told: dict[str, object]) -> tuple[str, ...]:
    """Everybody whom a record names: whose it is, or who ran the command, as whom, and whom it concerns."""
    named = (("user", "name"), ("user", "effective", "name"), ("user", "target", "name"))
    return tuple(dict.fromkeys(each for each in (text(told, *path) for path in named) if each))


def services(told: dict[str, object]) -> tuple[str, ...]:
    """The services that a record names."""
    own = told.get("spa")
    listed = own.get("services") if isinstance(own, dict) else None
    return tuple(text(each, "name") for each in listed) if isinstance(listed, list) else ()
