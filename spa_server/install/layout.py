"""Which files make the service, where they go and what is in them. It writes nothing.

The texts are those of the folder `systemd/` of the source, which is this package's `units`. The places are the ones for
an operator's own files, so they are the same on Debian, Fedora and whatever else runs systemd.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

KEEPER, SERVER = "spa-perimeter.service", "spa-server.service"
NOTIFIER = "spa-notify.service"
"""Started only where the configuration says by what people are told of requests."""
UNITS = (KEEPER, SERVER)
"""In the order in which they start."""
KEEPER_USER, SERVER_USER = "spa-perimeter", "spa"
USERS = (KEEPER_USER, SERVER_USER)
GROUP = "spa"

UNIT_FOLDER = Path("/etc/systemd/system")
SYSUSERS = Path("/etc/sysusers.d/spa.conf")
TMPFILES = Path("/etc/tmpfiles.d/spa.conf")
CONFIG = Path("/etc/spa/server.toml")
POLICY = Path("/etc/spa/policy.cedar")
KEY = Path("/etc/spa/server.key")
STATE = Path("/var/lib/spa")
KEEPER_STATE = Path("/var/lib/spa-perimeter")
RUN = Path("/run/spa")

PROGRAM_IN_UNITS = "/opt/spa/bin/spa-server"
"""What stands in the units as they are delivered."""
FIRST_FREE_PORT = 1024

_LOW_PORTS = """\
# Written by spa-server install: knock ports below 1024 ({ports}). The process gives the capability up once it has bound
# them; in a user namespace of its own it would not count.
[Service]
AmbientCapabilities=CAP_NET_BIND_SERVICE
CapabilityBoundingSet=CAP_NET_BIND_SERVICE
PrivateUsers=no
SystemCallFilter=capset
"""


@dataclass(frozen=True, slots=True)
class File:
    """A file of the service. All of them are root's, and everybody may read them."""

    path: Path
    text: str

    def stands(self) -> bool:
        """Whether it is there with this text."""
        try:
            return self.path.read_text(encoding="utf-8") == self.text
        except (OSError, UnicodeDecodeError):
            return False


def account_files() -> tuple[File, ...]:
    """What makes the users, and the folder of the sockets."""
    return File(SYSUSERS, _delivered("spa.sysusers.conf")), File(TMPFILES, _delivered("spa.tmpfiles.conf"))


def unit_files(program: Path) -> tuple[File, ...]:
    """The units, which start that program."""
    return tuple(
        File(UNIT_FOLDER / unit, _delivered(unit).replace(PROGRAM_IN_UNITS, _escaped(program)))
        for unit in (*UNITS, NOTIFIER)
    )


def drop_in(knock_ports: Sequence[int]) -> File | None:
    """What the units need besides for these knock ports; None where it is nothing."""
    low = ", ".join(f"udp/{port}" for port in sorted(knock_ports) if port < FIRST_FREE_PORT)
    return File(drop_in_path(SERVER), _LOW_PORTS.format(ports=low)) if low else None


def drop_in_path(unit: str) -> Path:
    """Where `drop_in` goes for a unit; an operator's own drop-ins are beside it."""
    return UNIT_FOLDER / f"{unit}.d" / "10-spa-install.conf"


def _delivered(name: str) -> str:
    return resources.files(__package__).joinpath("units", name).read_text(encoding="utf-8")


def _escaped(program: Path) -> str:
    """The path as a word of ExecStart (systemd.service(5), Command lines)."""
    word = str(program).replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return f'"{word}"' if any(char in word for char in " '\"\\;") else word
