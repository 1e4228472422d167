"""Who is measured: this project's server and fwknopd, each in a namespace of its own, and how one knocks at each.

It must not know what is measured.
"""

from __future__ import annotations

import base64
import contextlib
import itertools
import os
import secrets
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from benchmarks.opening import PORT
from spa_client.errors import SlotsUsedUp
from tests.end_to_end.running import KNOCK_PORT, SCRIPTS, Laptop, RunningServer, enrolled, wait_until
from tests.lab import Address, Host, Lab, LabError

LEASE_S = 5
SERVICES = f"""
[service.web]
tcp = [{PORT}]
roles = ["admin"]
lease_s = {LEASE_S}
"""

START_PATIENCE_S = 10.0


class PeerMissing(Exception):
    """A peer cannot be measured here; the message says why."""


class Contender(Protocol):
    """A server that opens its port to a knock."""

    @property
    def title(self) -> str:
        """Its name in the report."""

    @property
    def host(self) -> Host:
        """Where it runs."""

    def knock(self, source: Address) -> bytes:
        """A datagram that opens for that source, ready to be sent from it."""

    def command(self, source: Address) -> tuple[list[str], dict[str, str]]:
        """The client's command line that opens for that source, and its environment."""


@dataclass(slots=True)
class Ours:
    """This project. Its laptops take turns, for each has so many knocks a minute."""

    host: Host
    laptops: Sequence[Laptop]
    title: str = "spa-server"
    _turns: Iterator[Laptop] = field(init=False)

    def __post_init__(self) -> None:
        self._turns = itertools.cycle(self.laptops)

    def knock(self, source: Address) -> bytes:
        """Sealed as the client does it, for the source it is sent from."""
        for _ in self.laptops:
            with contextlib.suppress(SlotsUsedUp):
                return next(self._turns).keys().knock("web")
        raise LabError("every laptop has used all its knocks of this minute: measure with more laptops")

    def command(self, source: Address) -> tuple[list[str], dict[str, str]]:
        """The console script, naming the source, so that the door can be watched from there."""
        laptop = next(self._turns)
        return [str(SCRIPTS / "spa-client"), "knock", "office", "web", "--source", str(source)], laptop.env


@contextlib.contextmanager
def ours(lab: Lab, client: Host, folder: Path, laptops: int) -> Iterator[Ours]:
    """The real server with so many laptops enrolled."""
    server = RunningServer(lab, folder, SERVICES)
    server.start()
    try:
        joined = [enrolled(server, client, f"laptop-{number}") for number in range(laptops)]
        yield Ours(lab.server, joined)
    finally:
        server.kill()


@dataclass(slots=True)
class Fwknop:
    """fwknopd as Debian ships it, in one of its two modes, with AES and HMAC keys and a closed iptables port."""

    title: str
    host: Host
    folder: Path
    key: str = field(default_factory=lambda: base64.b64encode(secrets.token_bytes(32)).decode())
    hmac_key: str = field(default_factory=lambda: base64.b64encode(secrets.token_bytes(64)).decode())

    def knock(self, source: Address) -> bytes:
        """What its client makes for that source, without sending it."""
        packet = self.folder / "packet"
        argv, environment = self.command(source)
        made = subprocess.run([*argv, "--test", "-B", str(packet)], env=environment, capture_output=True, check=False)
        if made.returncode or not packet.exists():
            raise LabError(f"fwknop made no packet: {made.stderr.decode(errors='replace')}")
        data = packet.read_bytes().rstrip(b"\n")
        packet.unlink()
        return data

    def command(self, source: Address) -> tuple[list[str], dict[str, str]]:
        """Its client's command line; it sends and does not wait, for no answer ever comes."""
        keys = ["--key-base64-rijndael", self.key, "--use-hmac", "--key-base64-hmac", self.hmac_key]
        # Otherwise it writes to the user's own folder.
        files = ["--no-rc-file", "--no-home-dir", "-E", str(self.folder / "arguments")]
        place = ["-A", f"tcp/{PORT}", "-a", str(source), "-D", str(self.host.ipv4)]
        return [_program("fwknop"), *place, *keys, *files], dict(os.environ)


@contextlib.contextmanager
def fwknop(host: Host, folder: Path, *, udp_server: bool) -> Iterator[Fwknop]:
    """fwknopd on a host, reading by libpcap as shipped or through a UDP socket. Raises PeerMissing."""
    peer = Fwknop(f"fwknopd, {'UDP server' if udp_server else 'pcap'} mode", host, folder)
    folder.mkdir(mode=0o700)
    configuration, access, log = folder / "fwknopd.conf", folder / "access.conf", folder / "log"
    configuration.write_text("PCAP_INTF eth0;\n" + ("ENABLE_UDP_SERVER Y;\n" if udp_server else ""))
    keys = f"KEY_BASE64 {peer.key}\nHMAC_KEY_BASE64 {peer.hmac_key}\n"
    access.write_text(f"SOURCE ANY\n{keys}FW_ACCESS_TIMEOUT {LEASE_S}\n")
    for path in (configuration, access):
        path.chmod(0o600)
    for rule in (
        "-m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT",
        f"-p udp --dport {KNOCK_PORT} -j ACCEPT",
        f"-p tcp --dport {PORT} -j DROP",
    ):
        host.run([_program("iptables"), "-A", "INPUT", *rule.split()])
    files = ["-c", str(configuration), "-a", str(access), "-r", str(folder / "run")]
    files += ["-p", str(folder / "pid"), "-d", str(folder / "digest")]
    with log.open("wb") as out:
        daemon = host.popen([_program("fwknopd"), "-f", *files], stdout=out, stderr=subprocess.STDOUT)
    try:
        wait_until(lambda: _serves(log) or daemon.poll() is not None, "the start of fwknopd", START_PATIENCE_S)
        if daemon.poll() is not None:
            raise PeerMissing(f"{peer.title} ended at its start: {log.read_text(errors='replace').strip()[-200:]}")
        yield peer
    finally:
        daemon.kill()
        daemon.wait()


def _serves(log: Path) -> bool:
    text = log.read_text(errors="replace")
    return "main event loop" in text or "Kicking off UDP server" in text


def _program(name: str) -> str:
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if found is None:
        raise PeerMissing(f"{name} is not installed")
    return found
