"""Root's commands to a running keeper: apply, on trial or not, confirm, remove, revoke."""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import socket
import threading
import time
from pathlib import Path

import pytest

from spa_server.keeper import owner
from tests.server.keeper.running import SSH, USER, WEB, Kept, wait_until


def test_apply_brings_it_to_the_file_as_it_is_now(kept: Kept) -> None:
    kept.start()
    with kept.server.listen_tcp(2222):
        assert kept.stranger.reaches_tcp(kept.server.ipv4, 2222)
        kept.configure(WEB + SSH)
        done = kept.command("perimeter", "apply")
        assert done.stdout == "closed: web, ssh; knocks are taken on udp/62201\n"
        assert kept.stranger.is_kept_out(kept.server.ipv4, 2222)


def test_a_bad_file_changes_nothing(kept: Kept) -> None:
    kept.start()
    client = kept.connect()
    kept.configure("[service.web]\ntcp = [70000]\nroles = []\n")
    done = kept.command("perimeter", "apply")
    assert (done.returncode, "70000" in done.stderr) == (5, True)
    kept.opens(kept_client := client, kept.alice)
    assert kept_client.counters()[4] == 1


def test_what_is_on_trial_is_put_back_unless_confirmed(kept: Kept) -> None:
    kept.start()
    kept.configure(WEB + SSH)
    with kept.server.listen_tcp(2222):
        assert kept.command("perimeter", "apply", "--confirm", "1").returncode == 0
        kept.wait_for_log("the old state is put back")
        wait_until(lambda: kept.stranger.reaches_tcp(kept.server.ipv4, 2222), "the old state")
        assert kept.command("perimeter", "apply", "--confirm", "2").returncode == 0
        assert kept.command("perimeter", "confirm").stdout == "confirmed: the perimeter stays as it is\n"
        assert owner.status(kept.config.perimeter_folder)["confirm_left_s"] is None
        assert kept.stranger.is_kept_out(kept.server.ipv4, 2222)
        assert kept.command("perimeter", "confirm").returncode == 3


def test_a_lease_that_is_opened_confirms(kept: Kept) -> None:
    kept.start()
    kept.configure(WEB + SSH)
    assert kept.command("perimeter", "apply", "--confirm", "600").returncode == 0
    assert owner.status(kept.config.perimeter_folder)["confirm_left_s"] > 500
    kept.opens(kept.connect(), kept.alice)
    assert owner.status(kept.config.perimeter_folder)["confirm_left_s"] is None
    kept.wait_for_log("a knock opened a lease")


def test_after_it_was_put_back_a_server_that_read_the_new_file_can_still_open(kept: Kept) -> None:
    """Or an operator whose way in is a lease would be locked out by the very insurance against it."""
    kept.start()
    kept.configure(SSH + WEB)
    assert kept.command("perimeter", "apply", "--confirm", "1").returncode == 0
    client = kept.connect()
    client.reload(kept.digest)
    kept.wait_for_log("the old state is put back")
    kept.opens(client, kept.alice, service=1)
    assert {lease.service for lease in kept.leases()} == {"web"}


def test_what_was_taken_back_does_not_come_again_with_a_restart(kept: Kept) -> None:
    """A locked-out operator's next resort is to have the host started again."""
    kept.start()
    kept.configure(SSH + WEB)
    assert kept.command("perimeter", "apply", "--confirm", "600").returncode == 0
    kept.kill()
    kept.start()
    assert "nobody confirmed it" in kept.log()
    client = kept.connect()
    client.reload(kept.digest)
    kept.opens(client, kept.alice, service=1)
    assert {lease.service for lease in kept.leases()} == {"web"}
    with kept.table() as nft:
        assert "service-ssh" not in nft.rules()
    assert kept.command("perimeter", "apply").returncode == 0
    kept.kill()
    kept.start()
    with kept.table() as nft:
        assert "service-ssh" in nft.rules()


def test_nothing_is_put_back_where_nothing_stood(kept: Kept) -> None:
    kept.start()
    assert kept.command("perimeter", "remove", "--yes").returncode == 0
    assert kept.command("perimeter", "apply", "--confirm", "1").returncode == 0
    wait_until(lambda: kept.tables() == [], "the perimeter to be taken down again")


