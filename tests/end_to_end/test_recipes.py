"""docs/recipes.md: what can be run there is run, from a laptop in the lab that knows the server by its name.

The other ends are an HTTPS server with a certificate of its own authority, and for git and psql, whose servers would
show nothing of ours, a listener and programs that say what they were asked for.
"""

from __future__ import annotations

import base64
import configparser
import http.server
import io
import re
import shlex
import shutil
import ssl
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.docs.blocks import ROOT, blocks
from tests.end_to_end.certificates import Certificates
from tests.end_to_end.laptop import SCRIPTS
from tests.end_to_end.running import RunningServer
from tests.lab import Host, Lab, check_surroundings

PAGE = ROOT / "docs" / "recipes.md"
NAME = "gw.example.org"
SERVICES = """
[service.web]
tcp = [8443]
roles = ["admin"]

[service.ssh]
tcp = [22]
roles = ["admin"]

[service.db]
tcp = [5432]
roles = ["admin"]
"""
CONNECTS = """#!{python}
import os, socket, sys
socket.create_connection(("gw.example.org", {port}), 10).close()
{then}
"""
SSH = 'os.execv("/bin/sh", ["sh", "-c", sys.argv[-1]])'
PSQL = "print(*sys.argv[1:])"


class Handler(http.server.BaseHTTPRequestHandler):
    """Says which page was asked for."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        body = f"this is {self.path}\n".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: Any) -> None:
        """Be silent."""


@pytest.fixture
def server(lab: Lab, folder: Path) -> Iterator[RunningServer]:
    """A server with the services of the page, and what listens behind them."""
    check_surroundings({"curl": "curl", "git": "git"})
    certificates = Certificates.made(folder, NAME)
    with RunningServer(lab, folder, SERVICES, slots=64) as running, ExitStack() as stack:
        for port in (22, 5432):
            stack.enter_context(lab.server.listen_tcp(port))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificates.chain)
        web = http.server.ThreadingHTTPServer(("", 0), Handler, bind_and_activate=False)
        web.socket.close()
        web.socket = context.wrap_socket(lab.server.listen_tcp(8443), server_side=True, do_handshake_on_connect=False)
        stack.callback(web.server_close)
        thread = threading.Thread(target=web.serve_forever, daemon=True)
        thread.start()
        stack.callback(web.shutdown)
        yield running


@dataclass(frozen=True, slots=True)
class Desk:
    """A laptop's shell, in which the server has a name."""

    host: Host
    folder: Path
    env: dict[str, str]

    def sh(self, script: str) -> str:
        """Run a script, which must succeed; what it printed."""
        return self.run(["sh", "-e", "-c", script]).stdout

    def run(self, argv: list[str], env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        inside = 'mount --bind "$0" /etc/hosts && cd "$1" && shift && exec "$@"'
        words = ["unshare", "--mount", "sh", "-c", inside, str(self.folder / "hosts"), str(self.folder), *argv]
        return self.host.run(words, env={**self.env, **(env or {})}, timeout=300)


@pytest.fixture
def desk(server: RunningServer, lab: Lab) -> Desk:
    """Alice's, with office joined under the server's name, and the programs that say what they were asked for."""
    alice, home = lab.clients["alice"], server.folder / "home"
    (home / "bin").mkdir(parents=True)
    (home / "hosts").write_text(f"127.0.0.1 localhost\n{lab.server.ipv4} {NAME}\n{lab.server.ipv6} {NAME}\n")
    for name, port, then in (("ssh", 22, SSH), ("psql", 5432, PSQL)):
        program = home / "bin" / name
        program.write_text(CONNECTS.format(python=sys.executable, port=port, then=then))
        program.chmod(0o755)
    authority = str(server.folder / "authority.pem")
    env = {
        "PATH": f"{home}/bin:{SCRIPTS}:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": str(home),
        "LC_ALL": "C.UTF-8",
        **dict.fromkeys(("CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"), authority),
    }
    made = Desk(alice, home, env)
    made.sh(f"spa-client join --timeout 20 --name office {server.invite('alice-laptop', '--address', NAME)}")
    assert alice.is_kept_out(lab.server.ipv4, 8443)
    return made


def block_with(language: str, words: str) -> str:
    """The block of the page in which they are."""
    return next(block for block in blocks(PAGE, language) if words in block)


def test_curl(desk: Desk) -> None:
    assert desk.sh(block_with("console", "/health")) == "this is /health\n"
    assert desk.sh(block_with("console", "for page")) == "this is /a\nthis is /b\n"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("requests.get", "this is /health\n\n"),
        ("httpx.AsyncClient", "this is /health\n\nthis is /a\n\nthis is /b\n\n"),
        ("spa_client.Refused", "open for 30 s\n"),
    ],
)
def test_python(words: str, said: str, desk: Desk) -> None:
    assert desk.run([sys.executable, "-c", block_with("python", words)]).stdout == said


def test_python_is_told_why_not(desk: Desk, server: RunningServer) -> None:
    server.command("device", "disable", "alice-laptop")
    script = block_with("python", "spa_client.Refused")
    assert desk.run([sys.executable, "-c", script]).stdout == "no: DEVICE_DISABLED\n"


