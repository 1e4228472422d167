"""A laptop in the lab: `spa-client` as installed, and datagrams sent by hand.

It must not know the server.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sysconfig
from collections.abc import Callable
from pathlib import Path

from spa_client.storage import Store
from tests.end_to_end.crafting import Keys
from tests.lab import Address, Host

SCRIPTS = Path(sysconfig.get_path("scripts"))
KNOCK_PORT = 62201
ANSWER_S = 20.0
"""How long an answer that must come is waited for; it comes at once unless the machine stands still."""
ONE_FAMILY_ONLY = "has not answered yet"
"""The client's warning when one family was granted and the other was given up a tenth of a second later."""


def udp_socket(host: Host, to: Address) -> socket.socket:
    """A new UDP socket in the namespace, of the family of `to`. Close it yourself."""
    return host.new_socket(socket.AF_INET if to.version == 4 else socket.AF_INET6, socket.SOCK_DGRAM)


def send_udp(host: Host, datagram: bytes, to: Address, port: int = KNOCK_PORT) -> None:
    """Send one datagram from there and wait for nothing."""
    with udp_socket(host, to) as sock:
        sock.sendto(datagram, (str(to), port))


def ask_udp(
    host: Host, datagram: bytes, to: Address, port: int = KNOCK_PORT, *, patience_s: float = ANSWER_S
) -> bytes | None:
    """Send one datagram from there, and return the one that comes back, or None."""
    with udp_socket(host, to) as sock:
        sock.settimeout(patience_s)
        sock.sendto(datagram, (str(to), port))
        try:
            return sock.recv(2048)
        except TimeoutError:
            return None


class Laptop:
    """`spa-client` in a namespace, with a folder of its own."""

    def __init__(self, host: Host, folder: Path, settle: Callable[[], object] = lambda: None) -> None:
        """`settle`: called after every command; it returns when all that the command sent has been dealt with."""
        self.host = host
        self.folder = folder
        self.settle = settle
        self.env = {**os.environ, "SPA_CLIENT_FOLDER": str(folder)}

    def join(self, invite: str, *options: str, name: str = "office") -> None:
        """Enrol, or fail with what the client said."""
        self.client("join", "--name", name, *options, invite, check=True)

    def client(
        self, *argv: str, check: bool = False, env: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a `spa-client` command to its end; `env` is added to the laptop's own.

        It waits long for the answer unless told how long. A knock that has to succeed has to do so by both families.
        """
        words = [str(SCRIPTS / "spa-client"), *_patient(argv)]
        for _ in range(5):
            done = self.host.run(words, check=check, env={**self.env, **(env or {})})
            self.settle()
            if not (check and argv[0] == "knock" and ONE_FAMILY_ONLY in done.stderr):
                break
        return done

    def start_client(self, *argv: str) -> subprocess.Popen[bytes]:
        """Start a `spa-client` command; it is killed when the lab ends."""
        words, pipe = [str(SCRIPTS / "spa-client"), *_patient(argv)], subprocess.PIPE
        return self.host.popen(words, env=self.env, stdout=pipe, stderr=pipe)

    def keys(self, name: str = "office") -> Keys:
        """What it needs to seal knocks by hand; shares the client's own record of slots used."""
        store = Store(self.folder, self.folder / ".state")
        return Keys(store.load(name), store.memory(name).slots)

    def send(self, datagram: bytes, to: Address, port: int = KNOCK_PORT) -> None:
        """Send one datagram and wait for nothing."""
        send_udp(self.host, datagram, to, port)

    def ask(
        self, datagram: bytes, to: Address, port: int = KNOCK_PORT, *, patience_s: float = ANSWER_S
    ) -> bytes | None:
        """Send one datagram, and return the one that comes back, or None."""
        return ask_udp(self.host, datagram, to, port, patience_s=patience_s)


def _patient(argv: tuple[str, ...]) -> tuple[str, ...]:
    """The same command line, which waits long for its answer unless it says itself how long."""
    if argv[0] not in ("join", "knock", "exec", "keep", "open", "proxy") or "--timeout" in argv:
        return argv
    return (argv[0], "--timeout", f"{ANSWER_S:g}", *argv[1:])
