"""SIGKILL at random moments: what was done is in the trail, the trail verifies, and its numbers have no gap."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from spa_server.tell import trail_files
from spa_server.tell.trail_check import Known, check
from tests.server.tell.told import assert_no_gap, records

KILLS = 40
WRITERS = 2

WRITER = """
import itertools, os, sys
from pathlib import Path
from spa_server.tell.audit import AuditTrail
from tests.server.tell.told import granted, granting
trail = AuditTrail(Path(sys.argv[1]), largest_bytes=30_000, most_files=100_000)
done = os.open(sys.argv[2], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
print("ready", flush=True)
for number in itertools.count():
    session = f"{os.getpid()}-{number}"
    trail.append(granting(session))
    os.write(done, session.encode() + b"\\n")  # the kernel's doing
    trail.append(granted(session))
"""


def start(path: Path, done: Path) -> subprocess.Popen[str]:
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path), str(done)], stdout=subprocess.PIPE, text=True, cwd=Path.cwd()
    )
    assert writer.stdout is not None
    assert writer.stdout.readline() == "ready\n"
    return writer


def test_no_kill_hides_what_was_done_or_breaks_the_trail(tmp_path: Path) -> None:
    seed = int(os.environ.get("SPA_KILL_SEED") or random.SystemRandom().randrange(1 << 32))
    print(f"seed {seed}")
    chance = random.Random(seed)
    path, done = tmp_path / "audit.jsonl", tmp_path / "done"
    for _ in range(KILLS // WRITERS):
        writers = [start(path, done) for _ in range(WRITERS)]
        for writer in writers:
            time.sleep(chance.uniform(0, 0.02))  # the moment of the kill is what is tried
            writer.send_signal(signal.SIGKILL)
        for writer in writers:
            writer.wait(20)
            assert writer.stdout is not None
            writer.stdout.close()
    sessions = {record["session"]["id"] for record in records(path) if "session" in record}
    undone = set(done.read_text().split()) - sessions
    assert not undone, f"done and not in the trail: {undone}"
    assert len(sessions) > KILLS, "nothing was written between the kills"
    assert_no_gap(path)
    note = trail_files.note_of(path)
    assert note is not None
    report = check(trail_files.lines(path), known=[Known(*note, "the lock file")])
    assert report.findings == []
