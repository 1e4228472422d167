"""The audit trail of a running server: nothing that was granted is missing from it, and strangers add nothing to it."""

from __future__ import annotations

import os
import random
import signal
import socket
import time
from pathlib import Path
from typing import Any

import pytest

from spa_protocol.answer import Checkpoint
from spa_protocol.refusal import Refusal
from tests.durability.conftest import Site
from tests.durability.grants import GrantWatch
from tests.durability.leases import take_back_leases
from tests.durability.test_flood import start_flood
from tests.durability.test_unwritable import fill, small_disk
from tests.end_to_end.running import WEB, RunningServer, ask_udp, enrolled, open_folder, udp_socket, wait_until
from tests.lab import Lab
from tests.server.tell.told import assert_no_gap, records

KILLS = int(os.environ.get("SPA_TRAIL_KILLS", "30"))


def trail(site: Site) -> Path:
    return site.server.state / "audit.jsonl"


def told(site: Site, *actions: str) -> list[dict[str, Any]]:
    return [record for record in records(trail(site)) if record["event"]["action"] in actions]


def of_others(site: Site) -> list[dict[str, Any]]:
    """All records but those in which the server signs now and then how far it has come."""
    return [record for record in records(trail(site)) if record["event"]["action"] != "checkpoint"]


def told_in_answer(site: Site, knock: bytes) -> Checkpoint:
    """How far the trail had come, by the answer to a knock from Alice's host."""
    reply = ask_udp(site.alice.host, knock, site.lab.server.ipv4, site.server.knock_port)
    assert reply is not None
    answer = site.keys.answer(reply, knock)
    assert answer is not None
    assert answer.checkpoint is not None
    return answer.checkpoint


def test_an_answer_covers_its_own_record_and_shows_when_the_trail_was_cut_or_written_anew(site: Site) -> None:
    for name in ("web", "nothing-of-that-name"):
        knock = site.keys.knock(name)
        checkpoint = told_in_answer(site, knock)
        record = records(trail(site))[checkpoint.seq - 1]
        assert record["session"]["id"] == knock[:8].hex()
        assert record["hash"][:32] == checkpoint.hash.hex()
    told = f"{checkpoint.seq}:{checkpoint.hash.hex()}"
    assert "as it was written" in site.server.command("log", "verify", "--checkpoint", told).stdout
    site.server.stop()
    stopped, signed = records(trail(site))[-2:]
    assert (stopped["event"]["action"], signed["event"]["action"]) == ("stopped", "checkpoint")
    assert signed["spa"]["checkpoint"]["hash"] == stopped["hash"]
    assert site.server.json("log", "verify", "--checkpoint", told)["signed_to"] == stopped["seq"]

    kept = trail(site).read_bytes()
    cut = b"".join(kept.splitlines(keepends=True)[: checkpoint.seq - 1])
    for made_from in (cut, kept.replace(b"alice", b"mallo")):
        trail(site).write_bytes(made_from)
        trail(site).with_name("audit.jsonl.lock").unlink(missing_ok=True)
        done = site.server.command("log", "verify", "--checkpoint", told, check=False)
        assert (done.returncode, done.stdout.splitlines()[-1]) == (10, "NOT as it was written")


def test_a_grant_and_a_refusal_are_on_record_each_under_one_session(site: Site) -> None:
    knock = site.keys.knock("web")
    assert site.hear(knock) == "granted"
    refused = site.keys.knock("nothing-of-that-name")
    assert site.hear(refused) is Refusal.UNKNOWN_SERVICE
    granting, granted = told(site, "granting", "granted")
    assert granting["session"] == granted["session"] == {"id": knock[:8].hex()}
    assert (granting["event"]["outcome"], granted["event"]["outcome"]) == ("unknown", "success")
    assert (granted["device"], granted["user"]) == ({"id": "alice-laptop"}, {"name": "alice"})
    assert granted["source"] == {"ip": str(site.alice.host.ipv4)}
    assert granted["spa"]["services"] == [{"name": "web", "seconds": 30}]
    (refusal,) = told(site, "refused")
    assert (refusal["session"]["id"], refusal["event"]["reason"]) == (refused[:8].hex(), "unknown_service")
    assert refusal["spa"]["services"] == [{"name": "nothing-of-that-name", "seconds": 0}]
    enrolling, joined = told(site, "enrolling", "enrolled")[:2]
    assert enrolling["session"] == joined["session"]
    assert_no_gap(trail(site))


