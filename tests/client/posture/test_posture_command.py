"""`spa-client posture`: what is told, how it was found, and why."""

from __future__ import annotations

import json

import pytest

from spa_client.commands import run
from spa_client.commands.posture import WHY
from spa_client.perimeter import Perimeter
from spa_client.posture.cache import Looked
from spa_client.posture.collecting import Collector
from spa_client.posture.findings import Finding, Findings, Number
from spa_client.posture.telling import Telling
from spa_client.storage import Store
from spa_protocol.posture import Fact


@pytest.fixture(autouse=True)
def found(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """What every look finds; the intervals that were asked for."""
    asked: list[int] = []
    findings = Findings(
        disk_encrypted=Finding(Fact.YES, "/sys/class/block/dm-0/dm/uuid"),
        screen_lock=Finding(Fact.UNKNOWN, "XDG_CURRENT_DESKTOP", "no desktop is known", "log in to one"),
        firewall=Finding(Fact.NO, "systemctl is-active"),
        uptime_s=Number(100, "/proc/uptime"),
    )

    def looked(self: Collector, telling: Telling, interval_s: int) -> Looked:
        asked.append(interval_s)
        return Looked(findings, 12)

    monkeypatch.setattr(Collector, "looked", looked)
    return asked


def test_each_fact_has_its_value_its_reason_and_its_source(
    office: Perimeter, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["posture", "office"]) == 0
    printed = capsys.readouterr().out
    rows = {line.split()[0]: line for line in printed.splitlines() if line and line.split()[0] in WHY}
    assert rows.keys() >= WHY.keys()
    assert rows["disk_encrypted"].split()[1] == "yes"
    assert rows["disk_encrypted"].endswith("/sys/class/block/dm-0/dm/uuid")
    assert "firewall        no " in printed
    assert "uptime_s        112 " in printed
    assert "patch_age_days  unknown " in printed
    assert all(why in printed for why in WHY.values())


def test_what_is_unknown_says_why_and_what_would_help(office: Perimeter, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["posture"]) == 0
    assert "screen_lock is unknown: no desktop is known; log in to one\n" in capsys.readouterr().out


def test_it_says_what_the_server_can_and_cannot_tell(office: Perimeter, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["posture", "office"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("office is told this of this device's health, as found by this client:\n")
    assert "Looked 12 s ago. The server can tell that this device says so, and not whether it is so." in printed


def test_scripts_read_the_same(office: Perimeter, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["posture", "office", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["perimeter"], said["send"], said["told"], said["source"], said["age_s"]) == (
        "office",
        "on",
        True,
        "client",
        12,
    )
    assert said["facts"].keys() == WHY.keys()
    assert said["facts"]["screen_lock"] == {
        "value": "unknown",
        "why": WHY["screen_lock"],
        "how": "XDG_CURRENT_DESKTOP",
        "unknown": "no desktop is known",
        "remedy": "log in to one",
    }
    assert (said["facts"]["uptime_s"]["value"], said["facts"]["patch_age_days"]["value"]) == (112, None)


def test_what_is_told_can_be_chosen(office: Perimeter, store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    for value in ("off", "osquery", "on"):
        assert run(["posture", "office", "--send", value]) == 0
        assert store.load("office").posture is Telling(value)
        capsys.readouterr()
        assert run(["show", "office", "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["posture"] == value


def test_off_says_that_nothing_is_told(office: Perimeter, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["posture", "office", "--send", "off"]) == 0
    assert "is told nothing of this device's health: posture is off" in capsys.readouterr().out
    assert run(["posture", "office", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["told"] is False


def test_fresh_looks_at_once(office: Perimeter, found: list[int]) -> None:
    assert run(["posture", "office", "--fresh"]) == 0
    assert found == [0]


def test_an_unknown_perimeter_or_choice_is_told_as_ever(office: Perimeter) -> None:
    assert run(["posture", "nowhere"]) == 5
    assert run(["posture", "office", "--send", "lies"]) == 2
