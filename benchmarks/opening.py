"""From a knock to an open port, as the wire shows it.

SYNs are sent in a close row; the first that is accepted tells when the door opened, later by at most the gap before it.
All times are the kernel's own timestamps of packets on the client's interface. It must not know whose door it is.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from demo.wire import TCP, UDP, Capture, Packet, SynProbe
from tests.lab import Address, Host

PORT = 8443
SETTLE_S = 0.004
CLOSED_S = 0.01


class WasOpen(Exception):
    """The door stood open before the knock, so its opening cannot be measured."""


@dataclass(frozen=True, slots=True)
class Opening:
    """One opening. `open_ms`: from the start to the first SYN that was accepted; `gap_ms`: from the SYN before it.

    `answer_ms`: until the first UDP datagram from the server, None when none came.
    """

    open_ms: float
    gap_ms: float
    answer_ms: float | None


def time_opening(
    client: Host,
    source: Address,
    server: Address,
    start: Callable[[], int],
    *,
    spacing_s: float,
    patience_s: float,
) -> Opening | None:
    """Call `start`, and time from what it returns (UTC, ns; 0: from the first datagram sent) until the door is open.

    None when it does not open in that time. Raises WasOpen.
    """
    with Capture(client) as capture, SynProbe(client, source, server, PORT) as probe, _punctual():
        probe.send()
        if any(_accepts(packet, source, server) for packet in capture.gather(CLOSED_S)):
            raise WasOpen(f"{server} was open to {source}")
        started_ns = start()
        seen: list[Packet] = []
        end_s = time.monotonic() + patience_s
        while time.monotonic() < end_s:
            probe.send()
            time.sleep(spacing_s)
            new = list(capture.read())
            seen += new
            if any(_accepts(packet, source, server) for packet in new):
                break
        seen += capture.gather(SETTLE_S)
    return _opening(seen, source, server, started_ns)


@contextlib.contextmanager
def _punctual() -> Iterator[None]:
    """Let the probes go out on time: the daemon at work, whose end they wait for, would hold them up by itself."""
    with contextlib.suppress(PermissionError):
        os.sched_setscheduler(0, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.sched_param(1))
    try:
        yield
    finally:
        with contextlib.suppress(PermissionError):
            os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


def _opening(seen: list[Packet], source: Address, server: Address, started_ns: int) -> Opening | None:
    sent = {
        packet.ports[0]: packet.at_ns
        for packet in seen
        if packet.outgoing and packet.is_syn and (packet.source, packet.destination) == (source, server)
    }
    accepted = [
        sent[packet.ports[1]] for packet in seen if _accepts(packet, source, server) and packet.ports[1] in sent
    ]
    knocks = [packet.at_ns for packet in seen if packet.outgoing and _is_datagram(packet, server, packet.destination)]
    answers = [packet.at_ns for packet in seen if not packet.outgoing and _is_datagram(packet, server, packet.source)]
    begun_ns = started_ns or min(knocks, default=0)
    if not accepted or not begun_ns:
        return None
    opened_ns = min(accepted)
    before_ns = max((at_ns for at_ns in sent.values() if at_ns < opened_ns), default=begun_ns)
    return Opening(
        open_ms=(opened_ns - begun_ns) / 1e6,
        gap_ms=(opened_ns - max(before_ns, begun_ns)) / 1e6,
        answer_ms=(min(answers) - begun_ns) / 1e6 if answers else None,
    )


def _accepts(packet: Packet, source: Address, server: Address) -> bool:
    return (
        not packet.outgoing
        and packet.protocol == TCP
        and packet.is_syn_ack
        and (packet.source, packet.destination) == (server, source)
    )


def _is_datagram(packet: Packet, server: Address, address: Address) -> bool:
    return packet.protocol == UDP and address == server