def test_what_commands_change_is_on_record_with_who_did_it(site: Site) -> None:
    server = site.server
    server.invite("bob-laptop", user="bob")
    server.command("invite", "bob-laptop", "--cancel")
    server.command("device", "disable", "alice-laptop", env={**os.environ, "SUDO_USER": "carol"})
    server.command("device", "enable", "alice-laptop")
    server.command("device", "export")
    server.command("perimeter", "apply")
    assert server.command("device", "remove", "nobody-here", check=False).returncode == 3
    done = [
        (each["event"]["action"], each["event"]["outcome"], each.get("device", {}).get("id"))
        for each in records(trail(site))
        if "effective" in each.get("user", {})
    ][2:]  # after Alice's own invite
    steps = [
        ("invited", "success", "bob-laptop"),
        ("invites-withdrawn", "success", "bob-laptop"),
        ("device-disabled", "success", "alice-laptop"),
        ("revoked", "success", "alice-laptop"),
        ("device-enabled", "success", "alice-laptop"),
        ("devices-exported", "success", None),
        ("perimeter-applied", "success", None),
        ("device-removed", "failure", "nobody-here"),
    ]
    assert done == [each for step in steps for each in ((step[0], "unknown", step[2]), step)]
    disabled = told(site, "device-disabled")[-1]
    assert disabled["user"]["effective"] == {"id": "0", "name": "root"}
    if Path("/proc/self/loginuid").read_text() == str(2**32 - 1):
        assert disabled["user"]["name"] == "carol"
    wait_until(lambda: bool(told(site, "registry-seen")), "the server's own word of an edit")
    assert "secret" not in trail(site).read_text().replace("gate secrets included", "").lower()


def test_commands_are_on_record_when_no_server_runs(site: Site) -> None:
    site.server.stop()
    site.server.command("device", "disable", "alice-laptop", "--keep-leases")
    site.server.start()
    assert [each["event"]["outcome"] for each in told(site, "device-disabled")] == ["unknown", "success"]
    assert_no_gap(trail(site))


def test_strangers_add_nothing_to_the_trail_or_the_log(site: Site) -> None:
    assert site.hear(site.keys.knock("web")) == "granted"
    site.server.status()
    told_before, lines = of_others(site), site.server.log_lines()
    dropped = site.server.counter("knock_dropped")
    floods = [start_flood(site, family) for family in (4, 6)]
    assert [flood.wait(120) for flood in floods] == [0, 0]
    site.server.status()
    assert site.server.counter("knock_dropped") > dropped
    assert (of_others(site), site.server.log_lines()) == (told_before, lines)


def test_a_trail_that_cannot_be_written_opens_nothing_says_so_and_mends_itself(lab: Lab) -> None:
    with open_folder() as folder, small_disk(folder / "disk") as disk:
        log = disk / "log"
        log.mkdir()
        server = RunningServer(lab, folder, WEB, audit_file=str(log / "audit.jsonl"))
        owner = server.state.stat()
        os.chown(log, owner.st_uid, owner.st_gid)
        with server, GrantWatch(lab.server) as watch:
            alice = enrolled(server, lab.clients["alice"], "alice-laptop")
            site = Site(lab, server, alice, alice.keys(), watch)
            assert site.hear(site.keys.knock("web")) == "granted"
            watch.new()
            ballast = fill(disk)
            mark = server.log_lines()
            # What is left of a block may still hold a record or two; each is then honestly granted.
            verdicts = [site.hear(site.keys.knock("web")) for _ in range(10)]
            refused = verdicts.index(Refusal.NOT_RECORDED)
            assert set(verdicts[refused:]) == {Refusal.NOT_RECORDED}
            assert watch.new() == refused
            assert "disk is full" in server.wait_for_log("nothing is opened while the audit trail", since=mark)
            assert "disk is full" in server.wait_for_log("knocks may be refused until", since=mark)
            invite = server.command("invite", "x", "--user", "x", "--role", "admin", check=False)
            assert (invite.returncode, invite.stdout) == (7, "")
            assert "nothing was changed" in invite.stderr
            disabled = server.command("device", "disable", "alice-laptop", "--keep-leases", check=False)
            assert disabled.returncode == 0, "to keep someone out must not wait for the disk"
            assert "not recorded" in disabled.stderr

            ballast.unlink()
            server.wait_for_log("mended: audit trail", since=mark)
            server.command("device", "enable", "alice-laptop")
            assert site.hear(site.keys.knock("web")) == "granted"
            assert watch.new() == 1
            missed = [each for each in records(log / "audit.jsonl") if each["event"].get("reason") == "not_recorded"]
            assert len(missed) == verdicts.count(Refusal.NOT_RECORDED), "a refusal of that time is missing"
            assert_no_gap(log / "audit.jsonl")


