"""Completion in real shells: bash, zsh and fish are started, given the lines that `spa-client completion` prints, and
asked what they offer.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from spa_client.commands import COMMANDS
from spa_client.enrol import join
from spa_client.perimeter import KnownService, Perimeter
from spa_client.storage import Store
from tests.client.gatekeeper import Gatekeeper

SCRIPTS = Path(sysconfig.get_path("scripts"))
SHELLS = ("bash", "zsh", "fish")
Offered = Callable[[str], set[str]]

_BASH = """
source {script}
COMP_LINE={line} COMP_POINT=${{#COMP_LINE}}
COMP_WORDS=({words}) COMP_CWORD={number}
compopt() {{ :; }}
_spa_client_completion spa-client
printf '%s\\n' "${{COMPREPLY[@]}}"
"""
_ZSH = """
autoload -Uz compinit && compinit -D -u
source {script}
compadd() {{ while [[ $1 != -a ]]; do shift; done; print -l -- ${{(P)2}} }}
_describe() {{ print -l -- ${{${{(P)3}}%%:*}} }}
words=({words}) CURRENT=$(({number} + 1))
_spa_client_completion
"""
_FISH = "source {script}; complete --do-complete {line}"
_PROGRAMS = {"bash": _BASH, "zsh": _ZSH, "fish": _FISH}


@pytest.fixture(params=SHELLS)
def shell(request: pytest.FixtureRequest) -> str:
    """A shell that is here; missing ones are installed, not passed over."""
    name = str(request.param)
    if shutil.which(name) is None:
        pytest.fail(f"missing programs: apt-get install -y {name}", pytrace=False)
    return name


@pytest.fixture
def offered(shell: str, store: Store, tmp_path: Path) -> Offered:
    """What the shell offers at the end of a line."""
    environment = {**os.environ, "PATH": f"{SCRIPTS}{os.pathsep}{os.environ['PATH']}", "HOME": str(tmp_path)}
    script = tmp_path / "completion"
    made = subprocess.run(["spa-client", "completion", shell], env=environment, capture_output=True, check=True)
    script.write_bytes(made.stdout)

    def ask(line: str) -> set[str]:
        words = line.split(" ")
        quoted = " ".join(map(shlex.quote, words))
        program = _PROGRAMS[shell].format(script=script, line=shlex.quote(line), words=quoted, number=len(words) - 1)
        start = [shell, "-i", "-c", program] if shell == "bash" else [shell, "-c", program]
        done = subprocess.run(
            start, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, cwd=tmp_path
        )
        # fish gives the description after a tab.
        return {entry.split("\t")[0] for entry in done.stdout.splitlines() if entry}

    return ask


@pytest.fixture
def home(server: Gatekeeper, office: Perimeter, store: Store) -> Perimeter:
    """A second perimeter, with services of its own."""
    services = (KnownService("web", 8443, 0, False), KnownService("web-admin", 9443, 0, False))
    perimeter = replace(join(server.invite().text(), store=store, name="home"), services=services)
    store.save(perimeter)
    return perimeter


def test_every_command_is_offered(offered: Offered) -> None:
    assert offered("spa-client ") >= set(COMMANDS)
    assert offered("spa-client sh") == {"show"}


@pytest.mark.parametrize("command", ["knock", "exec", "show", "remove", "rename", "default", "approve", "deny"])
def test_perimeters_are_offered_by_name(command: str, offered: Offered, home: Perimeter) -> None:
    assert offered(f"spa-client {command} ") == {"home", "office"}
    assert offered(f"spa-client {command} o") == {"office"}


def test_the_named_perimeters_services_are_offered_once_each(offered: Offered, home: Perimeter) -> None:
    assert offered("spa-client knock home ") == {"web", "web-admin"}
    assert offered("spa-client knock office ") == {"web"}
    assert offered("spa-client knock home web ") == {"web-admin"}
    assert offered("spa-client knock --for 60 home web-") == {"web-admin"}
    assert offered("spa-client exec home --service ") == {"web", "web-admin"}


def test_options_are_offered(offered: Offered) -> None:
    assert {"--json", "--wait", "--timeout"} <= offered("spa-client knock --")
    assert offered("spa-client join --no-") == {"--no-answer"}


@pytest.mark.parametrize("damage", [b"", b"\xff", b"service = 3", b"[[service]]\nname = [1]\n", b"[[service]]"])
def test_what_is_damaged_is_passed_over_in_silence(damage: bytes, home: Perimeter, store: Store) -> None:
    (store.folder / "home" / "perimeter.toml").write_bytes(damage)
    assert store.service_names("home") == ()
    assert store.service_names("nowhere") == ()


WATCHED = """
import os, sys
FOLDER = os.environ["SPA_CLIENT_FOLDER"]
def watch(event, arguments):
    if event.startswith("socket.") or event in ("os.mkdir", "os.rename", "os.remove", "subprocess.Popen", "os.fork"):
        print("AUDIT", event, arguments, file=sys.stderr)
    if event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
        print("AUDIT", event, arguments, file=sys.stderr)
    if event == "open" and str(arguments[0]).startswith(FOLDER) and not str(arguments[0]).endswith(".toml"):
        print("AUDIT", event, arguments, file=sys.stderr)
sys.addaudithook(watch)
sys.dont_write_bytecode = True
from spa_client.commands import main
main()
"""
"""The client, telling of each socket, process and write, and of each look at a file that could hold a secret."""


def audited(arguments: list[str], **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", WATCHED, *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("line", ["spa-client ", "spa-client knock ", "spa-client knock home ", "spa-client exec "])
def test_completing_opens_no_socket_writes_nothing_and_reads_no_secret(line: str, home: Perimeter) -> None:
    words = line.split(" ")
    done = audited([], _SPA_CLIENT_COMPLETE="bash_complete", COMP_WORDS=line, COMP_CWORD=str(len(words) - 1))
    assert done.stdout.startswith("plain,")
    assert done.stderr == ""


@pytest.mark.parametrize("arguments", [["--help"], ["knock", "--help"], ["completion", "bash"], ["--version"]])
def test_neither_does_help(arguments: list[str], home: Perimeter) -> None:
    done = audited(arguments)
    assert done.returncode == 0
    assert done.stderr == ""


def test_what_is_watched_for_would_be_seen(home: Perimeter) -> None:
    said = audited(["knock", "office"]).stderr
    assert "AUDIT socket." in said
    assert "device.key" in said
