"""Nobody locks themself out unknowingly: trials without a keeper, and the port of a live ssh session."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from spa_server.enforce.leases import Grant, open_leases
from tests.server.keeper.running import SSH, WEB, Kept, wait_until

OWN = {**os.environ, "SSH_CONNECTION": "198.51.100.11 40000 198.51.100.1 2222"}


@contextmanager
def ssh_session(kept: Kept, port: int) -> Iterator[None]:
    with kept.server.listen_tcp(port) as listener, kept.alice.connect_tcp(kept.server.ipv4, port):
        far, _ = listener.accept()
        with far:
            yield


def test_the_port_of_the_ssh_session_in_use_is_not_closed_without_yes(kept: Kept) -> None:
    kept.configure(WEB + SSH)
    with kept.server.listen_tcp(2222):
        done = kept.command("perimeter", "apply", env=OWN)
        assert done.returncode == 3
        assert "this ssh session from 198.51.100.11 uses tcp/2222, which service ssh closes" in done.stderr
        assert "--confirm 120 --yes" in done.stderr
        assert kept.stranger.reaches_tcp(kept.server.ipv4, 2222)
    assert kept.command("perimeter", "apply", "--yes", env=OWN).returncode == 0
    assert kept.tables() == ["spa"]


def test_nor_that_of_another_live_one(kept: Kept) -> None:
    kept.configure(WEB + '[service.ssh]\ntcp = [22]\nroles = ["admin"]\n')
    assert kept.command("perimeter", "apply").returncode == 0
    kept.command("perimeter", "remove", "--yes")
    with ssh_session(kept, 22):
        done = kept.command("perimeter", "apply")
        assert done.returncode == 3
        assert f"a live ssh session from {kept.alice.ipv4} uses tcp/22" in done.stderr


def test_sessions_to_ports_that_stay_open_are_nobodys_business(kept: Kept) -> None:
    with ssh_session(kept, 22):
        assert kept.command("perimeter", "apply").returncode == 0


def guard_ended(kept: Kept) -> bool:
    return not (kept.folder / "run" / "perimeter" / "guard").exists()


@pytest.mark.parametrize("stood", ["another", "what a keeper left", "nothing"])
def test_without_a_keeper_the_old_state_is_put_back_too(kept: Kept, stood: str) -> None:
    if stood == "another":
        assert kept.command("perimeter", "apply").returncode == 0
    if stood == "what a keeper left":
        kept.start()
        kept.stop()
        kept.manager.forget()
    before = kept.server.run(["nft", "list", "ruleset"]).stdout
    kept.configure(WEB + SSH)
    assert kept.command("perimeter", "apply", "--confirm", "2").returncode == 0
    assert "service-ssh" in kept.server.run(["nft", "list", "ruleset"]).stdout
    wait_until(lambda: guard_ended(kept), "the guard's end")
    after = kept.server.run(["nft", "list", "ruleset"]).stdout
    but_for = re.compile(r"packets \d+ bytes \d+|^\tflags.*\n\n", re.MULTILINE)
    assert but_for.sub("", after) == but_for.sub("", before)


def test_it_stays_when_confirmed(kept: Kept) -> None:
    assert kept.command("perimeter", "apply", "--confirm", "600").returncode == 0
    again = kept.command("perimeter", "apply", "--confirm", "600")
    assert (again.returncode, "on trial already" in again.stderr) == (7, True)
    assert kept.command("perimeter", "confirm").returncode == 0
    wait_until(lambda: guard_ended(kept), "the guard's end")
    assert kept.tables() == ["spa"]


def test_it_stays_when_a_knock_opened_a_lease(kept: Kept) -> None:
    assert kept.command("perimeter", "apply", "--confirm", "600").returncode == 0
    with kept.table() as nft:
        open_leases(nft, [Grant(kept.config.services[0], kept.alice.ipv4, kept.server.ipv4, 60, "alice-laptop")])
    wait_until(lambda: guard_ended(kept), "the guard's end")
    assert kept.tables() == ["spa"]
