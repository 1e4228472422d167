"""How Linux tells of its health without root: files that everybody may read, `systemctl` and `gsettings`.

It must not know when it is looked, nor what becomes of the findings.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
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
from spa_client.posture.linux_disk import disk_encrypted
from spa_client.posture.programs import Command, Ran, Runner
from spa_client.posture.tree import changed_s, content, is_there, text

UNITS = ("nftables", "ufw", "firewalld")
SYSTEMCTL: Command = ("systemctl", "is-active", *UNITS)
_STATES = {"active", "reloading", "inactive", "failed", "activating", "deactivating", "maintenance", "unknown"}
SECURE_BOOT = "sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"
PACKAGES = (
    "var/lib/dpkg/status",
    "usr/lib/sysimage/rpm/rpmdb.sqlite",
    "var/lib/rpm/rpmdb.sqlite",
    "var/lib/rpm/Packages.db",
    "var/lib/rpm/Packages",
    "var/lib/pacman/local",
    "lib/apk/db/installed",
)
"""What a package manager writes when it changes the system; that of a manager that is only installed is old."""
_KDE = ".config/kscreenlockerrc"
_SETTING = re.compile(r"([A-Z_]+)=(.*)\Z")
_UPTIME = re.compile(r"(\d{1,12})(\.\d+)? ")
_IDLE = re.compile(r"uint32 (\d{1,10})\Z")


def look(root: Path, run: Runner, environment: Mapping[str, str], now_s: float) -> Findings:
    """What the system at `root` tells. `environment`: the user's variables. `now_s`: the wall clock. Raises nothing."""
    schema = _schema(environment)
    asked: list[Command] = [*_lock_commands(schema), SYSTEMCTL]
    *lock, units = run(tuple(asked))
    return Findings(
        disk_encrypted=disk_encrypted(root),
        screen_lock=_screen_lock(root, environment, schema, lock),
        firewall=_firewall(root, units),
        secure_boot=_secure_boot(root),
        patch_age_days=_patch_age(root, now_s),
        uptime_s=_uptime(root),
        system=_system(root),
    )


def _desktops(environment: Mapping[str, str]) -> set[str]:
    return set(environment.get("XDG_CURRENT_DESKTOP", "").lower().split(":"))


def _schema(environment: Mapping[str, str]) -> str:
    """Where the desktop in use keeps its lock. gsettings also answers for those that are only installed."""
    desktops = _desktops(environment)
    if desktops & {"gnome", "gnome-classic", "unity", "budgie", "pantheon"}:
        return "org.gnome.desktop"
    return "org.cinnamon.desktop" if "x-cinnamon" in desktops else ""


def _lock_commands(schema: str) -> tuple[Command, ...]:
    if not schema:
        return ()
    return (
        ("gsettings", "get", f"{schema}.screensaver", "lock-enabled"),
        ("gsettings", "get", f"{schema}.session", "idle-delay"),
    )


def _screen_lock(root: Path, environment: Mapping[str, str], schema: str, ran: list[Ran]) -> Finding:
    if schema:
        how = "; ".join(" ".join(command) for command in _lock_commands(schema))
        fault = next((each.fault for each in ran if each.fault), "gsettings does not say")
        enabled, delay = (each.text.strip() if each.code == 0 else "" for each in ran)
        idle = _IDLE.match(delay)
        if enabled == "false" or (idle is not None and int(idle[1]) == 0):
            return yes_or_no(False, how, "")
        return yes_or_no(True if enabled == "true" and idle is not None else None, how, fault)
    if "kde" in _desktops(environment):
        how = f"~/{_KDE}"
        home = environment.get("HOME", "").lstrip("/")
        said = _ini_value(text(root / home / _KDE) or "", "Daemon", "Autolock") if home else None
        state = {"true": True, "false": False}.get((said or "").lower())
        return yes_or_no(state, how, "it does not say", "choose in System Settings, Screen Locking, after how long")
    return yes_or_no(
        None,
        "XDG_CURRENT_DESKTOP",
        "the desktop is none whose lock can be read (GNOME, Budgie, Cinnamon, KDE), or this is no session of it",
        "run spa-client in the desktop's session",
    )


def _ini_value(ini: str, wanted: str, key: str) -> str | None:
    section, found = "", None
    for line in map(str.strip, ini.splitlines()):
        if line.startswith("["):
            section = line.strip("[]")
        elif section == wanted and line.partition("=")[0].strip() == key:
            found = line.partition("=")[2].strip()
    return found


def _firewall(root: Path, units: Ran) -> Finding:
    how = " ".join(SYSTEMCTL)
    states = units.text.split()
    if units.fault or len(states) != len(UNITS) or not set(states) <= _STATES:
        why = units.fault or "systemd does not say which firewall is active"
        return yes_or_no(None, how, why, "run nftables, ufw or firewalld as a unit of systemd")
    active = {unit for unit, state in zip(UNITS, states, strict=True) if state in ("active", "reloading")}
    if active - {"ufw"}:
        return yes_or_no(True, how, "")
    if "ufw" not in active:
        return yes_or_no(False, how, "")
    # Its unit is active also where ufw is switched off.
    how = f"{how}; /etc/ufw/ufw.conf"
    enabled = _settings(text(root / "etc/ufw/ufw.conf") or "").get("ENABLED", "").lower()
    return yes_or_no({"yes": True, "no": False}.get(enabled), how, "ufw.conf does not say whether ufw is enabled")


def _settings(content_text: str) -> dict[str, str]:
    """KEY=VALUE lines as a shell reads them (os-release(5)), of which the last one counts."""
    found: dict[str, str] = {}
    for line in content_text.splitlines():
        if setting := _SETTING.match(line.strip()):
            value = setting[2].strip()
            found[setting[1]] = (
                value[1:-1] if len(value) >= 2 and value[0] == value[-1] and value[0] in "\"'" else value
            )
    return found


def _secure_boot(root: Path) -> Finding:
    how = f"/{SECURE_BOOT}"
    value = content(root / SECURE_BOOT, 16)
    if value is None:
        return yes_or_no(None, how, "the computer was not started by UEFI, or a container hides it")
    # Four bytes of attributes, and one that says it (UEFI 2.10, 3.3).
    state = {b"\0": False, b"\1": True}.get(value[4:]) if len(value) == 5 else None
    return yes_or_no(state, how, "that is not what UEFI writes there")


def _patch_age(root: Path, now_s: float) -> Number:
    times = [(when_s, path) for path in PACKAGES if (when_s := changed_s(root / path)) is not None]
    newest_s, path = max(times, default=(None, "var/lib/dpkg/status"))
    return days_since(newest_s, now_s, f"time of /{path}", "no package manager's files are here")


def _uptime(root: Path) -> Number:
    said = _UPTIME.match(text(root / "proc/uptime") or "")
    return uptime(float(said[1]) if said else None, "/proc/uptime")


def _system(root: Path) -> Name:
    paths = ("etc/os-release", "usr/lib/os-release")
    path = next((path for path in paths if is_there(root / path)), paths[0])
    said = _settings(text(root / path) or "")
    if not said.get("ID"):
        return Name("", f"/{path}", "it names no system")
    return system_name(said["ID"], said.get("VERSION_ID", ""), f"/{path}")
