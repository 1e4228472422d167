"""The numbers as Prometheus reads them: read by its own client library, and by its own tool where that is installed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from prometheus_client import parser

import spa_server
from spa_server.tell.counts import BOUNDS_S, Counts, Decision
from spa_server.tell.metrics import GateNumbers, Numbers, ServiceNumbers, page

NAMES = {
    "spa_audit_failures",
    "spa_build_info",
    "spa_decision_duration_seconds",
    "spa_decisions",
    "spa_fault",
    "spa_gate_datagrams",
    "spa_holders",
    "spa_kernel_errors",
    "spa_knocks",
    "spa_leases_active",
    "spa_revocations",
    "spa_service_packets",
    "spa_start_time_seconds",
    "spa_tags_armed",
    "spa_up",
}


def numbers(*, gate: bool = True) -> Numbers:
    counts = Counts(kernel_errors=3)
    counts.results.update({"granted": 5, "stale": 2})
    counts.decisions[Decision("web", "granted", "")] = 5
    counts.decisions[Decision("", "refused", "stale")] = 2
    for seconds in (0.0001, 0.0004, 0.0004, 7.5):
        counts.decision_s.note(seconds)
    services = {"web": ServiceNumbers(100, 7, 1), 'odd"name\\': ServiceNumbers(0, 0, 0)}
    return Numbers(
        version="0.1.0",
        started_s=1_700_000_000.25,
        holders=4,
        tags_armed=128,
        is_at_fault=False,
        audit_failures=0,
        revocations={"operator": 2},
        counts=counts,
        gate=GateNumbers(11, 10**12, services) if gate else None,
    )


def samples(text: bytes) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    families = parser.text_string_to_metric_families(text.decode())
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for each in families
        for sample in each.samples
    }


def test_prometheus_reads_every_number() -> None:
    found = samples(page(numbers()))
    assert found["spa_knocks_total", (("result", "granted"),)] == 5
    assert found["spa_decisions_total", (("decision", "granted"), ("reason", ""), ("service", "web"))] == 5
    assert found["spa_decisions_total", (("decision", "refused"), ("reason", "stale"), ("service", ""))] == 2
    assert found["spa_leases_active", (("service", "web"),)] == 1
    assert found["spa_service_packets_total", (("service", 'odd"name\\'), ("verdict", "dropped"))] == 0
    assert found["spa_gate_datagrams_total", (("verdict", "dropped"),)] == 10**12
    assert found["spa_revocations_total", (("cause", "operator"),)] == 2
    assert found["spa_start_time_seconds", ()] == 1_700_000_000.25
    assert found["spa_build_info", (("version", "0.1.0"),)] == 1
    assert (found["spa_kernel_errors_total", ()], found["spa_fault", ()], found["spa_up", ()]) == (3, 0, 1)


def test_the_histogram_adds_up() -> None:
    found = samples(page(numbers()))
    buckets = [found["spa_decision_duration_seconds_bucket", (("le", str(bound)),)] for bound in (*BOUNDS_S, "+Inf")]
    assert buckets == sorted(buckets)
    assert (buckets[0], buckets[1], buckets[2], buckets[-2], buckets[-1]) == (1, 1, 3, 3, 4)
    assert found["spa_decision_duration_seconds_count", ()] == 4
    assert found["spa_decision_duration_seconds_sum", ()] == pytest.approx(7.5009)


def test_the_names_are_those_of_the_documentation() -> None:
    families = list(parser.text_string_to_metric_families(page(numbers()).decode()))
    assert {family.name for family in families} == NAMES
    assert all(family.documentation for family in families)


def test_nothing_is_made_up_while_the_firewall_process_does_not_answer() -> None:
    names = {name for name, _ in samples(page(numbers(gate=False)))}
    assert not any(name.startswith(("spa_gate", "spa_service", "spa_leases")) for name in names)


def test_no_label_could_name_a_user_or_an_address() -> None:
    labels = {label for _, labels in samples(page(numbers())) for label, _ in labels}
    assert labels == {"result", "service", "decision", "reason", "verdict", "cause", "version", "le"}


def test_the_documentation_has_every_metric() -> None:
    page_text = (Path(spa_server.__file__).parent.parent / "docs" / "observability.md").read_text()
    table = set(re.findall(r"^\| `(spa_[a-z_]+)", page_text, re.MULTILINE))
    assert {name.removesuffix("_total") for name in table} == NAMES
