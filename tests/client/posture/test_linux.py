"""What Linux tells of its health, and what is made of it when it tells something else."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spa_client.posture.findings import Findings
from spa_client.posture.linux import PACKAGES, SECURE_BOOT, SYSTEMCTL, look
from spa_client.posture.programs import Command, Ran
from spa_protocol.posture import MAX_SYSTEM, Fact
from tests.client.posture.fake_linux import FakeLinux, answering

NOW_S = 1_800_000_000.0
DAY_S = 86_400
GNOME = {"XDG_CURRENT_DESKTOP": "ubuntu:GNOME"}
LOCK: Command = ("gsettings", "get", "org.gnome.desktop.screensaver", "lock-enabled")
IDLE: Command = ("gsettings", "get", "org.gnome.desktop.session", "idle-delay")


@pytest.fixture
def linux(tmp_path: Path) -> FakeLinux:
    return FakeLinux(tmp_path)


def told(linux: FakeLinux, answers: dict[Command, Ran] | None = None, **environment: str) -> Findings:
    return look(linux.root, answering(answers or {}), environment, NOW_S)


def test_a_system_that_tells_nothing_is_unknown_in_everything(linux: FakeLinux) -> None:
    posture = told(linux).posture()
    facts = {posture.disk_encrypted, posture.screen_lock, posture.firewall, posture.secure_boot}
    assert facts == {Fact.UNKNOWN}
    assert (posture.patch_age_days, posture.uptime_s, posture.system) == (None, None, "")


def test_all_programs_are_asked_at_once(linux: FakeLinux) -> None:
    asked: list[tuple[Command, ...]] = []

    def run(commands: tuple[Command, ...]) -> tuple[Ran, ...]:
        asked.append(commands)
        return tuple(Ran(None, fault="not here") for _ in commands)

    look(linux.root, run, GNOME, NOW_S)
    assert asked == [(LOCK, IDLE, SYSTEMCTL)]


@pytest.mark.parametrize(
    ("enabled", "idle", "expected"),
    [
        ("true\n", "uint32 300\n", Fact.YES),
        ("false\n", "uint32 300\n", Fact.NO),
        ("true\n", "uint32 0\n", Fact.NO),
        ("true\n", "", Fact.UNKNOWN),
        ("", "uint32 300\n", Fact.UNKNOWN),
        ("'true'\n", "uint32 300\n", Fact.UNKNOWN),
        ("No such schema “org.gnome.desktop.screensaver”\n", "uint32 300\n", Fact.UNKNOWN),
    ],
)
def test_gnome_locks_where_it_says_so_and_becomes_idle(
    linux: FakeLinux, enabled: str, idle: str, expected: Fact
) -> None:
    found = told(linux, {LOCK: Ran(0, enabled), IDLE: Ran(0, idle)}, **GNOME)
    assert found.screen_lock.fact is expected


def test_a_gsettings_that_fails_or_hangs_says_nothing(linux: FakeLinux) -> None:
    failed = told(linux, {LOCK: Ran(1, "true\n"), IDLE: Ran(0, "uint32 300\n")}, **GNOME)
    assert failed.screen_lock.fact is Fact.UNKNOWN
    hung = told(linux, {LOCK: Ran(None, fault="gsettings did not finish within 1 s")}, **GNOME)
    assert hung.screen_lock.unknown == "gsettings did not finish within 1 s"


def test_gnome_that_is_only_installed_is_not_asked(linux: FakeLinux) -> None:
    locked = {LOCK: Ran(0, "true\n"), IDLE: Ran(0, "uint32 300\n")}
    assert told(linux, locked, XDG_CURRENT_DESKTOP="sway").screen_lock.fact is Fact.UNKNOWN
    assert told(linux, locked).screen_lock.fact is Fact.UNKNOWN


def test_cinnamon_has_its_own_lock(linux: FakeLinux) -> None:
    answers: dict[Command, Ran] = {
        ("gsettings", "get", "org.cinnamon.desktop.screensaver", "lock-enabled"): Ran(0, "true\n"),
        ("gsettings", "get", "org.cinnamon.desktop.session", "idle-delay"): Ran(0, "uint32 900\n"),
    }
    assert told(linux, answers, XDG_CURRENT_DESKTOP="X-Cinnamon").screen_lock.fact is Fact.YES


@pytest.mark.parametrize(
    ("ini", "expected"),
    [
        ("[Daemon]\nAutolock=true\nTimeout=5\n", Fact.YES),
        ("[Daemon]\nAutolock=false\n", Fact.NO),
        ("[Greeter]\nAutolock=true\n", Fact.UNKNOWN),
        ("", Fact.UNKNOWN),
    ],
)
def test_kde_keeps_its_lock_in_a_file(linux: FakeLinux, ini: str, expected: Fact) -> None:
    linux.file("home/alice/.config/kscreenlockerrc", ini)
    assert told(linux, HOME="/home/alice", XDG_CURRENT_DESKTOP="KDE").screen_lock.fact is expected


@pytest.mark.parametrize(
    ("states", "ufw", "expected"),
    [
        ("active\ninactive\ninactive\n", "", Fact.YES),
        ("inactive\ninactive\nactive\n", "", Fact.YES),
        ("inactive\nactive\ninactive\n", "ENABLED=yes\n", Fact.YES),
        ("inactive\nactive\ninactive\n", "ENABLED=no\n", Fact.NO),
        ("inactive\nactive\ninactive\n", "", Fact.UNKNOWN),
        ("inactive\ninactive\ninactive\n", "ENABLED=yes\n", Fact.NO),
        ("inactive\nfailed\nunknown\n", "", Fact.NO),
        ("", "ENABLED=yes\n", Fact.UNKNOWN),
        ("active\n", "", Fact.UNKNOWN),
        ("System has not been booted with systemd as init system (PID 1). Can't operate.\n", "", Fact.UNKNOWN),
    ],
)
def test_a_firewall_is_one_that_is_active_and_ufw_one_that_is_enabled_too(
    linux: FakeLinux, states: str, ufw: str, expected: Fact
) -> None:
    linux.file("etc/ufw/ufw.conf", f"# /etc/ufw/ufw.conf\n{ufw}LOGLEVEL=low\n")
    assert told(linux, {SYSTEMCTL: Ran(3, states)}).firewall.fact is expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"\x06\0\0\0\x01", Fact.YES),
        (b"\x06\0\0\0\0", Fact.NO),
        (b"\x06\0\0\0\x02", Fact.UNKNOWN),
        (b"\x01", Fact.UNKNOWN),
        (b"\x06\0\0\0\x01\x01", Fact.UNKNOWN),
        (b"", Fact.UNKNOWN),
    ],
)
def test_secure_boot_is_the_last_of_five_bytes(linux: FakeLinux, value: bytes, expected: Fact) -> None:
    assert told(linux.file(SECURE_BOOT, value)).secure_boot.fact is expected


def test_the_newest_of_the_package_managers_files_counts(linux: FakeLinux) -> None:
    for path, days in zip(PACKAGES, range(40, 0, -1), strict=False):
        linux.file(path, "")
        os.utime(linux.root / path, (NOW_S, NOW_S - days * DAY_S))
    found = told(linux).patch_age_days
    assert found.value == 41 - len(PACKAGES)
    assert found.how == f"time of /{PACKAGES[-1]}"


@pytest.mark.parametrize("age_s", [-3600, 101 * 365 * DAY_S])
def test_a_time_that_cannot_be_is_unknown(linux: FakeLinux, age_s: int) -> None:
    linux.file("var/lib/dpkg/status", "")
    os.utime(linux.root / "var/lib/dpkg/status", (NOW_S, max(0, NOW_S - age_s)))
    found = look(linux.root, answering({}), {}, NOW_S if age_s < 0 else age_s + 1.0).patch_age_days
    assert found.value is None
    assert "clock" in found.unknown


@pytest.mark.parametrize(
    ("release", "expected"),
    [
        ('NAME="Debian GNU/Linux"\nVERSION_ID="12"\nID=debian\n', "debian 12"),
        ("ID=arch\nBUILD_ID=rolling\n", "arch"),
        ("ID='rhel'\nVERSION_ID='9.4'\n", "rhel 9.4"),
        ("ID=a-distribution-of-a-very-long-name\nVERSION_ID=1\n", "a-distribution-of-a-very"),
        ("ID=\n", ""),
        ("VERSION_ID=12\n", ""),
    ],
)
def test_a_system_is_named_as_os_release_does(linux: FakeLinux, release: str, expected: str) -> None:
    assert told(linux.file("etc/os-release", release)).system.value == expected


def test_os_release_may_be_in_usr(linux: FakeLinux) -> None:
    assert told(linux.file("usr/lib/os-release", "ID=nixos\n")).system.how == "/usr/lib/os-release"


@pytest.mark.parametrize(
    ("text", "expected"), [("12345.67 45678.90\n", 12345), ("nan 1\n", None), ("-1.0 1\n", None), ("9" * 400, None)]
)
def test_the_uptime_is_the_first_number(linux: FakeLinux, text: str, expected: int | None) -> None:
    assert told(linux.file("proc/uptime", text)).uptime_s.value == expected


@pytest.mark.file_modes
def test_what_is_no_file_is_not_waited_for(linux: FakeLinux) -> None:
    (linux.root / "etc/ufw").mkdir(parents=True)
    os.mkfifo(linux.root / "etc/os-release")
    os.mkfifo(linux.root / "etc/ufw/ufw.conf")
    (linux.root / "proc/uptime").mkdir(parents=True)
    found = told(linux, {SYSTEMCTL: Ran(0, "inactive\nactive\ninactive\n")})
    assert (found.system.value, found.firewall.fact, found.uptime_s.value) == ("", Fact.UNKNOWN, None)


@given(
    content=st.one_of(st.binary(max_size=200), st.text(max_size=100)),
    outputs=st.lists(st.text(max_size=60), min_size=3, max_size=3),
    code=st.sampled_from([0, 1, 3, 127, None]),
)
def test_nothing_that_the_files_or_programs_say_breaks_it(
    content: str | bytes, outputs: list[str], code: int | None
) -> None:
    files = ("proc/self/mountinfo", "proc/uptime", "etc/os-release", "etc/ufw/ufw.conf", SECURE_BOOT)
    with tempfile.TemporaryDirectory() as folder:
        linux = FakeLinux(Path(folder))
        for path in files:
            linux.file(path, content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content)
        answers = dict(zip((LOCK, IDLE, SYSTEMCTL), (Ran(code, each) for each in outputs), strict=True))
        posture = told(linux, answers, **GNOME).posture()
    assert Fact.YES not in {posture.disk_encrypted, posture.screen_lock}
    states = outputs[2].split()
    assert posture.firewall is not Fact.YES or ("active" in states or "reloading" in states)
    raw = content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass")
    assert posture.secure_boot is not Fact.YES or (len(raw) == 5 and raw[4] == 1)
    assert len(posture.system) <= MAX_SYSTEM
    assert posture.uptime_s is None or posture.uptime_s >= 0
