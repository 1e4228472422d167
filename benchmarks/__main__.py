"""`python -m benchmarks [--quick]`: measure, print the report, and write it to benchmarks/results."""

from __future__ import annotations

import argparse
import contextlib
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from benchmarks import carrying, costs
from benchmarks.contenders import Contender, Fwknop, Ours, PeerMissing, fwknop, ours
from benchmarks.figures import Ratio, Series, ratio
from benchmarks.opening import PORT, WasOpen
from benchmarks.report import Report, Section
from benchmarks.rounds import knock_to_open, openings, processes, route_sources, start_to_open
from tests.end_to_end.running import open_folder
from tests.lab import Lab, LabError, check_surroundings

PEER_HOSTS = {"pcap": False, "udp": True}
"""Hosts on the segment that run fwknopd, and whether by its UDP server."""
LAPTOPS = 16
FAULTS = (LabError, WasOpen, OSError, AssertionError, subprocess.SubprocessError)
FAULT = 7


@dataclass(frozen=True, slots=True)
class Size:
    """How much is measured: rounds of each part."""

    knocks: int
    starts: int
    steps: int
    copies: int


FULL, QUICK = Size(knocks=100, starts=40, steps=2000, copies=9), Size(knocks=40, starts=20, steps=500, copies=3)


def main() -> int:
    """Measure and report; the exit code says only whether it could be done, never whether it was fast."""
    parser = argparse.ArgumentParser(prog="benchmarks/run", description="Measure this project beside its peers.")
    parser.add_argument("--quick", action="store_true", help="fewer rounds: some three minutes")
    options = parser.parse_args()
    # So that everything is taken down on this way too.
    signal.signal(signal.SIGTERM, _stop)
    try:
        check_surroundings()
        report = measure(QUICK if options.quick else FULL, f"benchmarks/run{' --quick' if options.quick else ''}")
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except FAULTS as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return FAULT
    print(report.markdown(), end="")
    report.write()
    return 0


def measure(size: Size, command: str) -> Report:
    """One run: all knocks in one lab, and the copies in another."""
    report = Report(command)
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(open_folder())
        lab = stack.enter_context(Lab(clients=("alice", *PEER_HOSTS)))
        client = lab.clients["alice"]
        servers = [lab.server, *(lab.clients[name] for name in PEER_HOSTS)]
        route_sources(client, servers)
        for host in servers:
            stack.enter_context(host.listen_tcp(PORT))
        _tell("enrolling laptops")
        own = stack.enter_context(ours(lab, client, folder, LAPTOPS))
        peers = _peers(lab, folder, stack, report)
        _tell(f"from knock to open: {size.knocks} rounds")
        report.sections.append(_knocks(lab, own, peers, size.knocks))
        _tell(f"from the client's start: {size.starts} rounds")
        report.sections += _starts(lab, own, peers, size.starts)
        _tell("the server's steps")
        steps = costs.measure(lab.server, size.steps)
        report.sections.append(Section("What one knock costs the server, step by step", steps))
    _tell(f"copies through the client: {size.copies} rounds")
    with open_folder() as folder:
        report.sections += carrying.measure(folder, size.copies)
    return report


def _peers(lab: Lab, folder: Path, stack: contextlib.ExitStack, report: Report) -> list[Fwknop]:
    peers: list[Fwknop] = []
    for name, udp_server in PEER_HOSTS.items():
        try:
            peers.append(stack.enter_context(fwknop(lab.clients[name], folder / name, udp_server=udp_server)))
        except PeerMissing as error:
            report.notes.append(f"not measured: {error}")
    return peers


def _knocks(lab: Lab, own: Ours, peers: Sequence[Contender], count: int) -> Section:
    contenders: list[tuple[Contender, int]] = [(own, 4), (own, 6), *((peer, 4) for peer in peers)]
    rounds = knock_to_open(lab.clients["alice"], contenders, count)
    opened = [openings(rounds, title, lambda each: each.open_ms) for title in rounds]
    gaps = Series(
        "gap between the accepted SYN and the one before",
        "ms",
        tuple(each.gap_ms for cases in rounds.values() for each in cases if each is not None),
    )
    answered = [
        Series(f"{series.title}: knock to answer", "ms", series.rounds)
        for series in (openings(rounds, title, lambda each: each.answer_ms) for title in list(rounds)[:2])
    ]
    return Section(
        "Knock on the wire to first SYN accepted",
        [*opened, *answered, gaps],
        _ratios(opened[0], opened[2:]),
        ["Times are the kernel's timestamps on the client's interface. fwknop 2.6 has no IPv6."],
    )


def _starts(lab: Lab, own: Ours, peers: Sequence[Contender], count: int) -> list[Section]:
    client = lab.clients["alice"]
    taken = processes(client, own, peers[0] if peers else None, count)
    rounds = start_to_open(client, [own, *peers], count)
    opened = [openings(rounds, title, lambda each: each.open_ms) for title in rounds]
    return [
        Section("Client process, start to end (wall)", taken),
        Section("Client's start to first SYN accepted, its process included", opened, _ratios(opened[0], opened[1:])),
    ]


def _ratios(own: Series, peers: Sequence[Series]) -> list[Ratio]:
    return [found for found in (ratio(own, peer) for peer in peers) if found is not None]


def _tell(sentence: str) -> None:
    print(f"benchmarks: {sentence} ...", file=sys.stderr, flush=True)


def _stop(*_: object) -> NoReturn:
    raise SystemExit(128 + signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(main())
