"""The story that is shown, chapter by chapter: closed, knocked, used, replayed, expired, closed.

Every step asks the real thing: the installed commands, the kernel's own sets and counters, packets on the wire.
"""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass, field

from demo.closing import watch
from demo.console import Console
from demo.web import PORT, Visit
from demo.wire import UDP, Capture, Packet, SynProbe, udp_socket
from tests.end_to_end.running import KNOCK_PORT, Laptop, RunningServer
from tests.lab import Address, Host, Lab

LEASE_S = 5
LEASE_END_TOLERANCE_MS = 100
SETTLE_S = 0.3
"""How long an answer that must not come is waited for."""
OPEN_PORT = 9
"""A port outside of the perimeter, where the server's own TCP answers: shows that an answer would be seen."""

SERVICES = f"""
[service.web]
tcp = [{PORT}]
roles = ["admin"]
lease_s = {LEASE_S}
"""

FAMILIES = (4, 6)
LEASE_SETS = ("leases4", "leases6")
ELEMENT = re.compile(rf"[0-9a-f.:]+ \. [0-9a-f.:]+ \. (?:tcp|6) \. {PORT} [^,}}]+")
"""A lease as nft lists it; on a host without /etc/protocols it prints TCP's number (seen with nftables 1.0.6)."""
NMAP = (
    *("nmap", "-sS", "-sU", "-Pn", "-n", "-p", f"T:{PORT},U:{KNOCK_PORT}"),
    *("--max-retries", "1", "--max-rtt-timeout", "200ms", "--host-timeout", "10s"),
)


