"""Real programs through the client: OpenSSH through `proxy`, curl through `exec`, a browser through `open`."""

from __future__ import annotations

import hashlib
import os
import shlex
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.end_to_end.console import PICTURES, Console, running_console
from tests.end_to_end.running import SCRIPTS, Laptop, RunningServer
from tests.end_to_end.sshd import PROGRAMS, options, running_sshd
from tests.end_to_end.telling import causes, told_by
from tests.lab import Lab, LabError, check_surroundings
from tests.stalls import PATIENCE_S, wait_until

SERVICES = """
[service.ssh]
tcp = [2222]
roles = ["admin"]

[service.console]
tcp = [8443]
roles = ["admin"]
lease_s = 4
"""
LEASE_S = 4
BROWSER = "chromium-headless-shell"
MEBIBYTES = 200

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module", autouse=True)
def programs(surroundings: None) -> None:
    """Fail, never skip, where one of them is missing."""
    try:
        check_surroundings(PROGRAMS | {"curl": "curl", BROWSER: BROWSER})
    except LabError as error:
        pytest.fail(str(error), pytrace=False)


@pytest.fixture
def server(lab: Lab, folder: Path) -> Iterator[RunningServer]:
    """A server that protects sshd and a console, and takes as many knocks as short leases need."""
    with RunningServer(lab, folder, SERVICES, slots=64) as running:
        yield running


@pytest.fixture
def console(lab: Lab, folder: Path, server: RunningServer) -> Iterator[Console]:
    with running_console(lab.server, folder, 8443) as running:
        yield running


def test_scp_of_200_mb_through_proxy_arrives_equal(
    server: RunningServer, alice: Laptop, lab: Lab, folder: Path
) -> None:
    large, arrived = folder / "large", folder / "arrived"
    with large.open("wb") as file, Path("/dev/urandom").open("rb") as source:
        for _ in range(MEBIBYTES):
            file.write(source.read(1 << 20))
    proxy = shlex.join([str(SCRIPTS / "spa-client"), "proxy", "office", "%h", "%p"])
    with running_sshd(lab.server, folder, 2222):
        assert alice.host.is_kept_out(lab.server.ipv4, 2222)
        words = ["scp", "-q", "-P", "2222", *options(folder, proxy), str(large), f"root@office:{arrived}"]
        alice.host.run(words, env=alice.env, timeout=200)
        assert digest(arrived) == digest(large)
        wait_until(lambda: server.leases() == [], "the lease is given back when ssh has ended")


def test_ssh_by_the_printed_stanza_talks_in_both_directions(
    server: RunningServer, alice: Laptop, lab: Lab, folder: Path
) -> None:
    config = folder / "config"
    config.write_text(alice.client("ssh-config", "office", check=True).stdout)
    with running_sshd(lab.server, folder, 2222):
        words = ["ssh", *options(folder)[2:], "-F", str(config), "-l", "root", "office", "cat; echo end; exit 7"]
        done = alice.host.run(words, env=alice.env, input="said\n", check=False)
    assert (done.stdout, done.returncode) == ("said\nend\n", 7)


def test_when_ssh_is_killed_the_lease_is_given_back(
    server: RunningServer, alice: Laptop, lab: Lab, folder: Path
) -> None:
    proxy = shlex.join([str(SCRIPTS / "spa-client"), "proxy", "office", "%h", "%p", "--for", "300"])
    with running_sshd(lab.server, folder, 2222):
        words = ["ssh", "-p", "2222", *options(folder, proxy), "root@office", "echo in; sleep 300"]
        process = alice.host.popen(words, env=alice.env, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL)
        assert process.stdout is not None
        assert process.stdout.readline() == b"in\n"
        assert server.leases() != []
        process.kill()
        wait_until(lambda: server.leases() == [], "the lease given back")


def test_curl_through_exec(server: RunningServer, alice: Laptop, lab: Lab, console: Console) -> None:
    url = f"https://{lab.server.ipv4}:8443/"
    assert alice.host.run(["curl", "-sk", "--max-time", "0.5", url], check=False).returncode == 28
    done = alice.client("exec", "office", "--service", "console", "--", "curl", "-sk", "--max-time", "30", url)
    assert done.returncode == 0, done.stderr
    assert '<h1 id="title">console</h1>' in done.stdout
    wait_until(lambda: server.leases() == [], "the lease is given back when curl has ended")


def test_a_browser_loads_a_console_through_open(
    server: RunningServer, alice: Laptop, lab: Lab, console: Console, folder: Path
) -> None:
    """A page with pictures on several connections, and a WebSocket that outlives the first lease twice over."""
    door = alice.start_client("open", "office", "console", "--json", "--idle", "0.5")
    events = told_by(door)
    wait_until(lambda: bool(events), "the door")
    assert server.leases() == [], "nobody has come yet"
    browser = browse(alice, folder, f"{events[0]['url']}?seconds={2.5 * LEASE_S}")
    try:
        assert console.told.wait(PATIENCE_S + 60), "the page has not told what it saw"
    finally:
        # All of its processes; it is the first of a session of its own.
        os.killpg(browser.pid, signal.SIGKILL)
        browser.wait(60)
    seen = console.reports[0]
    assert seen["pictures"] == PICTURES
    assert seen["seconds"] > 2 * LEASE_S
    assert seen["closed"] == 1000
    assert seen["heard"] == [f"tick {number}" for number in range(seen["said"])]
    assert len(console.peers) > 2, "one connection for all would say little"
    told = causes(events)
    assert told.count("opened") == 1
    assert told.count("renewed") >= 3
    assert {peer[0].removeprefix("::ffff:") for peer in console.peers} <= {str(alice.host.ipv4), str(alice.host.ipv6)}
    wait_until(lambda: "given_back" in causes(events), "idle, the door is shut")
    assert server.leases() == []
    door.terminate()
    assert door.wait(60) == 0


def browse(laptop: Laptop, folder: Path, url: str) -> subprocess.Popen[bytes]:
    """A browser that loads the page and stays."""
    quiet = ("disable-gpu", "disable-quic", "no-first-run", "disable-background-networking", "disable-sync")
    flags = [f"--{flag}" for flag in (*quiet, "headless", "no-sandbox", "disable-component-update")]
    program = shutil.which(BROWSER)
    assert program is not None
    # The certificate is the console's own, from end to end, and signed by nobody.
    flags += ["--ignore-certificate-errors", f"--user-data-dir={folder / 'profile'}", "--remote-debugging-port=0"]
    with (folder / "browser.log").open("wb") as log:
        return laptop.host.popen([program, *flags, url], stdout=log, stderr=log, start_new_session=True)


def digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
