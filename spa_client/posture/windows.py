"""How Windows tells of its health without an administrator: the registry, and what Explorer paints the lock from.

It must not know how the registry is read (`windows_machine`), when it is looked, nor what becomes of the findings.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from spa_client.posture.findings import (
    Finding,
    Findings,
    Name,
    Number,
    days_since,
    system_name,
    uptime,
    yes_or_no,
)

BITLOCKER = "System.Volume.BitLockerProtection"
VERSION = r"HKLM\SOFTWARE\Microsoft\Windows NT\CurrentVersion"
PACKAGES = r"HKLM\SOFTWARE\Microsoft\Windows\CurrentVersion\Component Based Servicing\Packages"
DESKTOP_POLICY = r"HKCU\Software\Policies\Microsoft\Windows\Control Panel\Desktop"
DESKTOP = r"HKCU\Control Panel\Desktop"
INACTIVITY = r"HKLM\SOFTWARE\Microsoft\Windows\CurrentVersion\Policies\System"
FIREWALL = r"HKLM\SYSTEM\CurrentControlSet\Services\SharedAccess\Parameters\FirewallPolicy"
FIREWALL_POLICY = r"HKLM\SOFTWARE\Policies\Microsoft\WindowsFirewall"
PROFILES = (("DomainProfile", "DomainProfile"), ("StandardProfile", "PrivateProfile"), ("PublicProfile",) * 2)
"""Each profile's name where it is set, and in a policy."""
SECURE_BOOT = r"HKLM\SYSTEM\CurrentControlSet\Control\SecureBoot\State"


class Machine(Protocol):
    """What is asked of Windows. Each answer is None where there is none; nothing is raised."""

    def value(self, key: str, name: str) -> int | str | None:
        """A value of the registry."""

    def changed_s(self, key: str) -> float | None:
        """When a key of the registry last changed, by the wall clock."""

    def system_drive_property(self, name: str) -> int | None:
        """A number that the shell knows of the drive with Windows on it."""

    def uptime_ms(self) -> int | None:
        """Since Windows was started."""


def look(machine: Machine, now_s: float) -> Findings:
    """What Windows tells. `now_s`: the wall clock. Raises nothing."""
    uptime_ms = machine.uptime_ms()
    return Findings(
        disk_encrypted=_bitlocker(machine.system_drive_property(BITLOCKER)),
        screen_lock=_lock(machine),
        firewall=_firewall(machine),
        secure_boot=_secure_boot(machine),
        patch_age_days=_patch_age(machine, now_s),
        uptime_s=uptime(None if uptime_ms is None else uptime_ms / 1000, "GetTickCount64"),
        system=_system(machine),
    )


def _bitlocker(value: int | None) -> Finding:
    # 3 to 6: being encrypted or decrypted, suspended, locked; 0 where it cannot be encrypted.
    state = {1: True, 2: False}.get(value) if value is not None else None
    why = (
        "the shell does not know it" if value is None else f"it is neither on nor off ({value}: suspended or under way)"
    )
    return yes_or_no(state, f"shell property {BITLOCKER}", why, "finish encrypting, and resume BitLocker")


def _switch(value: int | str | None) -> bool | None:
    """A setting that is 0 or 1, as a number or as text."""
    if isinstance(value, str):
        return {"0": False, "1": True}.get(value.strip())
    return {0: False, 1: True}.get(value) if value is not None else None


def _lock(machine: Machine) -> Finding:
    limit = machine.value(INACTIVITY, "InactivityTimeoutSecs")
    if isinstance(limit, int) and limit > 0:
        return yes_or_no(True, rf"{INACTIVITY}\InactivityTimeoutSecs", "")
    active, secure = (
        _first(_switch(machine.value(key, name)) for key in (DESKTOP_POLICY, DESKTOP))
        for name in ("ScreenSaveActive", "ScreenSaverIsSecure")
    )
    state = False if False in (active, secure) else True if active and secure else None
    remedy = "choose a screen saver that shows the logon screen on resume"
    return yes_or_no(state, rf"{DESKTOP}\ScreenSaverIsSecure", "no screen saver is set", remedy)


def _first(states: Iterable[bool | None]) -> bool | None:
    """The first that is known: a policy stands before the user's own choice."""
    return next((state for state in states if state is not None), None)


def _firewall(machine: Machine) -> Finding:
    states = [
        _first(
            _switch(machine.value(rf"{folder}\{profile}", "EnableFirewall"))
            for folder, profile in ((FIREWALL_POLICY, in_policy), (FIREWALL, own))
        )
        for own, in_policy in PROFILES
    ]
    state = False if False in states else None if None in states else True
    return yes_or_no(state, rf"{FIREWALL}\*Profile\EnableFirewall", "not every profile says whether it is on")


def _secure_boot(machine: Machine) -> Finding:
    state = _switch(machine.value(SECURE_BOOT, "UEFISecureBootEnabled"))
    return yes_or_no(state, rf"{SECURE_BOOT}\UEFISecureBootEnabled", "the computer was not started by UEFI")


def _patch_age(machine: Machine, now_s: float) -> Number:
    return days_since(machine.changed_s(PACKAGES), now_s, f"time of {PACKAGES}", "the registry does not say")


def _system(machine: Machine) -> Name:
    major = machine.value(VERSION, "CurrentMajorVersionNumber")
    minor = machine.value(VERSION, "CurrentMinorVersionNumber")
    build = machine.value(VERSION, "CurrentBuild")
    how = rf"{VERSION}\CurrentBuild, UBR"
    if not build:
        return Name("", how, "the registry does not say")
    parts = (major, minor, build, machine.value(VERSION, "UBR"))
    return system_name("Windows", ".".join(str(part) for part in parts if part is not None), how)
