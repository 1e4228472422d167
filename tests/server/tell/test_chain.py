"""The hash of a record is the one that RFC 8785 and FIPS 180-4 give, as another implementation has them."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from spa_protocol.keys import public_key, sign
from spa_protocol.posture import Fact, Posture
from spa_server.tell import chain, ecs
from spa_server.tell.audit import AuditTrail
from spa_server.tell.events import Actor
from tests.server.tell.told import TIME_MS, granted, records

WHOLE = st.integers(-(2**80), 2**80)
TEXT = st.text(st.characters(codec="utf-8"), max_size=40)


def by_the_standard(line: bytes) -> str:
    told = json.loads(line)
    del told["hash"]
    return hashlib.sha256(rfc8785.dumps(told)).hexdigest()


@given(st.data())
def test_whatever_is_told_is_hashed_and_written_as_the_standard_says(data: st.DataObject) -> None:
    event = replace(
        granted(data.draw(TEXT), skew_ms=data.draw(WHOLE)),
        message=data.draw(TEXT),
        about=data.draw(TEXT),
        device=data.draw(TEXT),
        user=data.draw(TEXT),
        actor=data.draw(st.none() | st.builds(Actor, st.just(0), TEXT, TEXT)),
        posture=data.draw(st.none() | st.builds(Posture, st.integers(0, 2**32 - 1), system=TEXT)),
        risk=data.draw(st.none() | st.integers(0, 100)),
        risk_parts=tuple(data.draw(st.dictionaries(st.from_regex(r"[a-z_]{1,20}", fullmatch=True), WHOLE)).items()),
        policies=tuple(data.draw(st.lists(TEXT, max_size=3))),
        request=data.draw(WHOLE),
    )
    line, digest = chain.sealed(ecs.record(event, TIME_MS), 7, chain.NO_HASH)
    assert line.endswith(b"\n")
    assert by_the_standard(line) == digest == json.loads(line)["hash"]
    assert rfc8785.dumps(json.loads(line)) == line[:-1]
    read = chain.link(line[:-1])
    assert read is not None
    assert (read.seq, read.hash, read.prev, read.is_intact) == (7, digest, chain.NO_HASH, True)


def test_each_record_names_the_hash_of_the_one_before_over_restarts_rotation_and_writers(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    writers = [AuditTrail(path, largest_bytes=3_000, most_files=100) for _ in range(2)]
    for number in range(12):
        writers[number % 2].append(granted())
    AuditTrail(path, largest_bytes=3_000, most_files=100).append(granted())
    told = records(path)
    assert len(told) == 13
    assert [each["prev"] for each in told] == [chain.NO_HASH, *(each["hash"] for each in told[:-1])]


def test_newest_is_what_the_last_record_says(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    trail = AuditTrail(path, largest_bytes=1 << 20, most_files=8)
    assert trail.newest() is None
    trail.append(granted())
    trail.append(granted())
    last = records(path)[-1]
    assert trail.newest() == (2, bytes.fromhex(last["hash"]))


def test_a_checkpoint_is_signed_over_number_hash_and_time(tmp_path: Path) -> None:
    path, seed = tmp_path / "audit.jsonl", bytes(range(32))
    trail = AuditTrail(path, largest_bytes=1 << 20, most_files=8, wall_ms=lambda: TIME_MS)
    trail.append(granted())
    assert trail.sign(lambda message: sign(seed, message)) == 2
    first, signed = records(path)
    said = signed["spa"]["checkpoint"]
    assert (said["seq"], said["hash"], said["time_ms"]) == (1, first["hash"], TIME_MS)
    read = chain.Checkpoint.of(signed)
    assert read is not None
    assert read.is_signed_by(public_key(seed))
    others = (replace(read, seq=2), replace(read, hash="a" * 64), replace(read, time_ms=TIME_MS + 1))
    assert not any(each.is_signed_by(public_key(seed)) for each in others)
    message = b"spa-perimeter v1 audit checkpoint\0" + bytes(7) + b"\1" + bytes.fromhex(first["hash"])
    assert sign(seed, message + TIME_MS.to_bytes(8, "big")).hex() == said["signature"]


def test_on_what_a_decision_rests_is_on_record() -> None:
    posture = Posture(age_s=60, disk_encrypted=Fact.YES, screen_lock=Fact.NO, patch_age_days=0, system="Debian 13")
    event = granted(
        posture=posture,
        risk=0,
        risk_parts=(("new_network", 15), ("odd_hour", 10)),
        policies=("roles", "office-hours"),
        policy_hash="ab12",
        request=7,
    )
    told: Any = ecs.record(event, TIME_MS)
    assert told["event"]["risk_score"] == 0
    assert told["rule"] == {"id": ["roles", "office-hours"]}
    assert told["spa"]["risk"] == {"new_network": 15, "odd_hour": 10}
    assert (told["spa"]["policy_hash"], told["spa"]["request"]) == ("ab12", 7)
    assert told["spa"]["posture"] == {
        "age_s": 60,
        "source": "client",
        "disk_encrypted": "yes",
        "screen_lock": "no",
        "firewall": "unknown",
        "secure_boot": "unknown",
        "patch_age_days": 0,
        "system": "Debian 13",
    }
