"""Somebody who types what the documentation says: root on a fresh Debian, and alice, who is not root, at her laptop.

The laptop is a folder and a user of the same machine, in the network namespace of another host of the lab. Nothing is
fetched: pip is shown the wheels that the tests have. It must not know pytest, nor what the pages say.
"""

from __future__ import annotations

import shutil
import subprocess
import tarfile
from collections.abc import Mapping
from pathlib import Path

from tests.docs.blocks import ROOT
from tests.lab import Host
from tests.systemd.installing import wheels_folder
from tests.systemd.machine import Machine

SERVER_NAME = "gw.example.org"
USER, HOME = "alice", "/home/alice"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
WHEELS = "/srv/wheels"
CURL = """#!/usr/bin/python3
import socket, sys, urllib.parse
url = urllib.parse.urlsplit(sys.argv[1])
socket.create_connection((url.hostname, url.port), 10).close()
"""
SSH = '#!/bin/sh\necho ssh "$@"\n'
_SOURCE = ("pyproject.toml", "README.md", "LICENSE", "spa_protocol", "spa_client", "spa_server", "systemd", "man")


class Reader:
    """The two shells."""

    def __init__(self, machine: Machine, laptop: Host, folder: Path) -> None:
        """Give both a checkout. `folder`: an empty one for what is copied."""
        self.machine = machine
        self._laptop = laptop
        checkout = folder / "checkout.tar"
        with tarfile.open(checkout, "w") as tar:
            for name in _SOURCE:
                tar.add(ROOT / name, f"checkout/{name}", filter=_is_source)
        wheels = folder / "wheels"
        shutil.copytree(wheels_folder(), wheels)
        machine.run("useradd", "--create-home", "--shell", "/bin/sh", USER)
        machine.add(checkout, "/srv")
        machine.add(wheels, "/srv")
        for home, owner in (("/root", "root"), (HOME, USER)):
            machine.run("tar", "-x", "--no-same-owner", "-f", "/srv/checkout.tar", "-C", home)
            machine.run("chown", "-R", owner, f"{home}/checkout")
        addresses = "".join(f"{address} {SERVER_NAME}\n" for address in (machine.host.ipv4, machine.host.ipv6))
        machine.write("/etc/hosts", f"127.0.0.1 localhost\n{addresses}")

    def as_root(self, text: str) -> str:
        """What root's lines on the server print; each must succeed."""
        return _output(self.machine.run(*_shell("/root", {"HOME": "/root"}, text), check=False, timeout=150), text)

    def on_the_laptop(self, text: str) -> str:
        """What alice's lines on the laptop print; each must succeed."""
        there = [f"--target={self.machine.leader}", "--mount", "--pid", f"--net=/run/netns/{self._laptop.name}"]
        become = ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--init-groups", "--no-new-privs"]
        shell = _shell(HOME, {"HOME": HOME, "PATH": f"{HOME}/venv/bin:{HOME}/bin:{PATH}"}, text)
        argv = ["nsenter", *there, *become, "--", *shell]
        done = subprocess.run(
            argv, env={}, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=150, check=False
        )
        return _output(done, text)


def _shell(home: str, more: Mapping[str, str], text: str) -> list[str]:
    env = {"PATH": PATH, "LC_ALL": "C.UTF-8", "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": WHEELS, **more}
    words = [f"{name}={value}" for name, value in env.items()]
    return ["env", "--chdir", f"{home}/checkout", *words, "sh", "-e", "-c", text]


def _output(done: subprocess.CompletedProcess[str], text: str) -> str:
    assert done.returncode == 0, f"{text}\nended with {done.returncode}:\n{done.stdout}{done.stderr}"
    return done.stdout


def _is_source(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
    return None if "__pycache__" in entry.name or entry.name.endswith(".egg-info") else entry