def test_revoke_ends_leases_and_sessions_through_the_keeper(kept: Kept) -> None:
    kept.start()
    kept.opens(kept.connect(), kept.alice)
    with kept.server.listen_tcp(8443) as listener, kept.alice.connect_tcp(kept.server.ipv4, 8443) as near:
        far, _ = listener.accept()
        done = kept.command("lease", "revoke", str(kept.alice.ipv4))
        assert "2 leases and 2 connections ended" in done.stdout
        with far, pytest.raises(ConnectionResetError):
            near.recv(1)
    assert kept.leases() == ()


def test_remove_takes_it_down_until_it_is_applied_again(kept: Kept) -> None:
    kept.start()
    client = kept.connect()
    assert kept.command("perimeter", "remove", "--yes").stdout == "the perimeter is down\n"
    assert kept.tables() == []
    time.sleep(1.5)  # two looks of the keeper at its table
    assert kept.tables() == []
    client.reload(kept.digest)
    assert kept.tables() == []
    assert kept.command("perimeter", "apply").returncode == 0
    assert kept.tables() == ["spa"]
    assert client.take_events().disarmed


def test_remove_does_not_wait_for_a_trail_that_cannot_be_written(kept: Kept) -> None:
    """Or root, locked out by the perimeter while the disk is full, could not take it down from the console."""
    kept.configure(audit_file=f"{kept.folder}/nowhere/audit.jsonl")
    kept.start()
    done = kept.command("perimeter", "remove", "--yes")
    assert (done.returncode, done.stdout) == (0, "the perimeter is down\n"), done.stderr
    assert kept.tables() == []
    assert "warning: this is not recorded: " in done.stderr
    assert "warning: what came of it is not recorded: " in done.stderr
    kept.wait_for_log("root took the perimeter down")
    invite = kept.command("device", "enable", "alice-laptop")
    assert (invite.returncode, "nothing was changed" in invite.stderr) == (7, True), "what gives more does wait"


def test_without_a_keeper_the_commands_do_it_themselves(kept: Kept) -> None:
    assert kept.command("perimeter", "apply").returncode == 0
    assert kept.command("perimeter", "remove", "--yes").returncode == 0
    kept.start()
    kept.kill()
    kept.manager.forget()
    assert kept.command("perimeter", "apply").returncode == 0
    kept.server.run(["nft", "-j", "list", "tables"])
    assert kept.command("perimeter", "remove", "--yes").stdout == "the perimeter is down\n"
    assert kept.tables() == []


def test_a_table_of_somebody_else_is_not_touched_and_the_line_says_what_to_do(kept: Kept) -> None:
    with kept.table() as nft:
        nft.own()
        for words in (("perimeter", "apply"), ("perimeter", "remove", "--yes"), ("lease", "revoke", "192.0.2.7")):
            done = kept.command(*words)
            assert done.returncode == 7, words
            assert "systemctl stop spa-server spa-perimeter" in done.stderr


def test_only_root_is_heard(kept: Kept) -> None:
    kept.start()
    path = kept.config.perimeter_folder / "control"
    assert Path(path).stat().st_mode & 0o777 == 0o600
    path.chmod(0o666)
    uid = pwd.getpwnam(USER).pw_uid
    os.seteuid(uid)
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.connect(str(path))
            with contextlib.suppress(ConnectionError):
                connection.sendall(b'{"ask": "remove"}\n')
                assert connection.recv(100) == b""
    finally:
        os.seteuid(0)
    assert kept.tables() == ["spa"]


@pytest.mark.parametrize("line", [b"", b"x\n", b"[]\n", b'{"ask": "other"}\n', b'{"ask": "revoke", "sources": 1}\n'])
def test_nonsense_is_answered_with_an_error(kept: Kept, line: bytes) -> None:
    kept.start()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.connect(str(kept.config.perimeter_folder / "control"))
        connection.sendall(line)
        connection.shutdown(socket.SHUT_WR)
        assert "error" in json.loads(connection.recv(1000))
    assert owner.status(kept.config.perimeter_folder)["standing"] is True


def test_what_the_server_answers_is_never_obeyed_by_roots_terminal(kept: Kept) -> None:
    """It may have been taken over, and its answers are shown to root."""
    kept.start()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(kept.config.control_socket))
        listener.listen()

        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(json.dumps({"error": ["\x1b]0;owned\x07", {"\x9b": 1}]}).encode() + b"\n")

        server = threading.Thread(target=answer)
        server.start()
        done = kept.command("perimeter", "apply")
        server.join()
    assert "owned" in done.stderr
    assert all(char.isprintable() or char == "\n" for char in done.stderr + done.stdout)
