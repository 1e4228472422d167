"""When a new look is taken, and what is told of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from spa_client.posture.collecting import HELD_INTERVAL_S, INTERVAL_S, Collector, look
from spa_client.posture.findings import Finding, Findings, Number
from spa_client.posture.last import Moment
from spa_client.posture.telling import Telling
from spa_protocol.knock import Knock
from spa_protocol.posture import Fact, PostureSource


@dataclass
class Device:
    """A device that gets no better, its clocks, and how often it was looked at."""

    path: Path | None
    now: Moment = field(default_factory=lambda: Moment(50.0, 1_800_000_000.0))
    encrypted: Fact = Fact.YES
    took_s: float = 0.0
    looks: list[Telling] = field(default_factory=list)

    def look(self, telling: Telling) -> Findings:
        self.looks.append(telling)
        self.pass_by(self.took_s)
        source = PostureSource.OSQUERY if telling is Telling.OSQUERY else PostureSource.CLIENT
        return Findings(source, Finding(self.encrypted, "/sys"), uptime_s=Number(int(self.now.elapsed_s), "/proc"))

    def pass_by(self, seconds: float) -> None:
        self.now = Moment(self.now.elapsed_s + seconds, self.now.wall_s + seconds)

    @property
    def collector(self) -> Collector:
        """As another process has it."""
        return Collector(self.path, self.look, lambda: self.now)


@pytest.fixture
def device(tmp_path: Path) -> Device:
    return Device(tmp_path / "posture")


def test_a_look_serves_for_its_interval_and_its_age_is_told(device: Device) -> None:
    assert device.collector.posture(Telling.ON)
    device.pass_by(INTERVAL_S - 1)
    device.encrypted = Fact.NO
    told = device.collector.posture(Telling.ON)
    assert told is not None
    assert (told.age_s, told.disk_encrypted, len(device.looks)) == (INTERVAL_S - 1, Fact.YES, 1)
    assert told.uptime_s == int(device.now.elapsed_s)


def test_a_look_that_is_too_old_is_taken_anew(device: Device) -> None:
    device.collector.posture(Telling.ON)
    device.pass_by(INTERVAL_S)
    device.encrypted = Fact.NO
    told = device.collector.posture(Telling.ON)
    assert told is not None
    assert (told.age_s, told.disk_encrypted, len(device.looks)) == (0, Fact.NO, 2)


def test_a_lease_that_is_held_is_told_of_sooner(device: Device) -> None:
    device.collector.posture(Telling.ON)
    device.pass_by(HELD_INTERVAL_S)
    device.encrypted = Fact.NO
    told = device.collector.posture(Telling.ON, HELD_INTERVAL_S)
    assert told is not None
    assert told.disk_encrypted is Fact.NO


def test_the_age_of_a_new_look_is_the_time_it_took(device: Device) -> None:
    device.took_s = 2.5
    told = device.collector.posture(Telling.ON)
    assert told is not None
    assert told.age_s == 2


def test_a_clock_that_is_set_is_no_reason_to_tell_old_facts(device: Device) -> None:
    device.collector.posture(Telling.ON)
    device.now = Moment(device.now.elapsed_s + 10_000, device.now.wall_s - 100)
    device.collector.posture(Telling.ON)
    assert len(device.looks) == 2


def test_osquerys_facts_and_the_clients_own_are_kept_apart(device: Device) -> None:
    for telling, source in ((Telling.ON, PostureSource.CLIENT), (Telling.OSQUERY, PostureSource.OSQUERY)) * 2:
        told = device.collector.posture(telling)
        assert told is not None
        assert told.source is source
    assert device.looks == [Telling.ON, Telling.OSQUERY]


def test_off_neither_looks_nor_tells(device: Device) -> None:
    assert device.collector.posture(Telling.OFF) is None
    assert not device.looks


def test_without_a_place_to_keep_it_nothing_is_told(device: Device) -> None:
    device.path = None
    assert device.collector.posture(Telling.ON) is None
    assert not device.looks


def test_where_it_cannot_be_kept_it_is_looked_every_time(device: Device, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    device.path = tmp_path / "file" / "posture"
    assert device.collector.posture(Telling.ON)
    assert device.collector.posture(Telling.ON)
    assert len(device.looks) == 2


def test_this_very_computer_can_be_looked_at() -> None:
    found = look(Telling.ON)
    assert found.source is PostureSource.CLIENT
    assert Knock(0, posture=found.posture()).body()


def test_a_system_that_nobody_knows_is_named_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("spa_client.posture.collecting.sys.platform", "plan9")
    posture = look(Telling.ON).posture()
    assert (posture.system, posture.disk_encrypted, posture.uptime_s) == ("plan9", Fact.UNKNOWN, None)
