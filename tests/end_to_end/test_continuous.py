"""A session lives only while the answer stays yes: by the network process's own look, whoever edited the registry."""

from __future__ import annotations

import contextlib
import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from spa_server.privilege import acting_as_owner_of
from spa_server.remember.registry import Registry
from spa_server.remember.store import Store, open_store
from spa_server.remember.users import Users
from tests.end_to_end.running import WEB, Laptop, RunningServer, enrolled
from tests.end_to_end.sshd import options, running_sshd
from tests.lab import Host, Lab
from tests.stalls import PATIENCE_S, wait_until

KEPT = WEB + 'on_expiry = "keep"\n'


@contextlib.contextmanager
def edited(server: RunningServer) -> Iterator[Store]:
    """The state, in the hands of a program that tells nobody of its edits."""
    with acting_as_owner_of(server.state), open_store(server.state) as store:
        yield store


@contextlib.contextmanager
def stream(client: Host, server: Host, port: int = 8443) -> Iterator[tuple[socket.socket, socket.socket]]:
    """A connection through the pinhole, over which both ends have heard of each other."""
    with server.listen_tcp(port) as listener, client.connect_tcp(server.ipv4, port) as near:
        far, _ = listener.accept()
        with far:
            for one, other in ((near, far), (far, near)):
                one.settimeout(PATIENCE_S)
                one.sendall(b"hello")
                assert other.recv(100) == b"hello"
            yield near, far


def flows_until_reset(far: socket.socket) -> float:
    """Send on and on, until the kernel resets it; the seconds that took."""
    begun_s = time.monotonic()
    with contextlib.suppress(OSError):
        while time.monotonic() < begun_s + PATIENCE_S:
            far.sendall(b"." * 100)
            time.sleep(0.005)
        pytest.fail("bytes flow on")
    return time.monotonic() - begun_s


def told(server: RunningServer, action: str) -> list[dict[str, Any]]:
    """The records of that kind in the audit trail."""
    lines = Path(server.state / "audit.jsonl").read_text().splitlines()
    return [record for record in map(json.loads, lines) if record["event"]["action"] == action]


@pytest.mark.parametrize("services", [WEB, KEPT], ids=["cut", "keep"])
def test_an_edit_of_the_registry_ends_what_is_open_without_any_command(
    server: RunningServer, alice: Laptop, lab: Lab, services: str
) -> None:
    reconfigured(server, services)
    alice.client("knock", "office", "--for", "300", check=True)
    with stream(alice.host, lab.server) as (_, far):
        with edited(server) as store:
            Registry(store).set_enabled("alice-laptop", False)
        print(f"\nbytes stopped after {flows_until_reset(far) * 1000:.0f} ms")
    wait_until(lambda: server.leases() == [], "no lease")
    wait_until(lambda: told(server, "session-ended") != [], "word of the end")
    granted, cut, ended = (told(server, action) for action in ("granted", "cut", "session-ended"))
    assert {each["session"]["id"] for each in cut} == {each["session"]["id"] for each in granted}
    assert {each["session"]["id"] for each in ended} == {each["session"]["id"] for each in granted}
    assert {each["event"]["reason"] for each in (*cut, *ended)} == {"device_disabled"}


@pytest.mark.parametrize("by", ["an edit alone", "the command"])
def test_a_user_who_is_disabled_is_cut_off_in_the_middle_of_a_transfer(
    server: RunningServer, alice: Laptop, lab: Lab, by: str
) -> None:
    alice.client("knock", "office", "--for", "300", check=True)
    with stream(alice.host, lab.server) as (_, far):
        if by == "the command":
            server.command("user", "disable", "alice")
        else:
            with edited(server) as store:
                Users(store).set_enabled("alice", False)
        print(f"\nbytes stopped {flows_until_reset(far) * 1000:.0f} ms after {by}")
    wait_until(lambda: server.leases() == [], "no lease")
    wait_until(lambda: told(server, "cut") != [], "word of it")
    assert {each["event"]["reason"] for each in told(server, "cut")} == {"user_disabled"}


def reconfigured(server: RunningServer, services: str) -> None:
    """Go over to other services."""
    text = server.config.read_text()
    server.config.write_text(text[: text.index("[service.web]")] + services.lstrip())
    server.command("reload")


def test_a_session_that_has_outlived_its_lease_is_cut_too_also_after_a_restart(
    server: RunningServer, alice: Laptop, lab: Lab
) -> None:
    reconfigured(server, KEPT)
    alice.client("knock", "office", "--for", "5", check=True)
    with stream(alice.host, lab.server) as (near, far):
        wait_until(lambda: server.leases() == [], "no lease")
        far.sendall(b"kept")
        assert near.recv(100) == b"kept"
        server.stop()
        server.start()
        far.sendall(b"still kept")
        assert near.recv(100) == b"still kept"
        with edited(server) as store:
            Registry(store).set_enabled("alice-laptop", False)
        flows_until_reset(far)


def test_a_restarted_server_cuts_off_whom_an_edit_meanwhile_shut_out(
    server: RunningServer, alice: Laptop, lab: Lab
) -> None:
    alice.client("knock", "office", "--for", "300", check=True)
    server.stop()
    with edited(server) as store:
        Registry(store).remove("alice-laptop")
    assert len(server.leases()) == 4
    server.start()
    wait_until(lambda: server.leases() == [], "no lease")


