"""The README's installation, typed as it stands by a new user: a server, a laptop, a knock.

The commands run in a mount namespace of their own with overlays over the folders they write to, so that `/etc/spa`, the
user `spa` and `/opt/spa` of this host are never touched; the server's and the laptop's in namespaces of the lab.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.blocks import ROOT, blocks
from tests.lab import Host, Lab

OVERLAID = ("/etc", "/opt", "/usr/local", "/var/lib", "/root", str(ROOT))
SCRIPTS = "/opt/spa/bin:/opt/laptop/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Sandbox:
    """A mount namespace in which the system's folders can be written without a trace."""

    def __init__(self) -> None:
        self._keeper = subprocess.Popen(["unshare", "--mount", "--propagation", "private", "sleep", "infinity"])
        home = Path("/proc/self/ns/mnt").readlink()
        deadline = time.monotonic() + 10
        while Path(f"/proc/{self._keeper.pid}/ns/mnt").readlink() == home:
            assert time.monotonic() < deadline, "unshare did not start"
        lines = ["set -e", "mount -t tmpfs tmpfs /mnt", "mount -t tmpfs tmpfs /run"]
        for number, folder in enumerate(OVERLAID):
            lines += [
                f"mkdir /mnt/{number} /mnt/{number}/upper /mnt/{number}/work && cd /mnt/{number}",
                f"mount -t overlay overlay -o lowerdir={folder},upperdir=upper,workdir=work {folder}",
            ]
        self.run("\n".join(lines))

    def argv(self, line: str, host: Host | None = None) -> list[str]:
        network = [f"--net=/run/netns/{host.name}"] if host else []
        return ["nsenter", f"--mount=/proc/{self._keeper.pid}/ns/mnt", *network, "sh", "-c", f"cd {ROOT} && {line}"]

    def run(self, line: str, host: Host | None = None) -> str:
        """What a line prints; it must succeed."""
        done = subprocess.run(
            self.argv(line, host), capture_output=True, text=True, timeout=150, check=False, env=self.environment
        )
        assert done.returncode == 0, f"{line}: {done.stdout}{done.stderr}"
        return done.stdout

    @property
    def environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("SPA_", "XDG_", "PYTHON"))}
        return kept | {"PATH": SCRIPTS, "HOME": "/root"}

    def close(self) -> None:
        self._keeper.kill()
        self._keeper.wait()


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with contextlib.closing(Sandbox()) as made:
        yield made


def lines_of(block: str) -> list[str]:
    return [line for line in block.splitlines() if line.strip()]


@pytest.mark.timeout(400)
def test_the_installation_works_as_it_is_typed(sandbox: Sandbox, tmp_path: Path) -> None:
    page = ROOT / "README.md"
    install = next(lines_of(block) for block in blocks(page, "console") if "spa-server init" in block)
    invite = next(lines_of(block) for block in blocks(page, "console") if "spa-server invite" in block)
    laptop = next(lines_of(block) for block in blocks(page, "console") if "spa-client join" in block)
    use = next(lines_of(block) for block in blocks(page, "console") if "spa-client knock" in block)

    with Lab(clients=("laptop", "stranger")) as lab, lab.server.listen_tcp(8443):
        user = lab.clients["laptop"]
        sandbox.run(f"echo '{lab.server.ipv4} gw.example.org\n{lab.server.ipv6} gw.example.org' >> /etc/hosts")
        # The packages themselves are tests/prepare's; the checkout is installed as a new user would do it.
        for line in install[1:4]:
            sandbox.run(line)
        assert install[0].startswith("apt-get install")
        assert install[-1] == "spa-server run"
        for line in install[4:-1]:
            sandbox.run(line, lab.server)
        log = tmp_path / "log"
        with log.open("w") as file:
            server = subprocess.Popen(
                sandbox.argv(f"exec {install[-1]}", lab.server), stderr=file, env=sandbox.environment
            )
        try:
            wait_for(log, "ready")
            text = sandbox.run(invite[0], lab.server).strip()
            sandbox.run("python3 -m venv /opt/laptop")
            assert shlex.split(laptop[0])[:2] == ["pip", "install"]
            sandbox.run(f"/opt/laptop/bin/{laptop[0]}")
            sandbox.run(laptop[1].replace("spa-invite1...", text), user)
            assert not user.reaches_tcp(lab.server.ipv4, 8443)
            assert "open: web (tcp/8443)" in sandbox.run(use[0], user)
            assert user.reaches_tcp(lab.server.ipv4, 8443)
            assert user.reaches_tcp(lab.server.ipv6, 8443)
            assert not lab.clients["stranger"].reaches_tcp(lab.server.ipv4, 8443)
            assert "for 120 s" in sandbox.run(use[1], user)
            assert "alice-laptop" in sandbox.run("spa-server lease list", lab.server)
        finally:
            server.terminate()
            server.wait(timeout=10)


def wait_for(log: Path, word: str) -> None:
    deadline = time.monotonic() + 20
    while word not in log.read_text():
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.02)
