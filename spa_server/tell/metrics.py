"""The server's numbers as Prometheus reads them: text format 0.0.4
(https://prometheus.io/docs/instrumenting/exposition_formats/). docs/observability.md has a table of all of them.

Values in, text out: it must not know sockets, nor where a number comes from.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from spa_server.tell.counts import BOUNDS_S, Counts, Histogram

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

Labels = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Family:
    """One metric: its samples by their labels."""

    name: str
    kind: str
    help: str
    samples: tuple[tuple[Labels, float], ...]


@dataclass(frozen=True, slots=True)
class ServiceNumbers:
    """What the kernel counts for one service."""

    admitted: int
    dropped: int
    leases: int


@dataclass(frozen=True, slots=True)
class GateNumbers:
    """What the kernel counts at the knock ports and for each service."""

    admitted: int
    dropped: int
    services: Mapping[str, ServiceNumbers]


@dataclass(frozen=True, slots=True)
class Numbers:
    """All that is told. `gate` is None while the firewall process does not answer; `started_s` is UTC since 1970."""

    version: str
    started_s: float
    holders: int
    tags_armed: int
    is_at_fault: bool
    audit_failures: int
    revocations: Mapping[str, int]
    counts: Counts
    gate: GateNumbers | None


def page(numbers: Numbers) -> bytes:
    """What Prometheus gets."""
    lines: list[str] = []
    for family in _families(numbers):
        lines += (f"# HELP {family.name} {family.help}", f"# TYPE {family.name} {family.kind}")
        lines += (f"{family.name}{_labelled(labels)} {_number(value)}" for labels, value in family.samples)
    lines += _histogram(
        "spa_decision_duration_seconds", "Time from a datagram's receipt to its answer.", numbers.counts.decision_s
    )
    return ("\n".join(lines) + "\n").encode()


def _families(numbers: Numbers) -> Iterator[Family]:
    counts = numbers.counts
    yield _one("spa_build_info", "gauge", "Always 1; the label says which version runs.", 1, version=numbers.version)
    yield _one("spa_up", "gauge", "Always 1: the server answers.", 1)
    yield _one("spa_start_time_seconds", "gauge", "When the server started, UTC since 1970.", numbers.started_s)
    yield _one("spa_fault", "gauge", "1 while something may keep the server from granting.", int(numbers.is_at_fault))
    yield _one("spa_holders", "gauge", "Devices' keys and invites that may pass the gate.", numbers.holders)
    yield _one("spa_tags_armed", "gauge", "One-time tags armed in the kernel.", numbers.tags_armed)
    yield _counted(
        "spa_knocks_total", "Datagrams that passed the gate, by what came of them.", "result", counts.results
    )
    yield Family(
        "spa_decisions_total",
        "counter",
        "Decisions by service; no service where a knock was refused before it came to one.",
        tuple(
            ((("service", each.service), ("decision", each.decision), ("reason", each.reason)), number)
            for each, number in sorted(counts.decisions.items(), key=str)
        ),
    )
    yield _counted(
        "spa_revocations_total", "Times that leases were ended early, by cause.", "cause", numbers.revocations
    )
    yield _one("spa_kernel_errors_total", "counter", "Leases that the kernel did not open.", counts.kernel_errors)
    yield _one(
        "spa_audit_failures_total", "counter", "Records that could not be written to the trail.", numbers.audit_failures
    )
    if numbers.gate is not None:
        yield from _gate_families(numbers.gate)


def _gate_families(gate: GateNumbers) -> Iterator[Family]:
    verdicts = {"admitted": gate.admitted, "dropped": gate.dropped}
    yield _counted(
        "spa_gate_datagrams_total", "Datagrams at the knock ports, by the kernel's verdict.", "verdict", verdicts
    )
    services = sorted(gate.services.items())
    yield Family(
        "spa_service_packets_total",
        "counter",
        "Packets to a service's ports, by the kernel's verdict.",
        tuple(
            ((("service", name), ("verdict", verdict)), number)
            for name, each in services
            for verdict, number in (("admitted", each.admitted), ("dropped", each.dropped))
        ),
    )
    yield Family(
        "spa_leases_active",
        "gauge",
        "Leases open in the kernel.",
        tuple(((("service", name),), each.leases) for name, each in services),
    )


def _one(name: str, kind: str, help: str, value: float, **labels: str) -> Family:
    return Family(name, kind, help, ((tuple(labels.items()), value),))


def _counted(name: str, help: str, label: str, numbers: Mapping[str, int]) -> Family:
    return Family(name, "counter", help, tuple((((label, key),), number) for key, number in sorted(numbers.items())))


def _histogram(name: str, help: str, histogram: Histogram) -> Iterator[str]:
    yield f"# HELP {name} {help}"
    yield f"# TYPE {name} histogram"
    total = 0
    for bound, number in zip((*map(str, BOUNDS_S), "+Inf"), histogram.buckets, strict=True):
        total += number
        yield f'{name}_bucket{{le="{bound}"}} {total}'
    yield f"{name}_sum {_number(histogram.sum_s)}"
    yield f"{name}_count {total}"


def _labelled(labels: Labels) -> str:
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in labels) + "}" if labels else ""


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _number(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:.9f}".rstrip("0").rstrip(".")
