"""A Linux system made of files under a folder, and programs that answer from a table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from spa_client.posture.programs import Command, Ran, Runner

LUKS = "CRYPT-LUKS2-0123456789abcdef0123456789abcdef-root"
LVM = "LVM-7vXfaj2Gd3cEAq6wzK4nBvvxGxXSxT1h2kQp"


@dataclass(frozen=True)
class FakeLinux:
    """The system. Each method adds to it and returns it."""

    root: Path

    def file(self, path: str, content: str | bytes) -> FakeLinux:
        """A file with that content."""
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content if isinstance(content, bytes) else content.encode())
        return self

    def mount(self, number: str, kind: str = "ext4", source: str = "/dev/root") -> FakeLinux:
        """What is mounted at /, beside other mounts."""
        lines = (
            "22 29 0:20 / /sys rw,nosuid shared:7 - sysfs sysfs rw\n"
            f"29 1 {number} / / rw,relatime shared:1 - {kind} {source} rw\n"
            "95 29 259:1 / /boot/efi rw,relatime shared:30 - vfat /dev/nvme0n1p1 rw\n"
        )
        return self.file("proc/self/mountinfo", lines)

    def block(self, name: str, number: str, *on: str, mark: str = "", label: str = "") -> FakeLinux:
        """A block device, lying on others. `mark`: the device mapper's uuid; `label`: its name there."""
        folder = self.root / "sys/class/block" / name
        (folder / "slaves").mkdir(parents=True)
        self.file(f"sys/class/block/{name}/dev", f"{number}\n")
        if mark or label:
            self.file(f"sys/class/block/{name}/dm/uuid", f"{mark}\n" if mark else "")
            self.file(f"sys/class/block/{name}/dm/name", f"{label or name}\n")
        for each in on:
            (folder / "slaves" / each).symlink_to(f"../../{each}")
        return self

    def pool(self, *members: str) -> FakeLinux:
        """A btrfs over those devices."""
        for name in members:
            self.file(f"sys/fs/btrfs/0f1c/devices/{name}/size", "1\n")
        return self


def answering(answers: Mapping[Command, Ran], asked: list[Command] | None = None) -> Runner:
    """Programs that print what the table says; others are not there. `asked`: gets what was run."""

    def run(commands: tuple[Command, ...]) -> tuple[Ran, ...]:
        if asked is not None:
            asked.extend(commands)
        return tuple(answers.get(each, Ran(None, fault=f"there is no {each[0]} here")) for each in commands)

    return run
