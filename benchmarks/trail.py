"""What the audit trail costs: to append one record, to verify a long trail from first to last, and to search it.

    nice -n 10 .venv/bin/python -m benchmarks.trail --records 1000000

It writes about 700 bytes a record into a temporary folder.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from ipaddress import ip_address
from pathlib import Path

from spa_protocol.keys import public_key, sign
from spa_server.tell import trail_files
from spa_server.tell.audit import AuditTrail
from spa_server.tell.event_types import GRANTED
from spa_server.tell.events import Event
from spa_server.tell.trail_check import check
from spa_server.tell.trail_search import Wanted

SEED = os.urandom(32)
SIGN_EVERY = 1000


def event(number: int) -> Event:
    """A grant, as records have it most."""
    return Event(
        GRANTED,
        "granted alice-laptop (alice) from 203.0.113.7: web 30 s; skew -5 ms",
        source=ip_address("203.0.113.7"),
        destination=ip_address("198.51.100.1"),
        user="alice",
        device="alice-laptop",
        services=(("web", 30),),
        session=f"{number:016x}",
        skew_ms=-5,
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--folder", type=Path, help="where the trail is written for the time being")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="spa-bench-", dir=chosen.folder) as folder:
        path = Path(folder) / "audit.jsonl"
        trail = AuditTrail(path, largest_bytes=64 << 20, most_files=1000)
        taken_us = []
        for number in range(chosen.records):
            begun_ns = time.perf_counter_ns()
            trail.append(event(number))
            taken_us.append((time.perf_counter_ns() - begun_ns) / 1000)
            if number % SIGN_EVERY == SIGN_EVERY - 1:
                trail.sign(lambda message: sign(SEED, message))
        trail.close()
        print(f"append one record: median {statistics.median(taken_us):.1f} µs of {chosen.records}")
        note = trail_files.note_of(path)
        size = sum(file.stat().st_size for file in path.parent.glob("audit.jsonl*"))
        begun_s = time.perf_counter()
        report = check(trail_files.lines(path), keys=[public_key(SEED)])
        took_s = time.perf_counter() - begun_s
        if report.findings or note is None or report.last != note[0]:
            raise SystemExit(f"what was just written does not verify: {report.findings[:3]}")
        print(
            f"verify {report.records} records ({size >> 20} MiB in {report.files} files, {report.signatures} signed): "
            f"{took_s:.1f} s"
        )
        finds, begun_s = Wanted(session=f"{chosen.records - 1:016x}").finder(), time.perf_counter()
        found = sum(finds(line.text) for line in trail_files.lines(path))
        print(f"find {found} record among them by its session: {time.perf_counter() - begun_s:.1f} s")


if __name__ == "__main__":
    main()
