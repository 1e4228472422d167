"""What a running server holds: memory, descriptors, disk, and what the kernel keeps for it."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from pathlib import Path

from spa_server.privilege import acting_as_owner_of
from spa_server.remember.store import open_store
from spa_server.remember.used import UsedSlots
from tests.end_to_end.running import RunningServer

PATIENCE_MS = 10_000


@dataclass(frozen=True, slots=True)
class Held:
    """One look. Memory is resident memory; `state_kib` is the state file with its log; `log_lines` since the start.

    `retired`: whether the oldest uses of slots have been dropped at least once; before that the state only grows.
    """

    network_kib: int
    firewall_kib: int
    network_descriptors: int
    firewall_descriptors: int
    state_kib: int
    trail_kib: int
    used_slots: int
    retired: bool
    tags: int
    leases: int
    connections: int
    kernel_slab_kib: int
    log_lines: int

    def told(self) -> str:
        """For people, on one line."""
        return ", ".join(f"{field.name.replace('_', ' ')} {getattr(self, field.name)}" for field in fields(self))


def look(server: RunningServer) -> Held:
    """What the server holds now."""
    memory = server.resident_kib()
    tracked = server.host.run(["cat", "/proc/sys/net/netfilter/nf_conntrack_count"], check=False).stdout.strip()
    with acting_as_owner_of(server.state), open_store(server.state, busy_ms=PATIENCE_MS) as store:
        used = UsedSlots(store)
        used_slots, retired = used.count(), used.first_window() > 0
    return Held(
        network_kib=memory["network"],
        firewall_kib=memory["firewall"],
        network_descriptors=_descriptors(server.network_pid),
        firewall_descriptors=_descriptors(server.firewall_pid),
        state_kib=_kib(server, "state.sqlite3*"),
        trail_kib=_kib(server, "audit.jsonl*"),
        used_slots=used_slots,
        retired=retired,
        tags=server.status()["tags_armed"],
        leases=len(server.leases()),
        connections=int(tracked or 0),
        kernel_slab_kib=_unreclaimable_slab_kib(),
        log_lines=server.log_lines(),
    )


def _kib(server: RunningServer, pattern: str) -> int:
    return sum(path.stat().st_size for path in server.state.glob(pattern)) // 1024


def _descriptors(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def _unreclaimable_slab_kib() -> int:
    """Kernel memory of the whole machine in which set elements lie, too; others' are among it."""
    found = re.search(r"^SUnreclaim:\s+(\d+) kB", Path("/proc/meminfo").read_text(), re.MULTILINE)
    return int(found[1]) if found else 0
