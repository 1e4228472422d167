"""A live session as the text that is remembered of it, and back: JSON, each value of a kind of its own marked as such.

What another version wrote, with other facts, is Unreadable: nobody can say of it whether the answer is still yes.
"""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from dataclasses import fields
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any

from spa_protocol.body import FieldReader, FieldWriter, MalformedBody
from spa_protocol.delegation import Certificate
from spa_protocol.keys import Channel
from spa_protocol.posture import Posture
from spa_server.decide.context import Approval, Context
from spa_server.listen.clock import Instant
from spa_server.listen.gate import HolderId
from spa_server.listen.session import Live
from spa_server.remember.sessions import SessionKey

_CONTEXT = frozenset(field.name for field in fields(Context))


class Unreadable(ValueError):
    """A text that this version did not write."""


def to_text(live: Live) -> str:
    """What is remembered, but for the key and whether it is spared."""
    told = {
        "session": live.session,
        "knock": live.knock,
        "holder": [live.holder.channel.name, live.holder.number],
        "seen": str(live.seen),
        "signed": live.is_signed,
        "at": [live.at.wall_ms, live.at.boot_ms],
        "began_ms": live.began_ms,
        "ends_ms": live.ends_ms,
        "outlives": live.outlives,
        "certificate": None if live.certificate is None else _text(live.certificate.to_bytes()),
        "context": {field.name: _plain(getattr(live.context, field.name)) for field in fields(Context)},
    }
    return json.dumps(told, separators=(",", ":"))


def of_text(key: SessionKey, text: str) -> Live:
    """The session. Raises Unreadable."""
    try:
        return _live(key, json.loads(text))
    except (KeyError, TypeError, ValueError, MalformedBody) as error:
        raise Unreadable(str(error)) from error


def _live(key: SessionKey, told: dict[str, object]) -> Live:
    match told:
        case {
            "session": str(session),
            "knock": str(knock),
            "holder": [str(channel), int(number)],
            "seen": str(seen),
            "signed": bool(is_signed),
            "at": [int(wall_ms), int(boot_ms)],
            "began_ms": int(began_ms),
            "ends_ms": int(ends_ms),
            "outlives": bool(outlives),
            "certificate": certificate,
            "context": {**context},
        } if context.keys() == _CONTEXT:
            return Live(
                key,
                session=session,
                knock=knock,
                holder=HolderId(Channel[channel], number),
                seen=ip_address(seen),
                is_signed=is_signed,
                context=Context(**{str(name): _value(value) for name, value in context.items()}),
                certificate=None if certificate is None else Certificate.from_bytes(_octets(certificate)),
                at=Instant(wall_ms, boot_ms),
                began_ms=began_ms,
                ends_ms=ends_ms,
                outlives=outlives,
            )
    raise Unreadable("other facts than are known here")


def _plain(value: object) -> object:
    match value:
        case None | bool() | int() | str():
            return value
        case frozenset():
            return {"set": sorted(value)}
        case IPv4Address() | IPv6Address():
            return {"address": str(value)}
        case Posture():
            writer = FieldWriter()
            value.write(writer)
            return {"posture": _text(writer.written())}
        case Approval():
            return {"approval": [sorted(value.by), value.left_s]}
    raise TypeError(f"{type(value).__name__} in a context")


def _value(told: object) -> Any:
    match told:
        case None | bool() | int() | str():
            return told
        case {"set": [*items]}:
            return frozenset(map(str, items))
        case {"address": str(text)}:
            return ip_address(text)
        case {"posture": text}:
            octets = _octets(text)
            return Posture.read(FieldReader(octets, 0, len(octets)))
        case {"approval": [[*by], int(left_s)]}:
            return Approval(frozenset(map(str, by)), left_s)
    raise Unreadable("a value of unknown kind")


def _text(octets: bytes) -> str:
    return b64encode(octets).decode("ascii")


def _octets(text: object) -> bytes:
    return b64decode(str(text), validate=True)
