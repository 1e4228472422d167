"""What a new operator gets wrong: each gives one line that says what to do, and the documented exit code."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.end_to_end.running import KNOCK_PORT, SCRIPTS, WEB, Laptop, RunningServer, enrolled
from tests.lab import Lab

CONFIGURATION, NOT_PERMITTED, FAULT, REFUSED, USAGE = 5, 6, 7, 3, 2


@pytest.fixture
def server(lab: Lab, folder: Path) -> RunningServer:
    """A server that was set up and does not run yet."""
    return RunningServer(lab, folder)


def said(done: subprocess.CompletedProcess[str], code: int) -> str:
    """The one line of a command that failed with that code."""
    assert done.returncode == code, done.stderr
    assert done.stdout == ""
    assert done.stderr.startswith("spa-server: ")
    assert done.stderr.count("\n") == 1
    return done.stderr.removeprefix("spa-server: ").strip()


def logged(done: subprocess.CompletedProcess[str], code: int) -> str:
    """The one line that says what to do, of a server that ended with that code while it was starting."""
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    lines = [line for line in done.stderr.splitlines() if " INFO " not in line]
    lines = [line for line in lines if "the perimeter stays closed" not in line]
    assert len(lines) == 1, done.stderr
    return lines[0]


def without_nft(server: RunningServer, *argv: str) -> subprocess.CompletedProcess[str]:
    """A command in a mount namespace where `nft` cannot be run, as if it were not installed."""
    nft = shutil.which("nft", path="/usr/sbin:/sbin:/usr/bin")
    hidden = f"mount --bind /dev/null {nft} && exec {SCRIPTS}/spa-server {' '.join(argv)} --config {server.config}"
    return server.host.run(["unshare", "--mount", "sh", "-c", hidden], check=False)


@pytest.mark.parametrize("argv", [("run",), ("perimeter", "apply")])
def test_without_nft(server: RunningServer, argv: tuple[str, ...]) -> None:
    assert said(without_nft(server, *argv), FAULT) == "nft is not installed: apt-get install nftables"


@pytest.mark.parametrize(
    "argv", [("run",), ("init",), ("perimeter", "apply"), ("lease", "list"), ("lease", "revoke", "x")]
)
def test_not_as_root(server: RunningServer, argv: tuple[str, ...]) -> None:
    """In a user namespace of its own a process is nobody, and may still read what root's files are."""
    server.config.write_text(server.config.read_text().replace('"nobody"', '"daemon"'))
    words = ["unshare", "--user", str(SCRIPTS / "spa-server"), *argv, "--config", str(server.config)]
    line = said(server.host.run(words, check=False), NOT_PERMITTED)
    assert "needs root: run it with sudo" in line


def test_the_knock_port_is_in_use(server: RunningServer, lab: Lab) -> None:
    with lab.server.bind_udp(KNOCK_PORT):
        line = said(server.command("run", check=False), FAULT)
    assert line == "udp/62201 is in use by another program; find it with: ss -lunp 'sport = :62201'"


def test_a_second_server_is_told_of_the_first_and_does_it_no_harm(server: RunningServer, lab: Lab) -> None:
    with server:
        alice = enrolled(server, lab.clients["alice"], "alice-laptop")
        alice.client("knock", "office", check=True)
        line = said(server.command("run", check=False), FAULT)
        assert line == f"a server is running already ({server.control_socket} answers); stop it first"
        assert len(server.leases()) == 4
        alice.client("knock", "office", check=True)


def test_a_firewall_of_another_table_is_named_with_the_command_that_mends_it(server: RunningServer, lab: Lab) -> None:
    accept_icmp = "meta l4proto { 1, 58 } accept"
    chain = f"type filter hook input priority 0; policy drop; udp dport 62201 accept; {accept_icmp};"
    lab.server.nft(f"table inet filter {{ chain input {{ {chain} }}\n}}")
    with server, lab.server.listen_tcp(8443):
        warning = server.wait_for_log("chain input of table inet filter drops")
        alice = enrolled(server, lab.clients["alice"], "alice-laptop")
        refused = alice.client("knock", "office", "--wait")
        assert refused.returncode == 4
        assert refused.stderr.startswith("spa-client: granted, but tcp/8443 on ")
        assert "another firewall on the server drops it" in refused.stderr
        assert refused.stderr.count("\n") == 1
        commands = warning.split("keeps closed: ")[1].strip()
        assert re.fullmatch(r"(nft insert rule inet filter input (tcp|udp) dport 8443 accept( && )?)+", commands)
        lab.server.run(["sh", "-c", commands])
        alice.client("knock", "office", "--wait", check=True)


def test_there_is_no_configuration(server: RunningServer) -> None:
    server.config.unlink()
    for argv in (("run",), ("invite", "x", "--user", "u", "--role", "r"), ("device", "list"), ("status",), ("why",)):
        line = said(server.command(*argv, check=False), CONFIGURATION)
        assert line == f"server.toml: there is no {server.config}; run: spa-server init"


