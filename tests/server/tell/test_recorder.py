"""What is told through the log becomes a record; what finds the disk full waits, and is written when it can be."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from spa_protocol.keys import public_key, sign
from spa_server.tell import trail_files
from spa_server.tell.audit import AuditTrail, NotWritten
from spa_server.tell.event_types import REFUSED
from spa_server.tell.events import Event, Outcome, happened
from spa_server.tell.recorder import MOST_WAITING, SIGN_EVERY, Recorder
from spa_server.tell.sampling import EACH
from spa_server.tell.trail_check import Report, check
from tests.server.tell.told import granted, granting, numbers, records

SEED = bytes(range(32))


class Site:
    def __init__(self, folder: Path, *, is_required: bool = True) -> None:
        self.folder = folder / "log"
        self.path = self.folder / "audit.jsonl"
        self.now_s = 100.0
        trail = AuditTrail(self.path, largest_bytes=1 << 20, most_files=8)
        self.recorder = Recorder(
            trail,
            signer=lambda message: sign(SEED, message),
            is_required=is_required,
            monotonic=lambda: self.now_s,
        )
        self.log = logging.getLogger("spa.test")

    def repair(self) -> None:
        self.folder.mkdir()


@pytest.fixture
def site(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> Iterator[Site]:
    """A recorder whose trail cannot be written until `repair`."""
    made = Site(tmp_path)
    logging.getLogger().addHandler(made.recorder)
    with caplog.at_level(logging.INFO):
        yield made
    logging.getLogger().removeHandler(made.recorder)
    made.recorder.close()


def actions(site: Site) -> list[str]:
    return [record["event"]["action"] for record in records(site.path)]


def test_an_event_in_the_log_is_a_record_and_a_plain_line_is_none(site: Site) -> None:
    site.repair()
    site.log.info("just so")
    happened(site.log, granted())
    site.log.warning("the clock was stepped by %d s", 5, extra={"event": "clock-stepped"})
    site.log.warning("whatever", extra={"event": "no such type"})
    assert actions(site) == ["granted", "clock-stepped"]
    assert records(site.path)[1]["message"] == "the clock was stepped by 5 s"


def test_what_cannot_be_recorded_first_is_refused(site: Site) -> None:
    with pytest.raises(NotWritten):
        site.recorder.record_first(granting("one"))
    assert site.recorder.failures == 1
    site.repair()
    site.recorder.record_first(granting("two"))
    assert [record["session"]["id"] for record in records(site.path)] == ["two"]


def test_what_happened_meanwhile_is_recorded_later_in_its_order_and_with_its_time(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("one", "two"):
        happened(site.log, granted(name))
    with pytest.raises(NotWritten):
        site.recorder.settle()
    site.repair()
    site.now_s += 60
    site.recorder.settle()
    happened(site.log, granted("three"))
    told = [record.created for record in caplog.records if record.name == "spa.test"]
    assert [record["session"]["id"] for record in records(site.path) if "session" in record] == ["one", "two", "three"]
    assert records(site.path)[0]["@timestamp"].endswith(f"{int(told[0] * 1000) % 1000:03d}Z")


def test_what_waits_is_bounded_and_what_was_given_up_is_said(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    for number in range(MOST_WAITING + 7):
        happened(site.log, granted(str(number)))
    site.repair()
    site.recorder.settle()
    assert len(numbers(site.path)) == MOST_WAITING + 1, "and a checkpoint"
    assert "7 records were given up" in caplog.text


def test_a_fault_is_told_at_most_once_a_minute(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(5):
        happened(site.log, granted())
    assert caplog.text.count("cannot be recorded") == 1
    site.now_s += 60
    happened(site.log, granted())
    assert caplog.text.count("cannot be recorded") == 2


def verified(site: Site) -> Report:
    return check(trail_files.lines(site.path), keys=[public_key(SEED)])


def test_it_is_signed_at_once_after_a_minute_after_many_records_and_at_the_end_and_only_where_there_is_news(
    site: Site,
) -> None:
    site.repair()
    site.recorder.settle()
    assert not site.path.exists(), "there is nothing to sign"
    happened(site.log, granted())
    site.recorder.settle()
    assert actions(site) == ["granted", "checkpoint"]
    assert site.recorder.left_s() is None
    happened(site.log, granted())
    site.now_s += 20
    site.recorder.settle()
    assert actions(site)[2:] == ["granted"], "the minute is not over"
    assert site.recorder.left_s() == 40
    site.now_s += 40
    site.recorder.settle()
    assert actions(site)[3:] == ["checkpoint"]
    site.now_s += 60
    site.recorder.settle()
    assert len(actions(site)) == 4, "there is nothing new"
    for _ in range(SIGN_EVERY):
        happened(site.log, granted())
    site.recorder.settle()
    assert actions(site)[-2:] == ["granted", "checkpoint"]
    happened(site.log, granted())
    site.recorder.close()
    assert actions(site)[-2:] == ["granted", "checkpoint"]
    report = verified(site)
    assert (report.findings, report.signatures, report.signed_to) == ([], 4, len(actions(site)) - 1)


def test_where_the_trail_is_not_required_it_is_done_recorded_later_and_an_alarm_is_raised(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    site = Site(tmp_path, is_required=False)
    site.recorder.record_first(granting("one"))
    assert site.recorder.failures == 1
    assert "cannot be recorded for now" in caplog.text
    with pytest.raises(NotWritten):
        site.recorder.settle()
    site.repair()
    site.recorder.settle()
    assert records(site.path)[0]["session"]["id"] == "one"
    site.recorder.close()


def test_refusals_beyond_the_first_of_a_minute_become_one_record(site: Site) -> None:
    site.repair()
    refusal = Event(REFUSED, "refused alice-laptop", Outcome.FAILURE, reason="stale", device="alice-laptop")
    for _ in range(EACH + 50):
        happened(site.log, refusal)
    site.now_s += 60
    site.recorder.settle()
    *each, summed, _ = records(site.path)
    assert [record["event"]["action"] for record in each] == ["refused"] * EACH
    assert (summed["event"]["action"], summed["spa"]["count"]) == ("refusals-summed", 50)


def test_what_was_summed_is_recorded_at_the_end(site: Site) -> None:
    site.repair()
    refusal = Event(REFUSED, "refused alice-laptop", Outcome.FAILURE, reason="stale", device="alice-laptop")
    for _ in range(EACH + 1):
        happened(site.log, refusal)
    site.recorder.close()
    assert actions(site)[-2:] == ["refusals-summed", "checkpoint"]
