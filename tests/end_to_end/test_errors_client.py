"""What a new user gets wrong: each gives one line that says what to do, and the documented exit code."""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.end_to_end.running import KNOCK_PORT, Laptop, RunningServer, enrolled
from tests.lab import Lab

USAGE, REFUSED, NO_ANSWER, CONFIGURATION, NOT_PERMITTED, FAULT = 2, 3, 4, 5, 6, 7
HALFWAY = ("--timeout", "10")
"""The client asks about the clock when half of its time is over; then there are five seconds left for the answer."""
SHIFTED = """
import os, time
_by_s = int(os.environ["TEST_CLOCK_SHIFT_S"])
_time, _time_ns = time.time, time.time_ns
time.time = lambda: _time() + _by_s
time.time_ns = lambda: _time_ns() + _by_s * 1_000_000_000
"""
"""Imported by the interpreter at its start: a clock that is off, for one process."""


def said(done: subprocess.CompletedProcess[str], code: int) -> str:
    """The one line of a command that failed with that code."""
    assert done.returncode == code, done.stdout + done.stderr
    assert done.stdout == ""
    assert done.stderr.startswith("spa-client: ")
    assert done.stderr.count("\n") == 1
    return done.stderr.removeprefix("spa-client: ").strip()


@pytest.fixture
def newcomer(server: RunningServer, lab: Lab) -> Laptop:
    """A laptop that has not joined anything."""
    return Laptop(lab.clients["alice"], server.folder / "newcomer", server.settle)


@pytest.fixture
def off_by(folder: Path) -> Callable[[int], dict[str, str]]:
    """Makes the environment of a client whose clock is off by so many seconds."""
    (folder / "shifted").mkdir()
    (folder / "shifted" / "sitecustomize.py").write_text(SHIFTED)
    return lambda seconds: {"PYTHONPATH": str(folder / "shifted"), "TEST_CLOCK_SHIFT_S": str(seconds)}


def test_no_server_answers(server: RunningServer, alice: Laptop) -> None:
    server.stop()
    line = said(alice.client("knock", "office", "--timeout", "3"), NO_ANSWER)
    assert line.startswith("no answer from 198.51.100.1 and 2001:db8:1::1 udp/62201 within 3 s: ")


@pytest.mark.parametrize(("off_s", "words"), [(-3600, "behind the server's"), (3600, "ahead of the server's")])
def test_the_clock_is_off_by_an_hour(
    alice: Laptop, off_by: Callable[[int], dict[str, str]], off_s: int, words: str
) -> None:
    line = said(alice.client("knock", "office", *HALFWAY, env=off_by(off_s)), REFUSED)
    told = re.fullmatch(rf"this computer's clock is (\d+) s {words}; set it \(timedatectl set-ntp true\)", line)
    assert told, line
    assert abs(int(told[1]) - 3600) <= 10, "seconds may pass on the way"


def test_the_operator_sees_the_wrong_clock_too(
    server: RunningServer, alice: Laptop, off_by: Callable[[int], dict[str, str]]
) -> None:
    alice.client("knock", "office", *HALFWAY, env=off_by(-3600))
    told = server.json("why", "alice-laptop")
    assert {item["reason"] for item in told} == {"stale"}
    assert all(-3610 < item["skew_ms"] / 1000 < -3590 for item in told)


def test_joining_with_a_clock_an_hour_behind(
    newcomer: Laptop, server: RunningServer, off_by: Callable[[int], dict[str, str]]
) -> None:
    line = said(newcomer.client("join", *HALFWAY, server.invite("new-laptop"), env=off_by(-3600)), REFUSED)
    assert re.search(r"clock is 36\d\d s behind the server's; set it", line)


def test_joining_with_a_clock_two_hours_ahead(
    newcomer: Laptop, server: RunningServer, off_by: Callable[[int], dict[str, str]]
) -> None:
    line = said(newcomer.client("join", *HALFWAY, server.invite("new-laptop"), env=off_by(7200)), REFUSED)
    assert "the invite expired at " in line
    assert "this computer's clock says " in line


def test_an_expired_invite(newcomer: Laptop, server: RunningServer) -> None:
    invite = server.invite("new-laptop", "--expires", "1s")
    time.sleep(1.1)
    line = said(newcomer.client("join", invite), REFUSED)
    assert line.endswith("ask for a new one (spa-server invite)")
    assert newcomer.client("list").stdout == ""


def test_a_used_invite(newcomer: Laptop, server: RunningServer, lab: Lab) -> None:
    invite = server.invite("new-laptop")
    newcomer.join(invite)
    thief = Laptop(lab.clients["neighbour"], server.folder / "thief", server.settle)
    line = said(thief.client("join", invite), REFUSED)
    assert line == "the server refused: the invite was already used, by another key; ask for a new one"
    newcomer.client("knock", "office", check=True)