def test_everything_wrong_in_the_configuration_is_told_at_once(server: RunningServer) -> None:
    server.configure(
        """
[service.web]
tcp = [0, 65536]
source = "guess"
color = "red"
""",
        addresses=["gw.example.org"],
        knock_port=70000,
        slots="many",
    )
    done = server.command("run", check=False)
    assert done.returncode == CONFIGURATION
    lines = done.stderr.splitlines()
    assert all(line.startswith("spa-server: server.toml: ") for line in lines)
    for key in ("server.knock_port", "server.slots", "service.web.tcp", "service.web.source", "service.web.color"):
        assert any(key in line for line in lines), key
    assert "Traceback" not in done.stderr


def test_the_configuration_is_not_toml(server: RunningServer) -> None:
    server.config.write_text("[server\n")
    assert said(server.command("run", check=False), CONFIGURATION).startswith("server.toml: line 1, column ")


@pytest.mark.parametrize("missing", ["state", "state.sqlite3", "server.key"])
def test_state_is_missing(server: RunningServer, missing: str) -> None:
    gone = server.state if missing == "state" else server.state / missing
    if missing == "server.key":
        gone = server.folder / missing
    gone.rename(server.folder / "elsewhere")
    line = logged(server.command("run", check=False), CONFIGURATION)
    assert str(gone) in line
    assert line.endswith("spa-server init")


@pytest.mark.parametrize("name", [".", "server.key", "state.sqlite3"])
def test_a_secret_that_others_can_read_is_refused(server: RunningServer, name: str) -> None:
    (server.folder / name if name == "server.key" else server.state / name).chmod(0o755)
    line = logged(server.command("run", check=False), CONFIGURATION)
    assert "chmod 0" in line or "chmod 6" in line


def test_the_user_does_not_exist(server: RunningServer) -> None:
    text = server.config.read_text().replace('"nobody"', '"no-such-user"')
    server.config.write_text(text)
    line = said(server.command("run", check=False), CONFIGURATION)
    assert line.startswith("there is no user no-such-user: useradd ")


def test_nothing_is_overwritten_by_init(server: RunningServer) -> None:
    before = server.config.read_bytes()
    words = ("init", "--address", "gw.example.org", "--state-folder", str(server.state), "--user", "nobody")
    line = said(server.command(*words, check=False), REFUSED)
    assert line == f"{server.config} exists already and is not overwritten; move it away to start anew"
    assert server.config.read_bytes() == before


def test_what_is_asked_for_makes_no_sense(server: RunningServer) -> None:
    said(server.command("invite", "new-laptop", check=False), USAGE)
    said(server.command("why", "bad label!", check=False), USAGE)
    said(server.command("invite", "bad label!", "--user", "u", "--role", "r", check=False), REFUSED)
    for argv in (("device", "show"), ("device", "disable"), ("device", "remove"), ("why",)):
        said(server.command(*argv, "nobody-knows", check=False), REFUSED)


def test_nobody_has_a_lease_to_revoke(server: RunningServer) -> None:
    with server:
        assert said(server.command("lease", "revoke", "alice", check=False), REFUSED).endswith("spa-server lease list")


def test_status_without_a_server_says_what_to_start(server: RunningServer) -> None:
    done = server.command("status", check=False)
    assert done.returncode == FAULT
    assert "NOT UP" in done.stdout
    assert "spa-server perimeter apply" in done.stdout
    assert "not running: systemctl start spa-server, or: spa-server run" in done.stdout
    server.command("perimeter", "apply")
    assert "closed, standing in the kernel" in server.command("status", check=False).stdout


def test_a_bad_import_changes_nothing(server: RunningServer, folder: Path) -> None:
    for text in ("not json", "{}", '[{"label": "x"}]'):
        done = server.command("device", "import", "-", input=text, check=False)
        said(done, USAGE if text == "not json" else REFUSED)
    assert server.json("device", "list") == []


def test_the_log_of_a_crash_is_not_a_traceback(server: RunningServer, lab: Lab) -> None:
    """The state vanishes under the running server: it says so, grants nothing, and does not end."""
    with server:
        alice: Laptop = enrolled(server, lab.clients["alice"], "alice-laptop")
        server.state.rename(folder := server.folder / "moved")
        alice.client("knock", "office", "--timeout", "0.3")
        folder.rename(server.state)
        alice.client("knock", "office", check=True)
        assert "Traceback" not in server.log()


def test_the_template_of_init_is_a_configuration_that_runs(lab: Lab, folder: Path) -> None:
    server = RunningServer(lab, folder)
    server.config.unlink()
    shutil.rmtree(server.state)
    (folder / "server.key").unlink()
    words = ["--state-folder", str(server.state), "--control-socket", str(server.control_socket), "--user", "nobody"]
    server.command("init", "--address", str(lab.server.ipv4), *words)
    with server:
        enrolled(server, lab.clients["alice"], "alice-laptop").client("knock", "office", "web", check=True)
    assert WEB.split()[0] in server.config.read_text()
