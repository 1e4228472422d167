"""What is made of what macOS prints, and of anything else that might stand there."""

from __future__ import annotations

import plistlib
from datetime import datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spa_client.posture.findings import Findings
from spa_client.posture.macos import (
    BOOT_TIME,
    COMMANDS,
    FILEVAULT,
    FIREWALL,
    HISTORY,
    LOCK,
    SECURE_BOOT,
    VERSION,
    look,
)
from spa_client.posture.programs import Command, Ran
from spa_protocol.posture import Fact, Posture
from tests.client.posture.fake_linux import FakeLinux, answering

NOW_S = 1_713_000_000.0
VARIABLE = "94b73556-2197-4702-82a8-3e1337dafbfb:AppleSecureBootPolicy"
HEALTHY = {
    FILEVAULT: Ran(0, "FileVault is On.\n"),
    VERSION: Ran(0, "ProductName:\t\tmacOS\nProductVersion:\t\t14.4.1\nBuildVersion:\t\t23E224\n"),
    LOCK: Ran(0, "2024-04-13 10:20:00.123 sysadminctl[4242:90210] screenLock delay is immediate\n"),
    FIREWALL: Ran(0, "Firewall is enabled. (State = 1) \n"),
    SECURE_BOOT: Ran(0, f"{VARIABLE}\t%02\n"),
    BOOT_TIME: Ran(0, "{ sec = 1712913600, usec = 262133 } Fri Apr 12 11:20:00 2024\n"),
}


def told(root: Path = Path("/nowhere"), **replaced: Ran) -> Findings:
    return look(root, answering(HEALTHY | {globals()[name]: ran for name, ran in replaced.items()}), NOW_S)


def test_a_healthy_mac_says_so(tmp_path: Path) -> None:
    entries = [
        {
            "date": datetime(2024, 4, 3, 12, 0, 0),
            "displayName": "macOS Sonoma 14.4.1",
            "processName": "softwareupdated",
        },
        {"date": datetime(2024, 4, 12, 12, 0, 0), "displayName": "XProtectPlistConfigData"},
        {"date": datetime(2023, 10, 1, 12, 0, 0), "displayName": "macOS 14.0"},
    ]
    FakeLinux(tmp_path).file(HISTORY, plistlib.dumps(entries))
    assert told(tmp_path).posture() == Posture(
        disk_encrypted=Fact.YES,
        screen_lock=Fact.YES,
        firewall=Fact.YES,
        secure_boot=Fact.YES,
        patch_age_days=9,
        uptime_s=86_400,
        system="macOS 14.4.1",
    )


@pytest.mark.parametrize(
    ("text", "code", "expected"),
    [
        ("FileVault is On.\n", 0, Fact.YES),
        ("FileVault is Off.\n", 0, Fact.NO),
        ("FileVault is Off.\n", 1, Fact.NO),
        ("FileVault is Off.\nDeferred enablement appears to be active for user 'alice'.\n", 0, Fact.NO),
        ("FileVault is On.\nDecryption in progress: Percent completed = 3\n", 0, Fact.UNKNOWN),
        ("FileVault is On.\nEncryption in progress: Percent completed = 42.5\n", 0, Fact.UNKNOWN),
        ("FileVault is Off, but will be enabled after the next restart.\n", 0, Fact.UNKNOWN),
        ("Error: FileVault is On.\n", 0, Fact.UNKNOWN),
        ("", 0, Fact.UNKNOWN),
    ],
)
def test_filevault_is_on_where_it_is_on_and_nothing_else(text: str, code: int, expected: Fact) -> None:
    assert told(FILEVAULT=Ran(code, text)).disk_encrypted.fact is expected


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("screenLock delay is immediate", Fact.YES),
        ("screenLock delay is 300 seconds", Fact.YES),
        ("screenLock delay is 5.000000 seconds", Fact.YES),
        ("screenLock is off", Fact.NO),
        ("screenLock delay is -1 seconds", Fact.NO),
        ("screenLock delay is -1.000000 seconds", Fact.NO),
        ("Error: no user is logged in", Fact.UNKNOWN),
    ],
)
def test_the_lock_is_on_with_any_delay(said: str, expected: Fact) -> None:
    assert told(LOCK=Ran(0, f"2024-04-13 10:20:00.123 sysadminctl[4242:90210] {said}\n")).screen_lock.fact is expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Firewall is enabled. (State = 1)\n", Fact.YES),
        ("Firewall is blocking all non-essential incoming connections. (State = 2)\n", Fact.YES),
        ("Firewall is disabled. (State = 0)\n", Fact.NO),
        ("Firewall is enabled.\n", Fact.UNKNOWN),
    ],
)
def test_the_firewall_says_its_state(text: str, expected: Fact) -> None:
    assert told(FIREWALL=Ran(0, text)).firewall.fact is expected


@pytest.mark.parametrize(("value", "expected"), [("%02", Fact.YES), ("%01", Fact.YES), ("%00", Fact.NO)])
def test_an_intel_mac_says_how_it_starts(value: str, expected: Fact) -> None:
    assert told(SECURE_BOOT=Ran(0, f"{VARIABLE}\t{value}\n")).secure_boot.fact is expected


def test_a_mac_with_apple_silicon_does_not_say_how_it_starts() -> None:
    error = f"nvram: Error getting variable - '{VARIABLE}': (iokit/common) data was not found\n"
    found = told(SECURE_BOOT=Ran(1, error)).secure_boot
    assert found.fact is Fact.UNKNOWN
    assert "Apple silicon" in found.unknown


@pytest.mark.parametrize(
    "history", [b"", b"junk", b"bplist00", plistlib.dumps({"a": 1}), plistlib.dumps([1, "a"]), b"<plist>" * 10_000]
)
def test_a_damaged_list_of_installations_is_no_list(history: bytes, tmp_path: Path) -> None:
    FakeLinux(tmp_path).file(HISTORY, history)
    assert told(tmp_path).patch_age_days.value is None


def test_what_does_not_end_is_unknown_with_its_reason() -> None:
    late: dict[Command, Ran] = {each: Ran(None, fault=f"{each[0]} did not finish within 1 s") for each in COMMANDS}
    found = look(Path("/nowhere"), answering(late), NOW_S)
    assert found.disk_encrypted.unknown == "/usr/bin/fdesetup did not finish within 1 s"
    facts = {found.disk_encrypted.fact, found.screen_lock.fact, found.firewall.fact, found.secure_boot.fact}
    assert facts == {Fact.UNKNOWN}
    assert (found.uptime_s.value, found.system.value) == (None, "")


@given(text=st.text(max_size=200), code=st.sampled_from([0, 1, None]))
def test_nothing_printed_breaks_it_or_is_taken_for_health(text: str, code: int | None) -> None:
    findings = look(Path("/nowhere"), answering({each: Ran(code, text) for each in COMMANDS}), NOW_S)
    posture = findings.posture()
    # Hypothesis knows the sentences that stand in the code, and tries them.
    assert posture.disk_encrypted is not Fact.YES or text.strip().startswith("FileVault is On.")
    assert posture.screen_lock is not Fact.YES or "screenLock delay is" in text
    assert posture.firewall is not Fact.YES or "(State = " in text
    assert posture.secure_boot is not Fact.YES or "AppleSecureBootPolicy" in text
