"""How macOS tells of its health without root: its own commands, and the list of what was installed.

What the commands print was read in their manual pages and in others' records of it. It must not know when it is looked,
nor what becomes of the findings.
"""

from __future__ import annotations

import re
from pathlib import Path

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
from spa_client.posture.programs import Command, Ran, Runner
from spa_client.posture.tree import content

FILEVAULT: Command = ("/usr/bin/fdesetup", "status")
VERSION: Command = ("/usr/bin/sw_vers",)
LOCK: Command = ("/usr/sbin/sysadminctl", "-screenLock", "status")
FIREWALL: Command = ("/usr/libexec/ApplicationFirewall/socketfilterfw", "--getglobalstate")
SECURE_BOOT: Command = ("/usr/sbin/nvram", "94b73556-2197-4702-82a8-3e1337dafbfb:AppleSecureBootPolicy")
BOOT_TIME: Command = ("/usr/sbin/sysctl", "-n", "kern.boottime")
COMMANDS = (FILEVAULT, VERSION, LOCK, FIREWALL, SECURE_BOOT, BOOT_TIME)
HISTORY = "Library/Receipts/InstallHistory.plist"
_MAX_HISTORY = 8 * 1024 * 1024


def look(root: Path, run: Runner, now_s: float) -> Findings:
    """What the system tells; its files are under `root`. `now_s`: the wall clock. Raises nothing."""
    filevault, version, lock, firewall, secure_boot, boot_time = run(COMMANDS)
    return Findings(
        disk_encrypted=_filevault(filevault),
        screen_lock=_lock(lock),
        firewall=_firewall(firewall),
        secure_boot=_secure_boot(secure_boot),
        patch_age_days=_patch_age(root, now_s),
        uptime_s=_uptime(boot_time, now_s),
        system=_system(version),
    )


def _told(ran: Ran) -> str:
    """What a program that ended well printed."""
    return ran.text if ran.code == 0 else ""


def _unknown(ran: Ran, command: Command) -> str:
    return ran.fault or f"{command[0]} does not say"


def _filevault(ran: Ran) -> Finding:
    lines = [line.strip() for line in ran.text.splitlines() if line.strip()]
    # It ends with 1 where FileVault is off.
    state = {"FileVault is On.": True, "FileVault is Off.": False}.get(lines[0]) if lines and not ran.fault else None
    if state and any("in progress" in line or "restart" in line for line in lines):
        return yes_or_no(None, " ".join(FILEVAULT), "the disk is being encrypted or decrypted", "let it finish")
    return yes_or_no(state, " ".join(FILEVAULT), _unknown(ran, FILEVAULT))


def _lock(ran: Ran) -> Finding:
    said = re.search(
        r"\bscreenLock (is off|delay is (immediate|(-?\d{1,9})(\.\d+)? seconds?))\s*\Z", _told(ran).rstrip()
    )
    state = None
    if said is not None:
        state = said[1] != "is off" and not (said[3] or "").startswith("-")
    return yes_or_no(state, " ".join(LOCK), _unknown(ran, LOCK))


def _firewall(ran: Ran) -> Finding:
    said = re.search(r"\(State = ([012])\)\s*\Z", _told(ran).strip())
    return yes_or_no(said[1] != "0" if said else None, " ".join(FIREWALL), _unknown(ran, FIREWALL))


def _secure_boot(ran: Ran) -> Finding:
    said = re.search(r"AppleSecureBootPolicy\s+%0([012])\Z", _told(ran).strip())
    # Medium security starts what Apple once signed, withdrawn or not; "none" starts anything.
    state = {"2": True, "1": True, "0": False}[said[1]] if said else None
    return yes_or_no(state, " ".join(SECURE_BOOT), "a Mac with Apple silicon does not say so without root")


def _patch_age(root: Path, now_s: float) -> Number:
    return days_since(_installed_s(root), now_s, f"/{HISTORY}", "no installation of macOS is listed")


def _installed_s(root: Path) -> float | None:
    """When macOS itself was last installed or updated; not what Apple updates every few days beside it."""
    listed = content(root / HISTORY, _MAX_HISTORY)
    if listed is None:
        return None
    import plistlib
    from datetime import UTC, datetime

    try:
        entries = plistlib.loads(listed)
        times = [
            entry["date"].replace(tzinfo=UTC).timestamp()
            for entry in entries
            if str(entry.get("displayName", "")).startswith("macOS") and isinstance(entry.get("date"), datetime)
        ]
    except Exception:
        # plistlib raises whatever its parsers do: it is a file that anything may have written.
        return None
    return max(times, default=None)


def _uptime(ran: Ran, now_s: float) -> Number:
    said = re.match(r"\{ sec = (\d{1,12}),", _told(ran).strip())
    return uptime(now_s - int(said[1]) if said else None, " ".join(BOOT_TIME))


def _system(ran: Ran) -> Name:
    said = dict(re.findall(r"(?m)^(\w+):\s*(.*?)\s*$", _told(ran)))
    name = said.get("ProductName", "")
    if not name:
        return Name("", " ".join(VERSION), _unknown(ran, VERSION))
    return system_name(name, said.get("ProductVersion", ""), " ".join(VERSION))
