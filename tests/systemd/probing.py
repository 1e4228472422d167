"""A stranger who sends a SYN to the protected port every millisecond, by both families, and notes every answer.

A process of its own, so that it goes on sending whatever the test waits for. To show that it would see a way through,
it also sends to an open port of the same host, now and then. It must not know servers or machines.

    python -m tests.systemd.probing PROTECTED OPEN ADDRESS...      ends on SIGTERM, and says what it saw as JSON
"""

from __future__ import annotations

import json
import signal
import socket
import struct
import subprocess
import sys
import time
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from types import TracebackType

from tests.lab import Host

GAP_S = 0.001
OPEN_EVERY = 20
_SYN = 0x02
_CHECKSUM_PLACE = 16


@dataclass(frozen=True, slots=True)
class Seen:
    """What came back: `answered` from the protected port, `control` from the open one; `longest_gap_s` of sending."""

    sent: int
    unsent: int
    answered: int
    control: int
    took_s: float
    longest_gap_s: float
    first_answer: str

    def __str__(self) -> str:
        return (
            f"{self.sent} SYNs in {self.took_s:.1f} s (longest pause {self.longest_gap_s * 1000:.0f} ms), "
            f"{self.answered} passed; {self.control} answers from an open port"
        )


class Prober:
    """Probes from a host while the block runs; `seen` says afterwards what came of it."""

    def __init__(self, source: Host, target: Host, protected: int, open_port: int) -> None:
        words = [str(protected), str(open_port), str(target.ipv4), str(target.ipv6)]
        argv = [sys.executable, "-m", "tests.systemd.probing", *words]
        self._argv, self._source = argv, source
        self._process: subprocess.Popen[str] | None = None
        self._seen: Seen | None = None

    @property
    def seen(self) -> Seen:
        """What was seen until the block ended."""
        assert self._seen is not None, "the prober still runs"
        return self._seen

    def __enter__(self) -> Prober:
        here = Path(__file__).parents[2]
        self._process = self._source.popen(self._argv, cwd=here, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "probing\n"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process is not None
        self._process.terminate()
        said, _ = self._process.communicate(timeout=60)
        if said:
            self._seen = Seen(**json.loads(said))


@dataclass(slots=True)
class _Target:
    """One address: a raw socket that sends segments to it and hears all segments that come from it."""

    address: str
    sock: socket.socket = field(init=False)
    own: str = ""

    def __post_init__(self) -> None:
        family = socket.AF_INET if ip_address(self.address).version == 4 else socket.AF_INET6
        self.sock = socket.socket(family, socket.SOCK_RAW, socket.IPPROTO_TCP)
        self.sock.setblocking(False)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)

    def send_syn(self, source_port: int, port: int) -> bool:
        """Send one; whether it could be sent."""
        try:
            head = struct.pack("!HHIIBBHHH", source_port, port, source_port * 65537, 0, 5 << 4, _SYN, 64240, 0, 0)
            head = _with_checksum(head, self._own_address(), self.address)
            self.sock.sendto(head, (self.address, 0))
        except OSError:
            return False
        return True

    def _own_address(self) -> str:
        """The address that the kernel sends from, which the checksum covers."""
        if not self.own:
            with socket.socket(self.sock.family, socket.SOCK_DGRAM) as sock:
                sock.connect((self.address, 9))
                self.own = sock.getsockname()[0]
        return self.own

    def heard(self) -> list[tuple[int, int]]:
        """Source port and flags of every segment that came from the address."""
        found: list[tuple[int, int]] = []
        while True:
            try:
                packet, peer = self.sock.recvfrom(2048)
            except OSError:
                return found
            if peer[0] != self.address:
                continue
            segment = packet[(packet[0] & 15) * 4 :] if self.sock.family == socket.AF_INET else packet
            found.append((struct.unpack_from("!H", segment)[0], segment[13]))


def _with_checksum(segment: bytes, source: str, destination: str) -> bytes:
    """The segment with its checksum (RFC 9293, section 3.1; RFC 8200, section 8.1)."""
    data = ip_address(source).packed + ip_address(destination).packed + struct.pack("!HH", 6, len(segment)) + segment
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total & 0xFFFF) + (total >> 16)
    total = (total & 0xFFFF) + (total >> 16)
    return segment[:_CHECKSUM_PLACE] + struct.pack("!H", ~total & 0xFFFF) + segment[_CHECKSUM_PLACE + 2 :]


def main(protected: int, open_port: int, addresses: list[str]) -> None:
    """Probe until SIGTERM, then print what was seen."""
    targets = [_Target(address) for address in addresses]
    stopped = False

    def stop(*_: object) -> None:
        nonlocal stopped
        stopped = True

    signal.signal(signal.SIGTERM, stop)
    sent = unsent = answered = control = number = 0
    longest_s, first = 0.0, ""
    begun_s = last_s = next_s = time.monotonic()
    print("probing", flush=True)
    over_s = float("inf")
    while time.monotonic() < over_s:
        if stopped:
            # What was sent last may still be answered.
            over_s = min(over_s, time.monotonic() + 0.2)
        else:
            now_s = time.monotonic()
            longest_s, last_s = max(longest_s, now_s - last_s), now_s
            number += 1
            source_port = 1024 + number % 60000
            for target in targets:
                ok = target.send_syn(source_port, protected)
                sent, unsent = sent + ok, unsent + (not ok)
                if number % OPEN_EVERY == 0:
                    target.send_syn(source_port, open_port)
        for target in targets:
            for port, flags in target.heard():
                control += port == open_port
                if port == protected:
                    answered += 1
                    first = first or f"{target.address} flags {flags:#x} after {time.monotonic() - begun_s:.3f} s"
        next_s = max(next_s + GAP_S, time.monotonic() - GAP_S)
        time.sleep(max(0.0, next_s - time.monotonic()))
    seen = Seen(sent, unsent, answered, control, time.monotonic() - begun_s, longest_s, first)
    print(json.dumps({name: getattr(seen, name) for name in Seen.__slots__}), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:])