def test_a_neighbour_stays_inside(server: RunningServer, alice: Laptop, lab: Lab) -> None:
    bob = enrolled(server, lab.clients["neighbour"], "bob-laptop")
    for laptop in (alice, bob):
        laptop.client("knock", "office", "--for", "300", check=True)
    with edited(server) as store:
        Registry(store).set_enabled("alice-laptop", False)
    wait_until(lambda: {lease["device"] for lease in server.leases()} == {"bob-laptop"}, "alice is out")
    with stream(bob.host, lab.server):
        pass


def test_a_role_that_a_reload_takes_from_a_service_ends_its_sessions_before_the_command_returns(
    server: RunningServer, alice: Laptop
) -> None:
    alice.client("knock", "office", "--for", "300", check=True)
    reconfigured(server, WEB.replace('"admin"', '"keeper"'))
    assert server.leases() == []


def test_a_reload_that_changes_no_answer_ends_nothing(server: RunningServer, alice: Laptop, lab: Lab) -> None:
    alice.client("knock", "office", "--for", "300", check=True)
    with stream(alice.host, lab.server) as (near, far):
        reconfigured(server, WEB + "lease_s = 31\n")
        far.sendall(b"on")
        assert near.recv(100) == b"on"
    assert told(server, "cut") == []


def test_what_went_through_is_told_when_the_lease_has_ended(server: RunningServer, alice: Laptop, lab: Lab) -> None:
    alice.client("knock", "office", "--for", "5", check=True)
    sent_in, sent_out = 20_000, 100_000
    with stream(alice.host, lab.server) as (near, far):
        for one, other, octets in ((near, far, sent_in), (far, near, sent_out)):
            one.sendall(bytes(octets))
            left = octets
            while left:
                left -= len(other.recv(left))
    wait_until(lambda: told(server, "session-ended") != [], "word of the end")
    granted, ended = told(server, "granted"), told(server, "session-ended")
    (mine,) = [each for each in ended if each["source"]["ip"] == str(alice.host.ipv4)]
    assert mine["session"]["id"] in {each["session"]["id"] for each in granted}
    assert mine["event"]["reason"] == "expired"
    assert mine["event"]["duration"] > 4.5e9, "ns"
    assert sent_in < mine["source"]["bytes"] < 2 * (sent_in + sent_out)
    assert sent_out < mine["destination"]["bytes"] < 2 * (sent_in + sent_out)
    assert mine["source"]["packets"] > 0


def test_giving_back_ends_a_session_with_word_of_it(server: RunningServer, alice: Laptop) -> None:
    alice.client("exec", "office", "--", "true", check=True)
    wait_until(lambda: {each["event"]["reason"] for each in told(server, "session-ended")} == {"closed"}, "its end")


def test_leases_that_an_operator_ends_are_told_of_at_once(server: RunningServer, alice: Laptop) -> None:
    alice.client("knock", "office", "--for", "300", check=True)
    server.command("lease", "revoke", "alice-laptop")
    assert {each["event"]["reason"] for each in told(server, "session-ended")} == {"revoked"}


def test_what_a_device_is_left_with_is_not_taken(server: RunningServer, alice: Laptop, lab: Lab) -> None:
    alice.client("knock", "office", "--for", "300", check=True)
    with stream(alice.host, lab.server) as (near, far):
        server.command("device", "disable", "alice-laptop", "--keep-leases")
        server.command("reload")
        far.sendall(b"kept")
        assert near.recv(100) == b"kept"
    assert told(server, "cut") == []


SSH = """
[service.ssh]
tcp = [2222]
roles = ["admin"]
max_lease_s = 300
"""


def test_a_copy_by_scp_stops_when_its_user_is_disabled(
    server: RunningServer, alice: Laptop, lab: Lab, tmp_path: Path
) -> None:
    """The server's end of the file is looked at: what the client has sent and nobody got does not count."""
    reconfigured(server, WEB + SSH)
    large, copy = tmp_path / "large", tmp_path / "copy"
    large.write_bytes(bytes(100_000_000))
    alice.client("knock", "office", "ssh", "--for", "300", check=True)
    with running_sshd(lab.server, tmp_path, 2222):
        words = ["scp", "-q", "-l", "80000", "-P", "2222", *options(tmp_path), str(large), f"root@198.51.100.1:{copy}"]
        copying = alice.host.popen(words)
        wait_until(lambda: copy.exists() and copy.stat().st_size > 1_000_000, "the copy under way")
        server.command("user", "disable", "alice")
        done_s = looked_s = time.monotonic()
        # It grew no earlier than at the look before, which a machine that stood still makes earlier, never later.
        grew_s, size = done_s, copy.stat().st_size
        while looked_s < done_s + 1.5:
            time.sleep(0.005)
            if copy.stat().st_size > size:
                grew_s, size = looked_s, copy.stat().st_size
            looked_s = time.monotonic()
        copying.terminate()
        copying.wait(60)
    print(f"\nthe file grew until {(grew_s - done_s) * 1000:.0f} ms after the command had returned")
    assert size < 90_000_000, "the copy was over before anything could stop it"
    assert grew_s - done_s <= 0.2
