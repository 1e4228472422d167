"""A state that cannot be written: nothing opens, the client and the log say why, and service resumes by itself."""

from __future__ import annotations

import os
import resource
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from spa_protocol.refusal import Refusal
from spa_server.privilege import acting_as_owner_of
from spa_server.remember.fence import mark_new
from spa_server.remember.store import open_store
from tests.durability.conftest import Site
from tests.durability.grants import GrantWatch
from tests.durability.leases import open_leases
from tests.end_to_end.running import WEB, RunningServer, enrolled, open_folder
from tests.lab import Lab
from tests.stalls import PATIENCE_S

STATE_SIZE = "2m"
LARGEST_FILE_BYTES = 45_000
"""Room for the log's index (32 KiB) and for a few records in the log itself."""


@contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """A tiny file system of its own; nothing else of this host is touched."""
    folder.mkdir()
    _command("mount", "-t", "tmpfs", "-o", f"size={STATE_SIZE},mode=0755", f"spa-test-state-{os.getpid()}", str(folder))
    try:
        yield folder
    finally:
        _command("umount", "--lazy", str(folder))


def _command(*argv: str) -> None:
    subprocess.run(argv, check=True, capture_output=True)


@contextmanager
def site_on(lab: Lab, folder: Path) -> Iterator[Site]:
    """A running server whose state is on a small disk at folder/disk."""
    with small_disk(folder / "disk"):
        server = RunningServer(lab, folder, WEB)
        state = folder / "disk" / "state"
        # `init` made one beside the configuration; a copy of that would be fenced like any copy.
        _command("cp", "-a", str(server.state), str(state))
        (state / "state.sqlite3").unlink()
        with acting_as_owner_of(state), open_store(state, create=True) as store:
            mark_new(store)
        text = server.config.read_text().replace(str(server.state), str(state))
        server.config.write_text(text)
        server.state = state
        with server, GrantWatch(lab.server) as watch:
            alice = enrolled(server, lab.clients["alice"], "alice-laptop")
            yield Site(lab, server, alice, alice.keys(), watch)


def fill(disk: Path) -> Path:
    """Take all the space that is left."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            return ballast


def test_a_full_disk_opens_nothing_says_so_and_mends_itself(lab: Lab) -> None:
    with open_folder() as folder, site_on(lab, folder) as site:
        assert site.hear(site.keys.knock("web")) == "granted"
        site.watch.new()
        ballast = fill(folder / "disk")
        mark = site.server.log_lines()

        # What is left of a block may still hold a record or two; each is then honestly granted.
        verdicts = [site.hear(site.keys.knock("web")) for _ in range(6)]
        refused = verdicts.index(Refusal.NOT_RECORDED)
        assert set(verdicts[refused:]) == {Refusal.NOT_RECORDED}
        assert site.watch.new() == refused
        assert "disk is full" in site.server.wait_for_log("nothing is opened", since=mark)
        assert site.alice.client("knock", "office", "web").returncode == 3

        ballast.unlink()
        assert site.hear(site.keys.knock("web")) == "granted"
        assert site.watch.new() == 1
        assert None is site.server.process or site.server.process.poll() is None


def test_a_knock_that_was_not_recorded_may_be_sent_again_under_another_slot_only(lab: Lab) -> None:
    with open_folder() as folder, site_on(lab, folder) as site:
        site.hear(site.keys.knock("web"))
        ballast = fill(folder / "disk")
        for _ in range(6):
            datagram = site.keys.knock("web")
            if site.hear(datagram) is Refusal.NOT_RECORDED:
                break
        else:
            raise AssertionError("the disk never became full")
        ballast.unlink()
        site.watch.new()
        assert site.hear(datagram, patience_s=0.3) == "nothing"
        assert site.watch.new() == 0


def test_writes_that_fail_with_an_error_open_nothing(site: Site) -> None:
    """A limit on the size of files, which the server inherits, fails its writes as a broken disk would."""
    site.server.stop()
    usual = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (LARGEST_FILE_BYTES, usual[1]))
    try:
        site.server.start()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, usual)
    mark = site.server.log_lines()
    verdicts = [site.hear(site.keys.knock("web")) for _ in range(12)]
    refused = verdicts.index(Refusal.NOT_RECORDED)
    assert set(verdicts) == {"granted", Refusal.NOT_RECORDED}
    assert set(verdicts[refused:]) == {Refusal.NOT_RECORDED}
    assert site.watch.new() == refused
    assert "reading or writing failed" in site.server.wait_for_log("nothing is opened", since=mark)


def test_a_state_locked_by_another_process_opens_nothing(site: Site) -> None:
    """A command that holds the file: the knock is refused within the server's patience, and the next one opens."""
    holder = sqlite3.connect(site.server.state / "state.sqlite3", isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    assert site.hear(site.keys.knock("web")) is Refusal.NOT_RECORDED
    holder.execute("ROLLBACK")
    holder.close()
    assert site.hear(site.keys.knock("web")) == "granted"
    assert site.watch.new() == 1


def test_a_server_whose_state_is_read_only_does_not_start_and_the_perimeter_stays_closed(lab: Lab) -> None:
    with open_folder() as folder, site_on(lab, folder) as site, lab.server.listen_tcp(8443):
        site.server.stop()
        _command("mount", "-o", "remount,ro", str(folder / "disk"))
        mark = site.server.log_lines()
        process = site.server.launch()
        assert process.wait(PATIENCE_S) == 5
        line = site.server.wait_for_log("cannot be", since=mark)
        assert "writ" in line or "opened" in line
        assert "Traceback" not in site.server.log()
        assert site.hear(site.keys.knock("web"), patience_s=0.3) == "nothing"
        assert site.alice.host.is_kept_out(lab.server.ipv4, 8443)
        assert open_leases(lab.server) == 0

        _command("mount", "-o", "remount,rw", str(folder / "disk"))
        site.server.start()
        assert site.hear(site.keys.knock("web")) == "granted"


def test_nothing_is_left_mounted() -> None:
    assert f"spa-test-state-{os.getpid()} " not in Path("/proc/mounts").read_text()