def test_an_invite_that_was_taken_back_with_its_server(newcomer: Laptop, server: RunningServer) -> None:
    invite = server.invite("new-laptop")
    server.stop()
    assert said(newcomer.client("join", "--timeout", "0.5", invite), NO_ANSWER).startswith("no answer from ")
    server.start()
    newcomer.join(invite)


def test_a_damaged_invite(newcomer: Laptop, server: RunningServer) -> None:
    invite = server.invite("new-laptop")
    changed = invite[:-8] + ("q" if invite[-8] != "q" else "p") + invite[-7:]
    mixed = invite[:40].upper() + invite[40:]
    for damaged in (invite[:-1], invite[1:], changed, mixed, "spa-invite1", "hello", ""):
        said(newcomer.client("join", damaged), USAGE)


@pytest.mark.parametrize("name", ["device.key", "gate.secret"])
def test_a_secret_that_others_can_read(alice: Laptop, name: str) -> None:
    path = alice.folder / "office" / name
    path.chmod(0o644)
    assert said(alice.client("knock", "office"), NOT_PERMITTED) == f"{path} can be read by others: chmod 600 '{path}'"
    path.chmod(0o600)
    alice.client("knock", "office", check=True)


def test_a_secret_of_somebody_elses(alice: Laptop) -> None:
    path = alice.folder / "office" / "device.key"
    os.chown(path, 65534, 65534)
    assert "belongs to user 65534" in said(alice.client("knock", "office"), NOT_PERMITTED)


@pytest.mark.parametrize("name", ["device.key", "gate.secret", "perimeter.toml"])
def test_a_file_that_is_missing_or_damaged(alice: Laptop, name: str) -> None:
    path = alice.folder / "office" / name
    path.write_bytes(b"\xff\xfe damaged")
    assert str(path) in said(alice.client("knock", "office"), CONFIGURATION)
    path.unlink()
    assert said(alice.client("knock", "office"), CONFIGURATION) == f"{path} is missing: join again with a new invite"


def test_no_such_perimeter(newcomer: Laptop, alice: Laptop) -> None:
    assert "spa-client join INVITE" in said(newcomer.client("knock"), CONFIGURATION)
    line = said(alice.client("knock", "home"), CONFIGURATION)
    assert line == "no perimeter named home (joined: office)"


def test_a_service_that_is_not_there(alice: Laptop) -> None:
    line = said(alice.client("knock", "office", "cellar"), REFUSED)
    assert line == (
        "office refused: unknown service cellar: the server protects no service of that name; this device knows of: web"
    )


def test_a_device_that_was_disabled(server: RunningServer, alice: Laptop) -> None:
    server.command("device", "disable", "alice-laptop")
    assert "the device is disabled" in said(alice.client("knock", "office"), REFUSED)


def test_too_many_knocks_in_a_minute(alice: Laptop) -> None:
    slots = alice.folder / ".state" / "office" / "slots"
    alice.client("knock", "office", check=True)
    minute = int(next(slots.iterdir()).name.partition("-")[0])
    for window in (minute, minute + 1):
        for slot in range(16):
            (slots / f"{window}-{slot}").touch()
    assert said(alice.client("knock", "office"), FAULT).startswith("all 16 knocks of this minute have been used")


def test_a_host_name_that_leads_nowhere(alice: Laptop) -> None:
    path = alice.folder / "office" / "perimeter.toml"
    text = path.read_text().replace('["198.51.100.1", "2001:db8:1::1"]', '["gw.invalid"]')
    path.write_text(text)
    assert said(alice.client("knock", "office"), FAULT).startswith("no address for the server: gw.invalid")


def test_no_network_at_all(alice: Laptop) -> None:
    alice.host.run(["ip", "link", "set", "eth0", "down"])
    assert said(alice.client("knock", "office"), FAULT).startswith("no network that leads to ")


def test_only_one_family_works(server: RunningServer, alice: Laptop, lab: Lab) -> None:
    rule = f"type filter hook prerouting priority -350; ip6 nexthdr udp udp dport {KNOCK_PORT} drop;"
    lab.server.nft(f"table inet broken {{ chain in {{ {rule} }}\n}}")
    opened = alice.client("knock", "office")
    assert opened.returncode == 0
    assert "198.51.100.1 for 30 s" in opened.stdout
    assert "warning: 2001:db8:1::1 has not answered yet" in opened.stderr


def test_another_server_at_the_same_address(server: RunningServer, alice: Laptop, lab: Lab, folder: Path) -> None:
    """Reinstalled with new keys: the old knock is a stranger's there, and its silence is not a success."""
    server.stop()
    (folder / "new").mkdir()
    with RunningServer(lab, folder / "new") as reinstalled:
        assert said(alice.client("knock", "office", "--timeout", "0.5"), NO_ANSWER).startswith("no answer from ")
        alice.client("remove", "office", "--yes", check=True)
        enrolled(reinstalled, lab.clients["alice"], "alice-laptop").client("knock", "office", check=True)
