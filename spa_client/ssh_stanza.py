"""The lines for an OpenSSH configuration that send ssh, scp and sftp through a perimeter (ssh_config(5)).

It must not know where the configuration is.
"""

from __future__ import annotations

import shlex
import shutil
import sys
from pathlib import Path

from spa_client.perimeter import KnownService, Perimeter

SSH_PORT = 22


def stanza(perimeter: Perimeter, program: tuple[str, ...]) -> str:
    """The stanza; `program`: the words that start this client."""
    names = dict.fromkeys((perimeter.name, *perimeter.hosts))
    lines = [f"Host {' '.join(names)}", f"    HostName {perimeter.hosts[0]}"]
    service = _ssh_service(perimeter.services)
    if service is not None and service.tcp_port != SSH_PORT:
        lines.append(f"    Port {service.tcp_port}")
    # ssh expands what begins with % and gives the rest to a shell.
    words = (*program, "proxy", perimeter.name)
    lines.append(f"    ProxyCommand {_quoted(words).replace('%', '%%')} %h %p")
    return "\n".join(lines) + "\n"


def own_program() -> tuple[str, ...]:
    """The words that start this very program, from any folder."""
    called = Path(sys.argv[0])
    found = shutil.which(str(called)) if called.name.startswith("spa-client") else None
    if found is None:
        return (sys.executable, "-m", "spa_client")
    return (str(Path(found).absolute()),)


def _ssh_service(services: tuple[KnownService, ...]) -> KnownService | None:
    """The one at ssh's port, or else of its name; where there is neither, ssh's own default is as good as any."""
    at_port = [service for service in services if service.tcp_port == SSH_PORT]
    named = [service for service in services if service.tcp_port and "ssh" in service.name]
    return next(iter((*at_port, *named)), None)


def _quoted(words: tuple[str, ...]) -> str:
    if sys.platform != "win32":
        return shlex.join(words)
    # cmd.exe knows no other quotes, and a path there cannot hold one.
    return " ".join(f'"{word}"' if " " in word else word for word in words)
