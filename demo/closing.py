"""When a door closed, measured from outside: the time of the last SYN that was accepted."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from demo.wire import TCP, Capture, Packet, SynProbe
from tests.lab import Host

PROBE_EVERY_S = 0.004
WATCHED_BEFORE_S = 0.3
WATCHED_AFTER_S = 0.3


@dataclass(slots=True)
class Closing:
    """SYNs to one address, by source port: when each was sent, and which were accepted. Times are seconds of lease."""

    sent_s: dict[int, float] = field(default_factory=dict)
    accepted: set[int] = field(default_factory=set)

    @property
    def last_open_s(self) -> float | None:
        """The last SYN that was accepted; None when none was."""
        return max((self.sent_s[port] for port in self.accepted if port in self.sent_s), default=None)

    @property
    def first_closed_s(self) -> float | None:
        """The first SYN after it; None when the door was still open at the end of the watch."""
        last_s = self.last_open_s
        return min((at_s for at_s in self.sent_s.values() if last_s is not None and at_s > last_s), default=None)


def watch(host: Host, server: Host, port: int, granted_ns: Mapping[int, int], lease_s: float) -> dict[int, Closing]:
    """Watch the doors of each IP version around the end of their leases. `granted_ns`: when each lease began, UTC."""
    closings = {family: Closing() for family in granted_ns}
    if not granted_ns:
        return closings
    begin_s = min(granted_ns.values()) / 1e9 + lease_s - WATCHED_BEFORE_S
    end_s = max(granted_ns.values()) / 1e9 + lease_s + WATCHED_AFTER_S
    time.sleep(max(0.0, begin_s - time.time()))
    with contextlib.ExitStack() as stack:
        capture = stack.enter_context(Capture(host))
        probes = [
            stack.enter_context(SynProbe(host, host.address(family), server.address(family), port))
            for family in granted_ns
        ]
        while time.time() < end_s:
            for probe in probes:
                probe.send()
            time.sleep(PROBE_EVERY_S)
            for packet in capture.read():
                _note(packet, port, closings, granted_ns)
    return closings


def _note(packet: Packet, port: int, closings: dict[int, Closing], granted_ns: Mapping[int, int]) -> None:
    if packet.protocol != TCP:
        return
    family = packet.source.version
    source_port, destination_port = packet.ports
    if packet.is_syn and destination_port == port:
        closings[family].sent_s[source_port] = (packet.at_ns - granted_ns[family]) / 1e9
    elif packet.is_syn_ack and source_port == port:
        closings[family].accepted.add(destination_port)
