"""Whether what holds the root file system is encrypted, as Linux tells everybody in /proc and /sys.

Theory of operation. /proc/self/mountinfo says on which block device "/" is. In sysfs each mapped device has its maker's
mark (`dm/uuid`) and what it lies on (`slaves/`). Walking down, every way has to meet an encrypting layer: a volume over
one encrypted disk and one plain is not encrypted. It must not read anything else.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from spa_client.posture.findings import Finding, yes_or_no
from spa_client.posture.tree import is_there, names, text

_ENCRYPTING = re.compile(r"CRYPT-(LUKS1|LUKS2|PLAIN|BITLK|FVAULT2|LOOPAES|TCRYPT)-")
"""What cryptsetup marks encryption with. CRYPT-VERITY and CRYPT-INTEGRITY are its marks too, and encrypt nothing."""
_DISK = re.compile(r"(sd|hd|vd|xvd|nvme|mmcblk|pmem|dasd)[a-z0-9]*\Z")
"""What is a disk, or a part of one: nothing lies under it that this computer could see."""
_MAX_DEPTH = 16
_MAX_DEVICES = 256
_NUMBER = re.compile(r"\d{1,9}:\d{1,9}\Z")
_OCTAL = re.compile(r"\\([0-7]{3})")


def disk_encrypted(root: Path) -> Finding:
    """Whether the root file system of the system at `root` is encrypted."""
    mount = _root_mount(text(root / "proc/self/mountinfo") or "")
    how = "/proc/self/mountinfo, /sys/dev/block"
    if mount is None:
        return yes_or_no(None, how, "it is not known on what / is mounted")
    devices = _devices(root, mount)
    if not devices:
        return yes_or_no(
            None, how, f"/ is a file system of type {mount.kind}, which names no block device (a container, a network)"
        )
    walk = _Walk(root / "sys/class/block")
    states = [walk.encrypted(device) for device in devices]
    how = "; ".join(walk.seen) or how
    if all(states):
        return yes_or_no(True, how, "")
    if False in states:
        return yes_or_no(False, how, "")
    return yes_or_no(None, how, f"what lies under {', '.join(devices)} cannot be told")


@dataclass(frozen=True, slots=True)
class _Mount:
    """`number`: major:minor; `kind`: the file system's type; `source`: what is mounted, often a device's path."""

    number: str
    kind: str
    source: str


def _root_mount(mountinfo: str) -> _Mount | None:
    """What is mounted at / (proc(5)); of several the last, which covers the others."""
    found = None
    for line in mountinfo.splitlines():
        fields = line.split(" ")
        if "-" not in fields[6:] or fields[4] != "/":
            continue
        rest = fields[fields.index("-", 6) + 1 :]
        if len(rest) >= 2 and _NUMBER.match(fields[2]):
            kind = "".join(each for each in rest[0] if each.isascii() and each.isprintable())
            found = _Mount(fields[2], kind, _OCTAL.sub(lambda octal: chr(int(octal[1], 8)), rest[1]))
    return found


def _devices(root: Path, mount: _Mount) -> list[str]:
    """The names in /sys/class/block of what holds the mount; none where that is no block device."""
    block = root / "sys/class/block"
    if not mount.number.startswith("0:"):
        return [name for name in names(block) if (text(block / name / "dev") or "").strip() == mount.number][:1]
    if mount.kind != "btrfs":
        # tmpfs, overlay, a network's, zfs: the source is a word, even where it looks like a path.
        return []
    named = _device_named(block, mount.source)
    pools = root / "sys/fs/btrfs"
    for pool in names(pools) if named else ():
        members = names(pools / pool / "devices")
        if named in members:
            return members
    return []


def _device_named(block: Path, source: str) -> str:
    if source.startswith("/dev/mapper/"):
        label = source.removeprefix("/dev/mapper/")
        return next((name for name in names(block) if (text(block / name / "dm/name") or "").strip() == label), "")
    name = source.removeprefix("/dev/").replace("/", "!")
    return name if source.startswith("/dev/") and name in names(block) else ""


class _Walk:
    """Goes down from a device to the disks. `seen`: which files told something."""

    def __init__(self, block: Path) -> None:
        self._block = block
        self._left = _MAX_DEVICES
        self.seen: list[str] = []

    def encrypted(self, name: str, depth: int = 0) -> bool | None:
        """Whether every way from the device down is encrypted; None where that cannot be told."""
        self._left -= 1
        device = self._block / name
        if depth > _MAX_DEPTH or self._left < 0 or "/" in name or not is_there(device):
            return None
        mark = (text(device / "dm/uuid") or "").strip()
        if mark and _ENCRYPTING.match(mark):
            self.seen.append(f"/sys/class/block/{name}/dm/uuid")
            return True
        below = names(device / "slaves")
        if below:
            self.seen.append(f"/sys/class/block/{name}/slaves")
            states = [self.encrypted(each, depth + 1) for each in below]
            return False if False in states else None if None in states else True
        if mark or is_there(device / "dm") or not _DISK.match(name):
            return None
        self.seen.append(f"/sys/class/block/{name}")
        return False
