"""An event as one line of JSON in the Elastic Common Schema (https://www.elastic.co/docs/reference/ecs).

It is in canonical form (RFC 8785: keys sorted, no space, no fractions, UTF-8), so that a hash over its bytes is a hash
over what it says. It must not know files or hashes.
"""

from __future__ import annotations

import datetime
import functools
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING

from spa_protocol.posture import Posture

if TYPE_CHECKING:
    from spa_server.tell.events import Event

ECS_VERSION = "8.11.0"

LONGEST_TEXT = 1000
"""Characters of any one text: nothing that was typed or sent makes a record longer than the trail can go on from."""
MOST_NAMED = 16
"""Policies, or parts of a risk, that one record names."""

_encoder = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), sort_keys=True, check_circular=False)


def record(event: Event, time_ms: int) -> dict[str, object]:
    """What the trail says of an event, without a sequence number."""
    told: dict[str, object] = {
        "@timestamp": utc_ms(time_ms),
        "ecs": {"version": ECS_VERSION},
        "event": _event(event),
        "message": event.message[:LONGEST_TEXT],
    }
    if event.source is not None:
        told["source"] = {"ip": str(event.source)}
    if event.destination is not None:
        told["destination"] = {"ip": str(event.destination)}
    if event.session:
        told["session"] = {"id": event.session[:LONGEST_TEXT]}
    if event.device:
        told["device"] = {"id": event.device[:LONGEST_TEXT]}
    if event.policies:
        told["rule"] = {"id": [each[:LONGEST_TEXT] for each in event.policies[:MOST_NAMED]]}
    told.update(_people(event))
    _tell_session(told, event)
    own = _own(event)
    if own:
        told["spa"] = own
    return told


def canonical(told: Mapping[str, object]) -> bytes:
    """Canonical JSON of it."""
    return _encoder.encode(told).encode("utf-8", "replace")


def utc_ms(time_ms: int) -> str:
    """A time as ECS has it, to the millisecond."""
    seconds, ms = divmod(time_ms, 1000)
    return f"{_to_the_second(seconds)}.{ms:03d}Z"


@functools.lru_cache(maxsize=4)
def _to_the_second(seconds: int) -> str:
    try:
        return datetime.datetime.fromtimestamp(seconds, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S")
    except (ValueError, OverflowError, OSError):  # a clock beyond the year 9999
        return "1970-01-01T00:00:00"


def _event(event: Event) -> dict[str, object]:
    kind = event.type
    told = _filled(
        kind=kind.kind,
        category=[kind.category],
        type=[kind.type],
        action=kind.name,
        code=kind.message_id,
        outcome=event.outcome.value,
        reason=event.reason[:LONGEST_TEXT],
    )
    if event.risk is not None:
        told["risk_score"] = _exact(event.risk)
    return told


def _people(event: Event) -> dict[str, object]:
    """Whom it concerns and who did it: ECS keeps the two apart as `user` and `user.target`."""
    actor, concerned = event.actor, event.user[:LONGEST_TEXT]
    if actor is None:
        return {"user": {"name": concerned}} if concerned else {}
    user: dict[str, object] = {
        "name": (actor.login or actor.user)[:LONGEST_TEXT],
        "effective": {"id": str(actor.uid), "name": actor.user},
    }
    if concerned:
        user["target"] = {"name": concerned}
    return {"user": user}


def _tell_session(told: dict[str, object], event: Event) -> None:
    """How long it was, and what each end sent: ECS has the one under `event`, in ns, the other under the ends."""
    kind, traffic = told["event"], event.traffic
    if event.lasted_ms is not None and isinstance(kind, dict):
        kind["duration"] = _exact(event.lasted_ms * 1_000_000)
    if traffic is None:
        return
    for end, packets, octets in (
        ("source", traffic.packets_in, traffic.octets_in),
        ("destination", traffic.packets_out, traffic.octets_out),
    ):
        known = told.setdefault(end, {})
        if isinstance(known, dict):
            known.update(packets=_exact(packets), bytes=_exact(octets))


def _own(event: Event) -> dict[str, object]:
    own: dict[str, object] = _filled(about=event.about[:LONGEST_TEXT], delegate=event.delegate)
    if event.services:
        own["services"] = [{"name": name, "seconds": seconds} for name, seconds in event.services]
    if event.skew_ms is not None:
        own["skew_ms"] = _exact(event.skew_ms)
    if event.risk_parts:
        own["risk"] = {name[:LONGEST_TEXT]: _exact(points) for name, points in event.risk_parts[:MOST_NAMED]}
    if event.posture is not None:
        own["posture"] = _health(event.posture)
    own.update(_filled(policy_hash=event.policy_hash[:LONGEST_TEXT], request=_exact(event.request)))
    own.update(_filled(count=_exact(event.count)))
    if event.checkpoint is not None:
        own["checkpoint"] = event.checkpoint.told()
    return own


def _health(posture: Posture) -> dict[str, object]:
    """What the device said of itself; what it does not know is left out, and a fact of three values says so."""
    said: dict[str, object] = {
        "age_s": posture.age_s,
        "source": posture.source.name.lower(),
        "disk_encrypted": posture.disk_encrypted.name.lower(),
        "screen_lock": posture.screen_lock.name.lower(),
        "firewall": posture.firewall.name.lower(),
        "secure_boot": posture.secure_boot.name.lower(),
    }
    said.update(_filled(system=posture.system))
    if posture.patch_age_days is not None:
        said["patch_age_days"] = posture.patch_age_days
    if posture.uptime_s is not None:
        said["uptime_s"] = posture.uptime_s
    return said


def _exact(number: int) -> int:
    """A number that every reader of JSON reads the same (RFC 8785 keeps to 53 bits)."""
    return max(-(2**53 - 1), min(2**53 - 1, number))


def _filled(**texts: object) -> dict[str, object]:
    return {name: value for name, value in texts.items() if value}
