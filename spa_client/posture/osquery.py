"""Asking an osquery that is installed on this device: one call, and only what its tables tell without root.

It must not know when it is asked, nor what becomes of the findings. What osquery does not tell stays unknown: its
posture is trusted as osquery's, so nothing of another source is mixed in.
"""

from __future__ import annotations

import json

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
from spa_protocol.posture import PostureSource

TIMEOUT_S = 3.0
"""It takes longer to start than other programs."""

_EVERYWHERE = (
    "SELECT 'name' AS fact, name AS value FROM os_version",
    "SELECT 'version', version FROM os_version",
    "SELECT 'uptime', CAST(total_seconds AS TEXT) FROM uptime",
)
_MOUNTED = "FROM mounts m JOIN disk_encryption d ON d.name = m.device WHERE m.path = '/'"
_OF_SYSTEM = {
    "linux": (
        f"SELECT 'disk', CAST(d.encrypted AS TEXT) {_MOUNTED}",
        "SELECT 'boot', CAST(secure_boot AS TEXT) FROM secureboot",
        "SELECT 'installed', CAST(MAX(install_time) AS TEXT) FROM rpm_packages",
    ),
    "darwin": (
        f"SELECT 'disk', CAST(d.encrypted AS TEXT) {_MOUNTED}",
        "SELECT 'boot', CAST(secure_boot AS TEXT) FROM secureboot",
        "SELECT 'firewall', CAST(global_state AS TEXT) FROM alf",
        "SELECT 'lock', CAST(enabled AS TEXT) FROM screenlock",
    ),
    "win32": (
        "SELECT 'boot', CAST(secure_boot AS TEXT) FROM secureboot",
        "SELECT 'firewall', CASE firewall WHEN 'Good' THEN '1' ELSE '0' END FROM windows_security_center",
        "SELECT 'disk', CAST(protection_status AS TEXT) FROM bitlocker_info WHERE drive_letter = 'C:'",
    ),
}
_FIREWALL = {"darwin": "alf", "win32": "windows_security_center"}
_HOW = "osqueryi: table "


def command(platform: str) -> Command:
    """What is run on a system of that name (`sys.platform`)."""
    queries = (*_EVERYWHERE, *_OF_SYSTEM.get(platform, ()))
    return ("osqueryi", "--json", " UNION ALL ".join(queries) + ";")


def look(run: Runner, platform: str, now_s: float) -> Findings:
    """What osquery tells. `now_s`: the wall clock. Raises nothing."""
    (ran,) = run((command(platform),))
    said, why = _rows(ran)
    name, uptime_s = said.get("name", ""), _number(said.get("uptime"))
    return Findings(
        PostureSource.OSQUERY,
        disk_encrypted=_switch(said, "disk", "disk_encryption", why),
        screen_lock=_switch(said, "lock", "screenlock", why),
        firewall=_switch(said, "firewall", _FIREWALL.get(platform, "iptables, for root"), why),
        secure_boot=_switch(said, "boot", "secureboot", why),
        patch_age_days=_patch_age(_number(said.get("installed")), now_s, why),
        uptime_s=uptime(uptime_s, f"{_HOW}uptime") if uptime_s is not None else Number(None, f"{_HOW}uptime", why),
        system=system_name(name, said.get("version", ""), f"{_HOW}os_version")
        if name
        else Name("", f"{_HOW}os_version", why),
    )


def _rows(ran: Ran) -> tuple[dict[str, str], str]:
    """What it said of each fact, where it said one thing only; and why any other is unknown."""
    if ran.code != 0:
        return {}, ran.fault or "osqueryi ended with an error; install a newer one"
    # A warning may stand before the array.
    start = ran.text.find("[\n")
    try:
        rows = json.loads(ran.text[max(start, 0) :])
    except (ValueError, RecursionError):
        return {}, "osqueryi did not answer in JSON"
    found: dict[str, set[str]] = {}
    for row in rows if isinstance(rows, list) else ():
        if isinstance(row, dict) and isinstance(row.get("fact"), str) and isinstance(row.get("value"), str):
            found.setdefault(row["fact"], set()).add(row["value"])
    said = {fact: values.pop() for fact, values in found.items() if len(values) == 1}
    return said, "osquery does not tell it on this system without root"


def _switch(said: dict[str, str], fact: str, table: str, why: str) -> Finding:
    state = {"0": False, "1": True, "2": True if fact == "firewall" else None}.get(said.get(fact, ""))
    return yes_or_no(state, _HOW + table, why)


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isascii() and text.isdigit() and len(text) <= 12 else None


def _patch_age(installed_s: int | None, now_s: float, why: str) -> Number:
    return days_since(installed_s, now_s, f"{_HOW}rpm_packages", why)
