"""Whether the root file system is encrypted, in every way that Linux lays disks on each other."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spa_client.posture.linux_disk import disk_encrypted
from spa_protocol.posture import Fact
from tests.client.posture.fake_linux import LUKS, LVM, FakeLinux

Lay = Callable[[FakeLinux], FakeLinux]

LAID: dict[str, tuple[Fact, Lay]] = {
    "LUKS on a partition": (
        Fact.YES,
        lambda it: it.mount("253:0").block("nvme0n1p3", "259:3").block("dm-0", "253:0", "nvme0n1p3", mark=LUKS),
    ),
    "LVM on LUKS": (
        Fact.YES,
        lambda it: (
            it.mount("253:1")
            .block("nvme0n1p3", "259:3")
            .block("dm-0", "253:0", "nvme0n1p3", mark=LUKS)
            .block("dm-1", "253:1", "dm-0", mark=LVM)
        ),
    ),
    "LUKS on LVM": (
        Fact.YES,
        lambda it: (it.mount("253:1").block("sda3", "8:3").block("dm-0", "253:0", "sda3", mark=LVM)).block(
            "dm-1", "253:1", "dm-0", mark=LUKS
        ),
    ),
    "a mirror of two encrypted disks": (
        Fact.YES,
        lambda it: (
            it.mount("9:0")
            .block("sda", "8:0")
            .block("sdb", "8:16")
            .block("dm-0", "253:0", "sda", mark=LUKS)
            .block("dm-1", "253:1", "sdb", mark=LUKS)
            .block("md0", "9:0", "dm-0", "dm-1")
        ),
    ),
    "btrfs on LUKS": (
        Fact.YES,
        lambda it: (
            it.mount("0:24", "btrfs", "/dev/mapper/luks-root")
            .block("sda3", "8:3")
            .block("dm-0", "253:0", "sda3", mark=LUKS, label="luks-root")
            .pool("dm-0")
        ),
    ),
    "LUKS1, as old systems have it": (
        Fact.YES,
        lambda it: it.mount("253:0").block("sda", "8:0").block("dm-0", "253:0", "sda", mark="CRYPT-LUKS1-0-x"),
    ),
    "a plain partition": (Fact.NO, lambda it: it.mount("259:3").block("nvme0n1p3", "259:3")),
    "LVM on a plain partition": (
        Fact.NO,
        lambda it: it.mount("253:0").block("sda3", "8:3").block("dm-0", "253:0", "sda3", mark=LVM),
    ),
    "LVM over one encrypted disk and one plain": (
        Fact.NO,
        lambda it: (
            it.mount("253:1")
            .block("sda", "8:0")
            .block("sdb", "8:16")
            .block("dm-0", "253:0", "sda", mark=LUKS)
            .block("dm-1", "253:1", "dm-0", "sdb", mark=LVM)
        ),
    ),
    "btrfs over one encrypted disk and one plain": (
        Fact.NO,
        lambda it: (
            it.mount("0:24", "btrfs", "/dev/mapper/luks-root")
            .block("sda", "8:0")
            .block("sdb", "8:16")
            .block("dm-0", "253:0", "sda", mark=LUKS, label="luks-root")
            .pool("dm-0", "sdb")
        ),
    ),
    "btrfs on a plain partition": (
        Fact.NO,
        lambda it: it.mount("0:24", "btrfs", "/dev/sda2").block("sda2", "8:2").pool("sda2"),
    ),
    "dm-verity, which checks and hides nothing": (
        Fact.NO,
        lambda it: it.mount("253:0").block("vda", "254:0").block("dm-0", "253:0", "vda", mark="CRYPT-VERITY-0-root"),
    ),
    "dm-integrity alone": (
        Fact.NO,
        lambda it: it.mount("253:0").block("sda", "8:0").block("dm-0", "253:0", "sda", mark="CRYPT-INTEGRITY-x"),
    ),
    "overlay, in a container": (
        Fact.UNKNOWN,
        lambda it: it.mount("0:52", "overlay", "overlay").block("sda", "8:0"),
    ),
    "an overlay that calls itself by an encrypted disk's path": (
        Fact.UNKNOWN,
        lambda it: (
            it.mount("0:52", "overlay", "/dev/mapper/luks-root")
            .block("sda", "8:0")
            .block("dm-0", "253:0", "sda", mark=LUKS, label="luks-root")
        ),
    ),
    "btrfs whose other disks are not told": (
        Fact.UNKNOWN,
        lambda it: (
            it.mount("0:24", "btrfs", "/dev/mapper/luks-root")
            .block("sda", "8:0")
            .block("dm-0", "253:0", "sda", mark=LUKS, label="luks-root")
        ),
    ),
    "zfs": (Fact.UNKNOWN, lambda it: it.mount("0:30", "zfs", "rpool/ROOT/debian").block("sda", "8:0")),
    "NFS": (Fact.UNKNOWN, lambda it: it.mount("0:30", "nfs4", "10.0.0.1:/export/root")),
    "a loop device, whose file may lie on anything": (
        Fact.UNKNOWN,
        lambda it: it.mount("7:0").block("loop0", "7:0"),
    ),
    "a mapped device that tells nothing": (
        Fact.UNKNOWN,
        lambda it: it.mount("253:0").block("dm-0", "253:0", mark=LVM),
    ),
    "a mapped device that lies on itself": (
        Fact.UNKNOWN,
        lambda it: it.mount("253:0").block("dm-0", "253:0", "dm-0", mark=LVM),
    ),
    "no /sys": (Fact.UNKNOWN, lambda it: it.mount("253:0")),
    "no /proc": (Fact.UNKNOWN, lambda it: it.block("sda", "8:0")),
    "a root that is mounted over": (
        Fact.NO,
        lambda it: (
            it.block("sda", "8:0")
            .block("dm-0", "253:0", "sda", mark=LUKS)
            .file(
                "proc/self/mountinfo",
                "1 1 253:0 / / rw shared:1 - ext4 /dev/dm-0 rw\n2 1 8:0 / / rw shared:2 - ext4 /dev/sda rw\n",
            )
        ),
    ),
}


@pytest.mark.parametrize("name", LAID)
def test_what_lies_under_the_root_decides(name: str, tmp_path: Path) -> None:
    expected, lay = LAID[name]
    found = disk_encrypted(lay(FakeLinux(tmp_path)).root)
    assert found.fact is expected
    assert bool(found.unknown) is (expected is Fact.UNKNOWN)
    assert found.how


def test_it_says_which_files_told_it(tmp_path: Path) -> None:
    lay = LAID["LVM on LUKS"][1]
    assert disk_encrypted(lay(FakeLinux(tmp_path)).root).how == (
        "/sys/class/block/dm-1/slaves; /sys/class/block/dm-0/dm/uuid"
    )


@given(mark=st.one_of(st.binary(max_size=80), st.from_regex(rb"CRYPT-[A-Z0-9]{3,9}-.{0,20}")))
def test_only_a_mark_of_encryption_says_yes(mark: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        it = FakeLinux(Path(folder)).mount("253:0").block("sda", "8:0").block("dm-0", "253:0", "sda", mark="x")
        it.file("sys/class/block/dm-0/dm/uuid", mark)
        text = mark.decode("utf-8", "replace").strip()
        encrypting = re.match(r"CRYPT-(LUKS[12]|PLAIN|BITLK|FVAULT2|LOOPAES|TCRYPT)-", text) is not None
        assert disk_encrypted(it.root).fact is (Fact.YES if encrypting else Fact.NO)


@given(mountinfo=st.one_of(st.binary(max_size=400), st.text(alphabet="0123456789:/ -dabetrfsmp\n", max_size=300)))
def test_no_mountinfo_makes_a_plain_disk_an_encrypted_one(mountinfo: str | bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        it = FakeLinux(Path(folder)).block("sda", "8:0").pool("sda").file("proc/self/mountinfo", mountinfo)
        assert disk_encrypted(it.root).fact is not Fact.YES


names = st.sampled_from(["sda", "sdb", "dm-0", "dm-1", "dm-2", "md0"])


@given(
    on=st.dictionaries(names, st.lists(names, max_size=3, unique=True)),
    marks=st.dictionaries(names, st.sampled_from([LUKS, LVM, "CRYPT-VERITY-0-x", ""])),
)
def test_however_devices_lie_on_each_other_a_plain_way_down_is_never_encrypted(
    on: dict[str, list[str]], marks: dict[str, str]
) -> None:
    def plain_way(name: str, passed: frozenset[str]) -> bool:
        if marks.get(name) == LUKS:
            return False
        below = on.get(name, [])
        return not below or any(each in passed or plain_way(each, passed | {each}) for each in below)

    with tempfile.TemporaryDirectory() as folder:
        it = FakeLinux(Path(folder)).mount("253:0")
        for place, name in enumerate(("sda", "sdb", "dm-0", "dm-1", "dm-2", "md0")):
            number = "253:0" if name == "dm-0" else f"8:{place}"
            it.block(name, number, *on.get(name, []), mark=marks.get(name, ""))
        found = disk_encrypted(it.root).fact
        assert (found is Fact.YES) is not plain_way("dm-0", frozenset({"dm-0"}))
