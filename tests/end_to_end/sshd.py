"""OpenSSH in the lab: a server for one test, and the words that make `ssh` and `scp` use it.

It must not know perimeters.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.lab import Host
from tests.stalls import wait_until

PROGRAMS = {"/usr/sbin/sshd": "openssh-server", "ssh": "openssh-client", "scp": "openssh-client"}
"""Program and the Debian package that holds it."""

_SERVER_CONFIG = """
{ports}
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/user_key.pub
PidFile none
UsePAM no
StrictModes no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
Subsystem sftp internal-sftp
LogLevel ERROR
"""
_CLIENT_OPTIONS = ("BatchMode=yes", "StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "LogLevel=ERROR")


@contextlib.contextmanager
def running_sshd(host: Host, folder: Path, *ports: int) -> Iterator[None]:
    """A server on those ports of that host; its keys and the user's are made in the folder."""
    for name in ("host_key", "user_key"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)], check=True)
    config = folder / "sshd_config"
    config.write_text(_SERVER_CONFIG.format(ports="\n".join(f"Port {port}" for port in ports), folder=folder))
    # Where it puts itself before anybody has logged in.
    Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    process = host.popen(["/usr/sbin/sshd", "-D", "-e", "-f", str(config)], stderr=sys.stderr)
    try:
        wait_until(lambda: all(host.reaches_tcp("127.0.0.1", port) for port in ports), "sshd listens")
        yield
    finally:
        process.terminate()
        process.wait(60)


def options(folder: Path, proxy_command: str = "") -> Sequence[str]:
    """What `ssh` and `scp` have to be told."""
    told = [*_CLIENT_OPTIONS, f"IdentityFile={folder / 'user_key'}", "IdentitiesOnly=yes"]
    if proxy_command:
        told.append(f"ProxyCommand={proxy_command}")
    return ["-F", "none", *(word for each in told for word in ("-o", each))]