@pytest.mark.timeout(600)
def test_no_kill_leaves_a_grant_without_a_record(site: Site) -> None:
    seed = int(os.environ.get("SPA_KILL_SEED") or random.SystemRandom().randrange(1 << 32))
    print(f"seed {seed}")
    chance = random.Random(seed)
    keys = [site.keys, *(enrolled(site.server, site.alice.host, f"more-{number}").keys() for number in range(2))]
    site.watch.new()
    granted = 0
    longest_s = 0.006
    to = (str(site.lab.server.ipv4), 62201)
    before = len(told(site, "granting"))
    for trial in range(KILLS):
        with udp_socket(site.alice.host, site.lab.server.ipv4) as sock:
            sock.sendto(keys[trial % len(keys)].knock("web"), to)
            time.sleep(chance.uniform(0, longest_s))  # the moment of the kill is what is tried
            pids = list(site.server.pids)
            chance.shuffle(pids)
            for pid in pids:
                os.kill(pid, signal.SIGKILL)
        assert site.server.process is not None
        site.server.process.wait(20)
        site.server.stop()
        new = site.watch.new()
        granted += new
        longest_s *= 0.8 if new else 1.25  # about the moment of the grant, however fast the machine is
        on_record = len(told(site, "granting")) - before
        assert granted <= on_record, f"{granted} grants and {on_record} records"
        take_back_leases(site.lab.server)
        site.server.start()
    print(f"{KILLS} kills: {granted} grants in the kernel, {on_record} on record")
    assert granted, "every kill came too early to prove anything"
    assert_no_gap(trail(site))
    assert site.server.json("log", "verify")["findings"] == []


def test_a_trail_that_is_not_required_raises_an_alarm_and_goes_on(lab: Lab) -> None:
    with open_folder() as folder, small_disk(folder / "disk") as disk:
        log = disk / "log"
        log.mkdir()
        server = RunningServer(lab, folder, WEB, audit_file=str(log / "audit.jsonl"), audit_required=False)
        owner = server.state.stat()
        os.chown(log, owner.st_uid, owner.st_gid)
        with server, GrantWatch(lab.server) as watch:
            alice = enrolled(server, lab.clients["alice"], "alice-laptop")
            site = Site(lab, server, alice, alice.keys(), watch)
            watch.new()
            ballast = fill(disk)
            mark = server.log_lines()
            assert [site.hear(site.keys.knock("web")) for _ in range(8)] == ["granted"] * 8
            assert "disk is full" in server.wait_for_log("what happens cannot be recorded for now", since=mark)
            server.wait_for_log("knocks may be refused until", since=mark)
            ballast.unlink()
            server.wait_for_log("mended: audit trail", since=mark)
            granted = [each for each in records(log / "audit.jsonl") if each["event"]["action"] == "granted"]
            assert len(granted) == 8
            assert server.json("log", "verify")["findings"] == []


def test_prometheus_reads_the_running_server(lab: Lab) -> None:
    with open_folder() as folder:
        socket_path = folder / "run" / "metrics.sock"
        with RunningServer(lab, folder, WEB, metrics=str(socket_path)) as server, GrantWatch(lab.server) as watch:
            alice = enrolled(server, lab.clients["alice"], "alice-laptop")
            site = Site(lab, server, alice, alice.keys(), watch)
            assert site.hear(site.keys.knock("web")) == "granted"
            server.command("lease", "revoke", "alice-laptop")
            page = scraped(socket_path)
    assert 'spa_knocks_total{result="granted"} 1' in page
    assert 'spa_decisions_total{service="web",decision="granted",reason=""} 1' in page
    assert 'spa_revocations_total{cause="operator"} 1' in page
    assert 'spa_gate_datagrams_total{verdict="admitted"}' in page
    assert 'spa_leases_active{service="web"} 0' in page
    assert "alice" not in page


def scraped(path: Path) -> str:
    """What a scraper gets."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(20)
        connection.connect(str(path))
        connection.sendall(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
        pieces = b"".join(iter(lambda: connection.recv(65536), b""))
    head, _, page = pieces.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.0 200")
    return page.decode()
