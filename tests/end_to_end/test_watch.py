"""`spa-server status --watch` at a real terminal: a lease that is there, its end, and a terminal left as it was."""

from __future__ import annotations

import os
import re
import signal
import subprocess

import pytest

from tests.end_to_end.laptop import SCRIPTS
from tests.end_to_end.running import Laptop, RunningServer
from tests.end_to_end.terminal import Terminal
from tests.lab import Lab

pytestmark = pytest.mark.timeout(300)
LONG = """
[service.web]
tcp = [8443]
roles = ["admin"]
lease_s = 300

[service.wiki]
tcp = [8080]
roles = ["staff"]
"""


def watching(server: RunningServer, *words: str, size: tuple[int, int] = (120, 40), **env: str) -> Terminal:
    argv = [str(SCRIPTS / "spa-server"), "status", "--watch", "--config", str(server.config), *words]
    return Terminal(server.host, argv, {**os.environ, "TERM": "tmux-256color", **env}, size)


def watching_as(server: RunningServer, group: str) -> Terminal:
    """As a user of that group alone; the server's own here is nogroup."""
    watch = [str(SCRIPTS / "spa-server"), "status", "--watch", "--config", str(server.config)]
    argv = ["setpriv", "--reuid=12345", f"--regid={group}", "--clear-groups", *watch]
    return Terminal(server.host, argv, {**os.environ, "TERM": "tmux-256color", "PYTHONDONTWRITEBYTECODE": "1"})


def watchers(server: RunningServer) -> list[int]:
    """The processes of the view, and not the shell that started it."""
    words = f"python.* status --watch --config {server.config}"
    done = subprocess.run(["pgrep", "-f", words], capture_output=True, text=True, check=True)
    return [int(pid) for pid in done.stdout.split()]


def test_a_lease_is_seen_while_it_lasts_and_a_refusal_with_its_reason(
    server: RunningServer, alice: Laptop, lab: Lab
) -> None:
    server.configure(LONG, addresses=[str(lab.server.ipv4)], state_folder=str(server.state),
                     control_socket=str(server.control_socket), user="nobody")  # fmt: skip
    server.command("reload")
    with watching(server) as terminal:
        terminal.wait_for("INSIDE: nobody")
        alice.client("knock", "office", "web", check=True)
        screen = terminal.wait_for("INSIDE (")
        line = next(line for line in screen.splitlines() if line.startswith("alice-laptop"))
        found = re.match(r"(\S+) +(\S+) +(\S+) +(\S+) +(\d\d:\d\d:\d\d) +([1-5]m \d\ds|\d+s) +(-|\d+)", line)
        assert found is not None, line
        assert found.groups()[:3] == ("alice-laptop", "alice", "web")
        assert found[4] in (str(alice.host.ipv4), str(alice.host.ipv6))
        alice.client("knock", "office", "wiki")
        assert "the device's roles do not allow service wiki" in terminal.wait_for("REFUSED")
        server.command("lease", "revoke", "alice-laptop")
        terminal.wait_for("INSIDE: nobody")
        server.kill()
        terminal.wait_for("server NOT RUNNING")
        server.start()
        terminal.wait_for("server running")
        terminal.type("q")
        assert terminal.status() == 0


@pytest.mark.parametrize("ended", ["q", "C-c", "SIGTERM", "SIGHUP"])
def test_however_it_ends_the_terminal_is_as_it_was(server: RunningServer, ended: str) -> None:
    with watching(server) as terminal:
        terminal.wait_for("INSIDE: nobody")
        if ended.startswith("SIG"):
            for pid in watchers(server):
                os.kill(pid, signal.Signals[ended])
        else:
            terminal.type(ended)
        assert terminal.status() == 0
        assert "INSIDE" not in terminal.screen()
        assert "Traceback" not in terminal.screen()
        # The shell's own screen is back, with its cursor, and a key is seen again: `cat` runs there now.
        terminal.type("still here")
        terminal.wait_for("still here")


def test_it_says_so_and_can_be_ended_while_a_process_does_not_answer(server: RunningServer) -> None:
    with watching(server) as terminal:
        terminal.wait_for("INSIDE: nobody")
        os.kill(server.firewall_pid, signal.SIGSTOP)
        try:
            terminal.wait_for("! nothing new for")
            terminal.type("q")
            assert terminal.status() == 0
        finally:
            os.kill(server.firewall_pid, signal.SIGCONT)


@pytest.mark.parametrize("size", [(80, 24), (40, 10)])
def test_it_fits_a_small_terminal_and_follows_its_size(
    server: RunningServer, alice: Laptop, size: tuple[int, int]
) -> None:
    alice.client("knock", "office", check=True)
    with watching(server, size=size) as terminal:
        screen = terminal.wait_for("INSIDE (")
        assert "alice-laptop" in screen
        assert "perimeter closed" in screen
        terminal.resize(120, 40)
        terminal.wait_for("datagrams at the gate")
        terminal.type("q")
        assert terminal.status() == 0


def test_no_colour_means_none(server: RunningServer) -> None:
    coloured = "\x1b[32m"
    with watching(server) as terminal:
        terminal.wait_for("INSIDE: nobody")
        assert coloured in terminal.colours()
    with watching(server, NO_COLOR="1") as terminal:
        terminal.wait_for("INSIDE: nobody")
        assert coloured not in terminal.colours()


def test_a_member_of_the_group_sees_what_status_shows_and_is_told_what_is_missing(
    server: RunningServer, alice: Laptop
) -> None:
    alice.client("knock", "office", check=True)
    server.config.chmod(0o644)
    with watching_as(server, "nogroup") as terminal:
        screen = terminal.wait_for("not shown: who is inside, and the refusals: for root")
        assert "datagrams at the gate" in screen
        assert "alice-laptop" not in screen
        terminal.type("q")
        assert terminal.status() == 0


def test_others_are_told_whom_it_is_for_and_keep_their_screen(server: RunningServer) -> None:
    server.config.chmod(0o644)
    with watching_as(server, "12345") as terminal:
        assert terminal.status() == 6
        assert "Permission denied; run it as root: sudo spa-server" in terminal.screen()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--watch",), "--watch needs a terminal; for a file or a program: spa-server status --json"),
        (("--watch", "--json"), "--watch is for people"),
        (("--every", "2s"), "--every goes with --watch"),
        (("--watch", "--every", "0s"), "--every is from 1s to 1h"),
    ],
)
def test_where_it_cannot_be_shown_it_says_what_to_do(server: RunningServer, words: tuple[str, ...], said: str) -> None:
    done = server.command("status", *words, check=False)
    assert done.returncode == 2
    assert said in done.stderr
    assert done.stdout == ""


def test_a_perimeter_without_a_server_is_told_of(server: RunningServer) -> None:
    server.stop()
    with watching(server) as terminal:
        screen = terminal.wait_for("server NOT RUNNING")
        assert "perimeter closed" in screen
        assert "no firewall process" in screen
        server.command("perimeter", "remove", "--yes")
        screen = terminal.wait_for("perimeter NOT UP")
        assert "INSIDE: nobody" in screen
        assert "not shown" not in screen
        terminal.type("q")
        assert terminal.status() == 0