@dataclass(slots=True)
class Story:
    """The cast, and what the chapters hand on: the knocks as they were on the wire, and when each was answered."""

    lab: Lab
    server: RunningServer
    say: Console
    laptop: Laptop | None = None
    knocks: list[Packet] = field(default_factory=list)
    answered_ns: dict[int, int] = field(default_factory=dict)
    visits: dict[int, Visit] = field(default_factory=dict)

    @property
    def alice(self) -> Host:
        """Who is invited."""
        return self.lab.clients["alice"]

    def tell(self) -> None:
        """All of it, in order."""
        self._closed()
        self._enrolled()
        self._knocked()
        self._used()
        self._neighbour_kept_out()
        self._replayed()
        self._ended()

    def _closed(self) -> None:
        self.say.chapter("Before a knock there is nothing")
        stranger = self.lab.clients["stranger"]
        for family in FAMILIES:
            to = self.lab.server.address(family)
            with Capture(stranger) as capture:
                scanner = _scan(stranger, to)
                back = [packet for packet in capture.gather(SETTLE_S) if _came_back(packet, to)]
            said = f"scans tcp/{PORT} and udp/{KNOCK_PORT} at {to} with {scanner}"
            self.say.step("stranger", f"{said}: {len(back)} packets came back", not back)
        with Capture(stranger) as capture, SynProbe(stranger, stranger.ipv4, self.lab.server.ipv4, OPEN_PORT) as probe:
            probe.send()
            answer = capture.first(lambda packet: _came_back(packet, self.lab.server.ipv4), 1.0)
        said = f"tries tcp/{OPEN_PORT}, outside of the perimeter: {'RST came back' if answer else 'nothing came back'}"
        self.say.step("stranger", f"{said}, so an answer would have been seen", answer is not None)
        self._cannot_connect("alice")

    def _enrolled(self) -> None:
        self.say.chapter("Alice's laptop is invited and joins")
        text = self.server.invite("alice-laptop")
        self.say.step(
            "server", "spa-server invite alice-laptop --user alice --role admin", text.startswith("spa-invite")
        )
        self.say.quote(f"{text[:60]}... ({len(text)} characters)")
        self.laptop = Laptop(self.alice, self.server.folder / "laptop")
        done = self.laptop.client("join", "--name", "office", text)
        self.say.step("alice", "spa-client join spa-invite1...", done.returncode == 0)
        self.say.quote(done.stdout + done.stderr)
        self._cannot_connect("alice")

    def _knocked(self) -> None:
        self.say.chapter("One datagram in each family opens the port, for this source alone")
        if self.laptop is None:
            raise AssertionError("the laptop joins first")
        with Capture(self.alice) as capture:
            done = self.laptop.client("knock", "office")
            packets = [packet for packet in capture.gather(0.0) if packet.protocol == UDP]
        self.knocks = [packet for packet in packets if packet.outgoing and packet.ports[1] == KNOCK_PORT]
        for packet in packets:
            if not packet.outgoing and packet.ports[0] == KNOCK_PORT:
                self.answered_ns[packet.source.version] = packet.at_ns
        self.say.step("alice", "spa-client knock office", done.returncode == 0)
        self.say.quote(done.stdout + done.stderr)
        sizes = ", ".join(f"{len(knock.payload)} bytes to {knock.destination}" for knock in self.knocks)
        took = ", ".join(
            f"{(self.answered_ns[knock.source.version] - knock.at_ns) / 1e6:.1f} ms"
            for knock in self.knocks
            if knock.source.version in self.answered_ns
        )
        self.say.step("wire", f"{sizes}; answered after {took}", len(self.answered_ns) == len(FAMILIES))

    def _used(self) -> None:
        for family in FAMILIES:
            try:
                visit = self.visits[family] = Visit(self.alice, self.lab.server.address(family))
                page = visit.page()
            except OSError:
                page = None
            own, to = self.alice.address(family), self.lab.server.address(family)
            place = str(to) if family == 4 else f"[{to}]"
            said = f"opens http://{place}:{PORT}/ from {own}"
            self.say.step("alice", said, page is not None and str(own) in page)
            self.say.quote(page or "no page came")
        leases = self._lease_lines()
        named = [line for line in leases if 'comment "alice-laptop"' in line]
        self.say.step("kernel", "nft list set inet spa leases4, leases6: who is inside", len(named) == len(FAMILIES))
        self.say.quote("\n".join(leases))

    def _neighbour_kept_out(self) -> None:
        self.say.chapter("Meanwhile, for everybody else")
        self._cannot_connect("neighbour")

    def _replayed(self) -> None:
        dropped = self.server.counter("knock_dropped")
        admitted = self.server.counter("knock_admitted")
        for name in ("neighbour", "alice"):
            host = self.lab.clients[name]
            with Capture(host) as capture:
                for knock in self.knocks:
                    with udp_socket(host, host.address(knock.source.version)) as sock:
                        sock.sendto(knock.payload, (str(knock.destination), KNOCK_PORT))
                back = [
                    packet
                    for packet in capture.gather(SETTLE_S)
                    if any(_came_back(packet, knock.destination) and packet.protocol == UDP for knock in self.knocks)
                ]
            said = f"sends the {len(self.knocks)} recorded knocks again, byte for byte: {len(back)} answers"
            self.say.step(name, said, not back and bool(self.knocks))
        dropped_now, admitted_now = self.server.counter("knock_dropped"), self.server.counter("knock_admitted")
        as_expected = dropped_now - dropped == 2 * len(self.knocks) and admitted_now == admitted
        self.say.step(
            "kernel",
            f"replays dropped by the gate: {dropped_now - dropped}, admitted: {admitted_now - admitted}",
            as_expected,
        )
        self._cannot_connect("neighbour")

    def _ended(self) -> None:
        self.say.chapter("The kernel closes by itself")
        closings = watch(self.alice, self.lab.server, PORT, self.answered_ns, LEASE_S)
        for family, closing in closings.items():
            last_s, first_s = closing.last_open_s, closing.first_closed_s
            if last_s is None or first_s is None:
                self.say.step("kernel", f"IPv{family}: the end of the lease was not seen", as_expected=False)
                continue
            off_ms = ((last_s + first_s) / 2 - LEASE_S) * 1000
            said = f"IPv{family}: the lease of {LEASE_S} s ended {last_s:.3f} to {first_s:.3f} s after the answer"
            self.say.step("kernel", f"{said} ({off_ms:+.0f} ms)", abs(off_ms) <= LEASE_END_TOLERANCE_MS)
        cut = [visit.page() is None for visit in self.visits.values()]
        self.say.step(
            "alice", "asks over the connections opened before: no answer, they are cut", bool(cut) and all(cut)
        )
        self._cannot_connect("alice")
        leases = self._lease_lines()
        self.say.step("kernel", f"leases left: {len(leases)}", not leases)

    def _cannot_connect(self, name: str) -> None:
        host = self.lab.clients[name]
        reached = [
            str(to) for to in (self.lab.server.ipv4, self.lab.server.ipv6) if host.reaches_tcp(to, PORT, SETTLE_S)
        ]
        said = f"connects to tcp/{PORT}, IPv4 and IPv6: {'open at ' + ', '.join(reached) if reached else 'no answer'}"
        self.say.step(name, said, not reached)

    def _lease_lines(self) -> list[str]:
        """The elements of the lease sets, as the kernel shows them to an operator."""
        sets = [self.lab.server.run(["nft", "list", "set", "inet", "spa", name]).stdout for name in LEASE_SETS]
        return [line.strip() for text in sets for line in ELEMENT.findall(text)]


def _scan(host: Host, to: Address) -> str:
    """Scan the service port and the knock port by TCP and UDP; what it was done with."""
    if shutil.which("nmap") is not None:
        host.run([*NMAP, *(["-6"] if to.version == 6 else []), str(to)], check=False)
        return "nmap -sS -sU"
    with (
        SynProbe(host, host.address(to.version), to, PORT) as probe,
        udp_socket(host, host.address(to.version)) as sock,
    ):
        for _ in range(3):
            probe.send()
            sock.sendto(b"anybody there?", (str(to), KNOCK_PORT))
    return "SYN and UDP probes"


def _came_back(packet: Packet, server: Address) -> bool:
    return not packet.outgoing and packet.source == server and not packet.is_housekeeping
