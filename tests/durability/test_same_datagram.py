"""The same datagram a second time: from anywhere, after any restart, after a loss of power. It never opens again."""

from __future__ import annotations

import shutil
import sqlite3
import struct
import time
from pathlib import Path

import pytest

from spa_protocol.refusal import Refusal
from tests.durability.conftest import Site
from tests.durability.grants import GrantWatch
from tests.durability.leases import open_leases, take_back_leases
from tests.end_to_end.crafting import now_ms
from tests.end_to_end.running import WEB, RunningServer, enrolled, open_folder
from tests.lab import Lab

SKEW_S = 20
WINDOW_MS = 60_000


def test_the_gate_drops_it_from_the_same_and_from_another_address(site: Site) -> None:
    datagram = site.keys.knock("web")
    assert site.hear(datagram) == "granted"
    for name in ("alice", "stranger"):
        assert site.is_dropped_at_the_gate(datagram, site.lab.clients[name])
    assert site.watch.new() == 1


@pytest.mark.parametrize("ending", ["SIGTERM", "SIGKILL"])
def test_after_a_restart_the_gate_drops_it_as_before(site: Site, ending: str) -> None:
    datagram = site.keys.knock("web")
    assert site.hear(datagram) == "granted"
    if ending == "SIGTERM":
        assert site.server.stop() == 0
    else:
        site.server.kill()
    take_back_leases(site.lab.server)
    site.server.start()
    for name in ("stranger", "alice"):
        assert site.is_dropped_at_the_gate(datagram, site.lab.clients[name])
    assert site.watch.new() == 1
    assert open_leases(site.lab.server) == 0
    assert site.hear(site.keys.knock("web")) == "granted"


def test_a_plain_write_survives_sigkill_and_is_in_the_file_before_the_answer(site: Site) -> None:
    """Two in one window: the second is not forced to the disk, and must be there all the same."""
    datagrams = [site.keys.knock("web") for _ in range(2)]
    for datagram in datagrams:
        assert site.hear(datagram) == "granted"
    site.server.kill()
    with sqlite3.connect(site.server.state / "state.sqlite3") as state:
        assert state.execute("SELECT count(*) FROM used").fetchone() == (2,)
    site.server.start()
    assert all(map(site.is_dropped_at_the_gate, datagrams))


def test_what_gets_through_the_gate_a_second_time_is_refused_by_the_record(site: Site) -> None:
    """As if the kernel had not deleted the tag: it is armed again by hand, and the server's own list made anew."""
    datagram = site.keys.knock("web")
    assert site.hear(datagram) == "granted"
    site.server.stop()
    take_back_leases(site.lab.server)
    with sqlite3.connect(site.server.state / "state.sqlite3") as state:
        state.execute("CREATE TABLE kept AS SELECT * FROM used")
        state.execute("DELETE FROM used")
    # Or a state that does not know its newest use would be fenced.
    (site.server.folder / "run" / "newest-use").write_bytes(struct.pack("=4q", -1, 0, 0, 0))
    site.server.start()
    with sqlite3.connect(site.server.state / "state.sqlite3") as state:
        state.execute("INSERT INTO used SELECT * FROM kept")
    state.close()
    assert site.hear(datagram) is Refusal.ALREADY_USED
    assert site.watch.new() == 1


def test_a_copy_of_the_state_put_back_within_the_boot_opens_nothing_again(site: Site) -> None:
    path = site.server.state / "state.sqlite3"
    assert site.hear(site.keys.knock("web")) == "granted"
    site.server.stop()
    copy = path.read_bytes()
    site.server.start()
    datagram = site.keys.knock("web")
    assert site.hear(datagram) == "granted"
    site.server.stop()
    take_back_leases(site.lab.server)
    path.write_bytes(copy)
    site.server.start()
    assert site.is_dropped_at_the_gate(datagram)
    assert open_leases(site.lab.server) == 0


def forget_the_boot(state: Path) -> None:
    """Make the state that of another boot."""
    with sqlite3.connect(state / "state.sqlite3") as connection:
        assert connection.execute("UPDATE boot SET boot_id = 'an earlier boot'").rowcount == 1
    connection.close()


def test_after_a_loss_of_power_only_windows_that_began_after_the_start_open(lab: Lab) -> None:
    """The folder is put back as it was before the knock, which is the worst that a loss of power can do."""
    with open_folder() as folder, RunningServer(lab, folder, WEB, max_skew_s=SKEW_S) as server:
        alice = enrolled(server, lab.clients["alice"], "alice-laptop")
        site = Site(lab, server, alice, alice.keys(), GrantWatch(lab.server))
        server.stop()
        before = folder / "before"
        shutil.copytree(server.state, before)
        server.start()
        datagrams = [site.keys.knock("web") for _ in range(2)]
        assert site.hear(datagrams[0]) == "granted"
        server.kill()
        shutil.rmtree(server.state)
        shutil.copytree(before, server.state)
        shutil.chown(server.state, "nobody", "nogroup")
        for file in server.state.iterdir():
            shutil.chown(file, "nobody", "nogroup")
        forget_the_boot(server.state)
        take_back_leases(lab.server)
        server.start()
        started_ms = now_ms()
        first_open_ms = ((started_ms + SKEW_S * 1000) // WINDOW_MS + 1) * WINDOW_MS

        # Nothing of the present window passes the gate: not the used one, not even one that was never sent.
        assert [site.hear(datagram, patience_s=0.3) for datagram in datagrams] == ["nothing"] * 2
        server.stop()
        server.start()  # a second start within the boot leaves the fence where it is
        assert site.hear(datagrams[0], patience_s=0.3) == "nothing"
        assert site.watch.new() == 1

        time.sleep(max(0, first_open_ms - now_ms()) / 1000)
        assert site.hear(datagrams[0], patience_s=0.3) == "nothing"
        assert site.hear(site.keys.knock("web")) == "granted"
        assert site.watch.new() == 1