def test_git(desk: Desk) -> None:
    origin = desk.folder / "project.git"
    desk.sh(f"git init --quiet --bare --initial-branch main {origin}")
    clone, pull = block_with("console", "git clone"), block_with("console", "core.sshCommand")
    desk.sh(clone.replace("/srv/project.git", str(origin)))
    commit = "git -c user.name=a -c user.email=a@example.org commit --quiet --allow-empty --message first"
    desk.sh(f"git clone --quiet {origin} other && cd other && {commit} && git push --quiet origin HEAD:main")
    desk.sh(pull)
    assert "first" in desk.sh("git -C project log")


def test_psql(desk: Desk) -> None:
    said = desk.sh(block_with("console", "psql"))
    assert said == "host=gw.example.org dbname=app sslmode=verify-full --command select 1\n"


def test_cron(desk: Desk) -> None:
    path, line = block_with("cron", "* * *").splitlines()
    assert re.fullmatch(r"PATH=[/\w:]+", path)
    assert "%" not in line, "which cron makes a new line of"
    command = line.split(maxsplit=5)[5]
    assert desk.run(["/bin/sh", "-c", command]).stdout == "this is /health\n"


def test_the_systemd_units(desk: Desk) -> None:
    service, timer = (configparser.ConfigParser(interpolation=None) for _ in range(2))
    for parser, words in ((service, "ExecStart"), (timer, "OnCalendar")):
        parser.optionxform = str  # type: ignore[assignment,method-assign]  # as its documentation has it
        parser.read_string(block_with("ini", words))
    command = service["Service"]["ExecStart"].replace("%t", str(desk.folder))
    desk.run(shlex.split(command))
    assert (desk.folder / "report").read_text() == "this is /health\n"
    assert set(service["Service"]["RestartForceExitStatus"].split()) == {"124", "126"}
    if shutil.which("systemd-analyze"):
        calendar = subprocess.run(["systemd-analyze", "calendar", timer["Timer"]["OnCalendar"]], check=False)
        assert calendar.returncode == 0


class TestAnsible:
    """With the real ansible-playbook; the gateway is this computer, so that no ssh server is needed."""

    @pytest.fixture
    def play(self, desk: Desk) -> Path:
        path = desk.folder / "site.yml"
        path.write_text(block_with("yaml", "gateways").replace("/tmp/kept", f"{desk.folder}/kept"))
        python = f"ansible_connection=local ansible_python_interpreter={sys.executable}"
        (desk.folder / "hosts.ini").write_text(f"[gateways]\ngw {python}\n[all:vars]\n{python}\n")
        return path

    def test_the_play_knocks_before_it_connects(self, play: Path, desk: Desk, server: RunningServer) -> None:
        said = desk.sh("ansible-playbook --inventory hosts.ini site.yml")
        assert "open for 300 s" in said
        assert re.search(r"gw +: ok=4 +changed=1 ", said), said
        assert (desk.folder / "kept-up-to-date").exists()
        assert [lease["service"] for lease in server.leases()].count("ssh") == 2

    def test_a_play_runs_in_the_door(self, play: Path, desk: Desk) -> None:
        assert "failed=0" in desk.sh(block_with("console", "ansible-playbook"))


class TestContinuousIntegration:
    """The steps of the workflow, one after the other, as a runner takes them."""

    @pytest.fixture
    def runner(self, desk: Desk) -> Desk:
        """A computer that has never heard of the server."""
        home = desk.folder / "runner"
        home.mkdir()
        shutil.copy(desk.folder / "hosts", home)
        return Desk(desk.host, home, {**desk.env, "HOME": str(home)})

    def test_the_job_takes_up_a_delegation_deploys_and_forgets(
        self, desk: Desk, runner: Desk, server: RunningServer
    ) -> None:
        secret = desk.sh(block_with("console", "spa-client delegate")).strip()
        said = [self.step(runner, step, secret) for step in self.steps()]
        assert "this is /deploy\n" in said
        assert list((runner.folder / ".config" / "spa").glob("*")) == []
        assert [(seen["device"], seen["name"]) for seen in server.json("delegation", "list")] == [
            ("alice-laptop", "ci")
        ]
        assert "alice-laptop+ci" not in {lease["device"] for lease in server.leases()}, "the door is shut behind it"

    def test_a_device_can_be_kept_as_a_secret(self, desk: Desk, runner: Desk, server: RunningServer) -> None:
        joining = block_with("console", "base64").replace("spa-invite1...", server.invite("ci", "--address", NAME))
        join, pack, forget = joining.splitlines()
        desk.sh(join)
        secret = desk.sh(pack)
        desk.sh(forget)
        with tarfile.open(fileobj=io.BytesIO(base64.b64decode(secret))) as kept:
            assert {member.mode & 0o077 for member in kept} == {0}
        runner.run(["sh", "-e", "-c", block_with("sh", "umask")], {"SPA_CI": secret})
        assert "open: web" in runner.sh("spa-client knock ci web")

    @staticmethod
    def steps() -> list[dict[str, Any]]:
        workflow = yaml.safe_load(block_with("yaml", "runs-on"))
        return [step for step in workflow["jobs"]["deploy"]["steps"] if "run" in step]

    @staticmethod
    def step(runner: Desk, step: dict[str, Any], secret: str) -> str:
        if step["run"].startswith("pip install"):
            return ""
        env: dict[str, str] = {
            name: re.sub(r"\$\{\{ secrets\.SPA_CI }}", secret, value) for name, value in step.get("env", {}).items()
        }
        assert "${{" not in "".join([*env.values(), step["run"]])
        return runner.run(["bash", "-e", "-o", "pipefail", "-c", step["run"]], env).stdout
