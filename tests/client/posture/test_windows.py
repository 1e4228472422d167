"""What is made of what Windows says of itself."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spa_client.posture import windows
from spa_client.posture.windows import look
from spa_client.posture.windows_machine import ThisMachine
from spa_protocol.posture import Fact, Posture

NOW_S = 1_713_000_000.0
HEALTHY: dict[str, int | str] = {
    rf"{windows.VERSION}\CurrentMajorVersionNumber": 10,
    rf"{windows.VERSION}\CurrentMinorVersionNumber": 0,
    rf"{windows.VERSION}\CurrentBuild": "22631",
    rf"{windows.VERSION}\UBR": 3447,
    rf"{windows.DESKTOP}\ScreenSaveActive": "1",
    rf"{windows.DESKTOP}\ScreenSaverIsSecure": "1",
    rf"{windows.FIREWALL}\DomainProfile\EnableFirewall": 1,
    rf"{windows.FIREWALL}\StandardProfile\EnableFirewall": 1,
    rf"{windows.FIREWALL}\PublicProfile\EnableFirewall": 1,
    rf"{windows.SECURE_BOOT}\UEFISecureBootEnabled": 1,
}


@dataclass
class FakeMachine:
    values: dict[str, int | str] = field(default_factory=lambda: dict(HEALTHY))
    bitlocker: int | None = 1
    installed_s: float | None = NOW_S - 3.5 * 86_400
    up_ms: int | None = 7_200_500

    def value(self, key: str, name: str) -> int | str | None:
        return self.values.get(rf"{key}\{name}")

    def changed_s(self, key: str) -> float | None:
        return self.installed_s if key == windows.PACKAGES else None

    def system_drive_property(self, name: str) -> int | None:
        return self.bitlocker if name == "System.Volume.BitLockerProtection" else None

    def uptime_ms(self) -> int | None:
        return self.up_ms


def test_a_healthy_windows_says_so() -> None:
    assert look(FakeMachine(), NOW_S).posture() == Posture(
        disk_encrypted=Fact.YES,
        screen_lock=Fact.YES,
        firewall=Fact.YES,
        secure_boot=Fact.YES,
        patch_age_days=3,
        uptime_s=7200,
        system="Windows 10.0.22631.3447",
    )


def test_a_windows_that_says_nothing_is_unknown_in_everything() -> None:
    posture = look(FakeMachine({}, None, None, None), NOW_S).posture()
    assert posture == Posture()


@pytest.mark.parametrize(
    ("value", "expected"),
    [(1, Fact.YES), (2, Fact.NO), *((value, Fact.UNKNOWN) for value in (None, 0, 3, 4, 5, 6, -1))],
)
def test_bitlocker_is_on_or_off_and_everything_between_is_unknown(value: int | None, expected: Fact) -> None:
    assert look(FakeMachine(bitlocker=value), NOW_S).disk_encrypted.fact is expected


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({rf"{windows.DESKTOP}\ScreenSaverIsSecure": "0"}, Fact.NO),
        ({rf"{windows.DESKTOP}\ScreenSaveActive": "0"}, Fact.NO),
        ({rf"{windows.DESKTOP}\ScreenSaverIsSecure": "yes"}, Fact.UNKNOWN),
        ({rf"{windows.DESKTOP_POLICY}\ScreenSaverIsSecure": "0"}, Fact.NO),
        (
            {
                rf"{windows.DESKTOP}\ScreenSaverIsSecure": "0",
                rf"{windows.DESKTOP_POLICY}\ScreenSaverIsSecure": "1",
            },
            Fact.YES,
        ),
        ({rf"{windows.DESKTOP}\ScreenSaveActive": "0", rf"{windows.INACTIVITY}\InactivityTimeoutSecs": 900}, Fact.YES),
        ({rf"{windows.DESKTOP}\ScreenSaveActive": "0", rf"{windows.INACTIVITY}\InactivityTimeoutSecs": 0}, Fact.NO),
    ],
)
def test_a_policy_for_the_lock_stands_before_the_users_choice(changed: dict[str, int | str], expected: Fact) -> None:
    assert look(FakeMachine(HEALTHY | changed), NOW_S).screen_lock.fact is expected


@pytest.mark.parametrize("profile", ["DomainProfile", "StandardProfile", "PublicProfile"])
def test_the_firewall_is_on_in_every_profile_or_it_is_not(profile: str) -> None:
    key = rf"{windows.FIREWALL}\{profile}\EnableFirewall"
    off: dict[str, int | str] = {key: 0}
    assert look(FakeMachine(HEALTHY | off), NOW_S).firewall.fact is Fact.NO
    missing = {each: value for each, value in HEALTHY.items() if each != key}
    assert look(FakeMachine(missing), NOW_S).firewall.fact is Fact.UNKNOWN


def test_a_policy_that_switches_a_profile_off_counts() -> None:
    policy: dict[str, int | str] = {rf"{windows.FIREWALL_POLICY}\PrivateProfile\EnableFirewall": 0}
    assert look(FakeMachine(HEALTHY | policy), NOW_S).firewall.fact is Fact.NO


values = st.one_of(st.integers(-(2**31), 2**31), st.text(max_size=30))


@given(
    registry=st.fixed_dictionaries({}, optional=dict.fromkeys(HEALTHY, values)),
    bitlocker=st.none() | st.integers(-(2**31), 2**31),
    installed_s=st.none() | st.floats(allow_nan=False, min_value=-1e12, max_value=1e12),
    up_ms=st.none() | st.integers(0, 2**64),
)
def test_nothing_that_windows_says_breaks_it(
    registry: dict[str, int | str], bitlocker: int | None, installed_s: float | None, up_ms: int | None
) -> None:
    posture = look(FakeMachine(registry, bitlocker, installed_s, up_ms), NOW_S).posture()
    assert (posture.disk_encrypted is Fact.YES) is (bitlocker == 1)
    boot = registry.get(rf"{windows.SECURE_BOOT}\UEFISecureBootEnabled")
    assert posture.secure_boot is not Fact.YES or str(boot).strip() == "1"


@pytest.mark.skipif(sys.platform == "win32", reason="there it has something to say")
def test_elsewhere_this_machine_is_no_windows() -> None:
    assert look(ThisMachine(), NOW_S).posture() == Posture()
