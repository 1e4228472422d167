"""The keeper and its one network process, its configuration, its privileges."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from spa_server.enforce.client import FirewallClient, FirewallFailed, FirewallGone, FirewallStale
from spa_server.enforce.tags import arm
from tests.server.keeper.running import SSH, USER, WEB, Kept, wait_until

AS_USER = """
import ctypes, os, pwd, sys
# All of it now: the user may not be able to read where it is installed.
import json, pathlib, signal, spa_server.commands.perimeter, spa_server.keeper.loop, spa_server.tell.log
from spa_server import commands, privilege
account = pwd.getpwnam(sys.argv[1])
libc = ctypes.CDLL(None)
os.setgroups([])
os.setresgid(account.pw_gid, account.pw_gid, account.pw_gid)
libc.prctl(8, 1, 0, 0, 0)  # PR_SET_KEEPCAPS
os.setresuid(account.pw_uid, account.pw_uid, account.pw_uid)
privilege._set_capabilities(1 << 12, inheritable=1 << 12)
libc.prctl(47, 2, 12, 0, 0)  # PR_CAP_AMBIENT_RAISE
sys.exit(commands.run(sys.argv[2:]))
"""
"""What a unit with User= and AmbientCapabilities=CAP_NET_ADMIN starts as."""


def is_gone(client: FirewallClient) -> bool:
    return client.take_events().ended


def test_only_one_network_process_at_a_time_and_none_of_another_user(kept: Kept) -> None:
    kept.start()
    first = kept.connect()
    first.arm([bytes(8)], 1000)
    for user in (USER, "root", "daemon"):
        second = kept.connect(user=user) if user != "daemon" else None
        if second is not None:
            wait_until(lambda second=second: is_gone(second), "its being turned away")  # type: ignore[misc]
    first.arm([bytes(8)], 1000)
    first.close()
    again = kept.connect()
    again.arm([bytes(8)], 1000)


def test_when_the_network_process_ends_no_tag_stays_armed(kept: Kept) -> None:
    kept.start()
    client = kept.connect()
    client.arm([b"one-time"], 60_000)
    kept.opens(client, kept.alice)
    client.close()
    with kept.table() as nft:
        wait_until(lambda: nft.dump("tags") == (), "the tags to be taken back")
    assert kept.leases() != ()


def test_a_reload_by_the_network_process_takes_effect_only_where_both_read_the_same(kept: Kept) -> None:
    kept.start()
    client = kept.connect()
    kept.opens(client, kept.alice)
    with pytest.raises(FirewallStale):
        client.reload(b"another.")
    kept.configure(WEB + SSH)
    client.reload(kept.digest)
    assert client.take_events().disarmed
    kept.opens(client, kept.alice, service=1)
    assert {lease.service for lease in kept.leases()} == {"web", "ssh"}
    kept.configure("[service.web]\ntcp = [0]\n")
    with pytest.raises(FirewallFailed):
        client.reload(bytes(8))
    kept.wait_for_log("service.web.tcp")
    kept.opens(client, kept.alice, service=1)


def test_a_reload_of_the_same_disarms_nothing(kept: Kept) -> None:
    kept.start()
    client = kept.connect()
    client.arm([b"one-time"], 60_000)
    client.reload(kept.digest)
    with kept.table() as nft:
        assert len(nft.dump("tags")) == 1
    assert not client.take_events().disarmed


def test_with_a_bad_configuration_the_last_good_one_is_put_up(kept: Kept) -> None:
    kept.configure(WEB + SSH)
    kept.start()
    kept.stop()
    kept.configure("[service.web]\ntcp = [70000]\nroles = []\n")
    kept.start()
    assert "70000" in kept.log()
    assert "last good configuration" in kept.log()
    with kept.table() as nft:
        assert "service-ssh" in nft.rules()
    kept.stop()
    kept.config_path.unlink()
    kept.start()
    with kept.table() as nft:
        assert "service-ssh" in nft.rules()


def test_it_ends_on_sigterm_and_leaves_the_perimeter_closed(kept: Kept) -> None:
    kept.start()
    client = kept.connect()
    client.arm([b"one-time"], 60_000)
    kept.opens(client, kept.alice)
    assert kept.stop() == 0
    with pytest.raises(FirewallGone):
        client.arm([bytes(8)], 1000)
    with kept.table() as nft:
        assert nft.dump("tags") == ()
    with kept.server.listen_tcp(8443):
        assert kept.alice.reaches_tcp(kept.server.ipv4, 8443)
        assert kept.stranger.is_kept_out(kept.server.ipv4, 8443)


def test_a_second_keeper_does_not_start_beside_the_first(kept: Kept) -> None:
    kept.start()
    done = kept.command("perimeter", "keep")
    assert (done.returncode, "running already" in done.stderr) == (7, True)


def test_it_runs_as_a_user_with_one_capability_which_it_lends_to_nft_only(kept: Kept) -> None:
    """What the unit does: no root anywhere, and CAP_NET_ADMIN as an ambient capability."""
    (kept.folder / "run" / "perimeter").mkdir(parents=True)
    for path in (kept.folder, kept.folder / "run" / "perimeter"):
        shutil.chown(path, USER, "nogroup")
    kept.start((sys.executable, "-c", AS_USER, USER))
    assert kept.process is not None
    status = Path(f"/proc/{kept.process.pid}/status").read_text()
    held = {line.split(":")[0]: int(line.split()[1], 16) for line in status.splitlines() if line.startswith("Cap")}
    assert (held["CapPrm"], held["CapEff"], held["CapAmb"]) == (1 << 12, 1 << 12, 0)
    kept.configure(WEB + SSH)
    client = kept.connect()
    client.reload(kept.digest)
    kept.opens(client, kept.alice, service=1)
    kept.nft("flush", "ruleset")
    assert kept.tables() == ["spa"]
    assert (kept.folder / "applied.toml").read_text() == kept.config_path.read_text()


def test_armed_elements_survive_nothing_they_should_not(kept: Kept) -> None:
    """Tags that a keeper before left armed are taken back by the next one: nobody may be listening for them."""
    kept.start()
    kept.kill()
    kept.manager.forget()
    with kept.table() as nft:
        arm(nft, [b"leftover"], 60_000)
    kept.start()
    with kept.table() as nft:
        assert nft.dump("tags") == ()
