"""`python -m benchmarks.lossy_path`: how often `spa-client knock` ends with 0, and how soon, on a bad path.

Every knock is a process of its own, of a device that has not knocked before.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from benchmarks.figures import Series
from benchmarks.machine import machine
from tests.bad_path import Weather, bad_path
from tests.end_to_end.crowd import enrol_crowd, keep
from tests.end_to_end.running import Laptop, RunningServer, open_folder
from tests.lab import Lab, LabError, check_surroundings

AT_ONCE = 8
FAMILIES = {"ipv4": (4,), "ipv6": (6,), "both": (4, 6)}
FAULT = 7


def main() -> int:
    """Measure and report; the exit code says only whether it could be done."""
    parser = argparse.ArgumentParser(prog="benchmarks/lossy-path", description=__doc__)
    parser.add_argument("--knocks", type=int, default=1000, help="by each of ipv4, ipv6 and both (default 1000)")
    parser.add_argument("--loss", type=float, default=0.3, help="share of packets lost, each way (default 0.3)")
    parser.add_argument("--delay", type=float, default=0.02, help="seconds, each way (default 0.02)")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    weather = Weather(loss=options.loss, delay_s=options.delay, jitter_s=options.delay / 2)
    try:
        check_surroundings()
        report = sys.stdout
        # The server's log, which comes when it ends, belongs to tests.
        with contextlib.redirect_stdout(io.StringIO()):
            for line in _measured(weather, options.knocks, options.seed):
                print(line, file=report, flush=True)
    except (LabError, OSError, AssertionError, subprocess.SubprocessError) as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return FAULT
    return 0


def _measured(weather: Weather, count: int, seed: int) -> Iterator[str]:
    yield from (f"- {name}: {value}" for name, value in machine().items())
    yield f"- the path, each way: {weather}"
    yield ""
    yield "| family | knocks | ended with 0 | of those, all families opened | start to end: median, p95, most |"
    yield "| --- | --- | --- | --- | --- |"
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(open_folder())
        lab = stack.enter_context(Lab(clients=("alice",)))
        server = RunningServer(lab, folder)
        crowd = iter(enrol_crowd(server, count * len(FAMILIES)))
        stack.enter_context(server)
        stack.enter_context(bad_path(lab, lab.clients["alice"], weather, seed))
        for name, versions in FAMILIES.items():
            laptops: list[Laptop] = []
            hosts = tuple(str(lab.server.address(version)) for version in versions)
            for _ in range(count):
                keys = next(crowd)
                laptops.append(Laptop(lab.clients["alice"], folder / keys.perimeter.label))
                keep(replace(keys, perimeter=replace(keys.perimeter, hosts=hosts)), laptops[-1].folder)
            yield _row(name, laptops)


def _row(name: str, laptops: Sequence[Laptop]) -> str:
    with ThreadPoolExecutor(AT_ONCE) as pool:
        done = list(pool.map(_knock, laptops))
    opened = [seconds for code, seconds, _ in done if code == 0]
    whole = sum(code == 0 and not warned for code, _, warned in done)
    summary = Series(name, "s", tuple(opened)).summary
    times = f"{summary.median:.2f}, {summary.p95:.2f}, {summary.most:.2f} s" if summary else "-"
    return f"| {name} | {len(done)} | {len(opened)} ({len(opened) / len(done):.2%}) | {whole} | {times} |"


def _knock(laptop: Laptop) -> tuple[int, float, bool]:
    """Exit code, seconds from the process's start to its end, and whether it warned."""
    begun_s = time.monotonic()
    done = laptop.client("knock", "office", "--timeout", "3")
    return done.returncode, time.monotonic() - begun_s, bool(done.stderr)


if __name__ == "__main__":
    sys.exit(main())
