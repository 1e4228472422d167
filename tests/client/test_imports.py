"""What the client loads: nothing that only Linux has, and for each command only what it needs."""

from __future__ import annotations

import pkgutil
import subprocess
import sys

import spa_client

MODULES = sorted(module.name for module in pkgutil.walk_packages(spa_client.__path__, "spa_client."))
ONLY_POSIX = ("fcntl", "grp", "pwd", "resource", "termios", "tty", "pty", "syslog")


def run_python(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def test_no_module_of_the_client_needs_what_only_posix_has() -> None:
    assert "spa_client.commands.execute" in MODULES
    run_python(
        f"import sys\nfor name in {ONLY_POSIX!r}: sys.modules[name] = None\n"
        + "".join(f"import {module}\n" for module in MODULES)
    )


def test_a_knock_loads_only_what_it_needs() -> None:
    loaded = run_python("import sys, spa_client.commands.knock; print(*sys.modules)").split()
    unneeded = {"asyncio", "ssl", "http.client", "urllib.request", "subprocess", "logging", "rich", "email", "secrets"}
    assert not unneeded & set(loaded)
    assert not [name for name in loaded if name.startswith(("pyroute2", "scapy", "cryptography", "spa_server"))]
    assert "spa_client.enrol" not in loaded
    assert "spa_client.running" not in loaded
    assert not {"spa_client.posture.findings", "spa_client.posture.cache", "spa_client.posture.linux"} & set(loaded)


def test_the_group_alone_loads_no_command() -> None:
    loaded = run_python("import sys, spa_client.commands; print(*sys.modules)").split()
    assert not [name for name in loaded if name.startswith("spa_client.commands.")]
    assert "nacl" not in loaded
