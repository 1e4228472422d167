"""The numbers that the metrics tell, gathered from the parts of the network process. It must not know how they look."""

from __future__ import annotations

import contextlib
import importlib.metadata
from collections import Counter

from spa_server.enforce.client import FirewallError
from spa_server.listen.clock import Instant
from spa_server.listen.faults import Faults
from spa_server.listen.firewall_link import FirewallLink
from spa_server.listen.judge import Judge
from spa_server.tell.audit import NotWritten
from spa_server.tell.event_types import CUT, REVOKED
from spa_server.tell.metrics import GateNumbers, Numbers, ServiceNumbers
from spa_server.tell.recorder import Recorder

try:
    VERSION = importlib.metadata.version("spa-perimeter")
except importlib.metadata.PackageNotFoundError:
    VERSION = "unknown"


def numbers(judge: Judge, link: FirewallLink, recorder: Recorder, faults: Faults, started: Instant) -> Numbers:
    """All of them, as they are now."""
    revocations: Counter[str] = Counter()
    with contextlib.suppress(NotWritten):  # counted then when it can be read again
        recorder.trail.take_in()
    for (action, cause), count in recorder.trail.seen.items():
        if action in (REVOKED.name, CUT.name):
            revocations[cause] += count
    return Numbers(
        version=VERSION,
        started_s=started.wall_ms / 1000,
        holders=judge.holders,
        tags_armed=judge.armed,
        is_at_fault=bool(str(faults)),
        audit_failures=recorder.failures,
        revocations=revocations,
        counts=judge.counts,
        gate=_gate(link),
    )


def _gate(link: FirewallLink) -> GateNumbers | None:
    try:
        counts = link.counts()
    except FirewallError:
        return None
    services = {
        name: ServiceNumbers(each.admitted, each.dropped, each.leases) for name, each in counts.services.items()
    }
    return GateNumbers(counts.knocks_admitted, counts.knocks_dropped, services)
