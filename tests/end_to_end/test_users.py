"""People, and what their devices may be, changed by an operator while the server runs."""

from __future__ import annotations

import json
import os
import re
from base64 import b32decode, b32encode
from pathlib import Path
from typing import Any

import pytest

from spa_protocol.refusal import Refusal
from spa_server.privilege import acting_as_owner_of
from spa_server.remember.one_time import STEP_S, code_of
from spa_server.remember.store import open_store
from spa_server.remember.users import Users
from tests.end_to_end.laptop import SCRIPTS
from tests.end_to_end.pace import lease_ends
from tests.end_to_end.running import WEB, Laptop, RunningServer, enrolled
from tests.end_to_end.terminal import Terminal
from tests.end_to_end.test_server_completion import offered
from tests.lab import Lab

REFUSED = 3


def outcome(laptop: Laptop, lab: Lab, service: str = "web") -> Refusal | str | None:
    """What comes of a knock made by hand."""
    request = laptop.keys().knock(service)
    answer = laptop.keys().answer(laptop.ask(request, lab.server.ipv4), request)
    return None if answer is None else answer.refusal or "granted"


def recorded(server: RunningServer, action: str) -> list[dict[str, Any]]:
    """The records of that kind, of what was done."""
    records = map(json.loads, Path(server.state / "audit.jsonl").read_text().splitlines())
    return [each for each in records if each["event"]["action"] == action and each["event"]["outcome"] == "success"]


def test_all_devices_of_a_disabled_user_are_kept_out_and_told_so_until_let_in_again(
    server: RunningServer, alice: Laptop, lab: Lab
) -> None:
    other = enrolled(server, lab.clients["neighbour"], "alice-pc", user="alice")
    alice.client("knock", "office", "--for", "300", check=True)
    invite = server.invite("alice-new")

    done = server.command("user", "disable", "alice")
    assert done.stdout.splitlines()[0] == "disabled alice"
    assert lease_ends(server, alice.host) == {}
    assert outcome(alice, lab) == outcome(other, lab) == Refusal.USER_DISABLED
    assert "the user is disabled; `spa-server user enable` lets them in again" in server.command("why").stdout
    late = Laptop(other.host, server.folder / "late", server.settle)
    joining = late.client("join", "--name", "office", "--timeout", "1", invite)
    assert joining.returncode != 0
    assert [each["label"] for each in server.json("device", "list")] == ["alice-laptop", "alice-pc"]

    server.command("user", "enable", "alice")
    assert outcome(alice, lab) == outcome(other, lab) == "granted"
    for action in ("user-disabled", "user-enabled"):
        (record,) = recorded(server, action)
        assert record["user"]["effective"] == {"id": "0", "name": "root"}, "who did it"
        assert record["user"]["target"]["name"] == "alice"


def test_users_are_listed_with_what_is_said_of_them(server: RunningServer, alice: Laptop) -> None:
    server.command("user", "disable", "alice")
    expected = {"name": "alice", "enabled": False, "has_totp": False, "devices": ["alice-laptop"]}
    assert server.json("user", "list") == [expected]
    assert server.json("user", "show", "alice") == expected
    assert "disabled" in server.command("user", "list").stdout
    for line in ("user show", "user disable", "user enable", "user totp"):
        assert offered(server, f"spa-server {line}") == ({"alice"}, "")


@pytest.mark.parametrize("words", [("show",), ("disable",), ("enable",), ("totp",), ("totp", "--remove")])
def test_nobody_is_made_up(server: RunningServer, words: tuple[str, ...]) -> None:
    done = server.command("user", words[0], "carol", *words[1:], check=False)
    assert (done.returncode, done.stdout) == (REFUSED, "")
    assert "there is no user 'carol'; see: spa-server user list" in done.stderr
    assert server.json("user", "list") == []


def secret_on(screen: str) -> bytes:
    """The secret that an app reads."""
    found = re.search(r"secret=([A-Z2-7]+)", screen)
    assert found is not None, screen
    return b32decode(found[1])


def at_terminal(server: RunningServer) -> Terminal:
    words = [str(SCRIPTS / "spa-server"), "user", "totp", "alice", "--config", str(server.config)]
    return Terminal(server.host, words, {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"})


def step_now(server: RunningServer) -> int:
    return int(server.host.run(["date", "+%s"]).stdout) // STEP_S


def test_a_second_factor_is_set_once_its_code_was_typed_and_that_code_counts_no_more(
    server: RunningServer, alice: Laptop
) -> None:
    with at_terminal(server) as terminal:
        secret = secret_on(terminal.wait_for("A code that it shows now"))
        assert "█" in terminal.screen(), "the picture for an app"
        step = step_now(server)
        terminal.type(code_of(secret, step), "Enter")
        assert terminal.status() == 0
    assert server.json("user", "show", "alice")["has_totp"]
    with acting_as_owner_of(server.state), open_store(server.state) as store:
        users = Users(store)
        assert not users.check_code("alice", code_of(secret, step), step * STEP_S)
        assert users.check_code("alice", code_of(secret, step + 1), step * STEP_S)
    text = secret.hex(), b32encode(secret).decode().rstrip("=")
    told = (
        server.log() + Path(server.state / "audit.jsonl").read_text() + server.command("user", "show", "alice").stdout
    )
    assert not any(each in told for each in text)
    assert len(recorded(server, "second-factor-set")) == 1

    server.command("user", "totp", "alice", "--remove")
    assert not server.json("user", "show", "alice")["has_totp"]
    assert len(recorded(server, "second-factor-removed")) == 1
    assert not any(secret in path.read_bytes() for path in server.state.glob("state.sqlite3*"))


def test_a_wrong_code_sets_no_second_factor(server: RunningServer, alice: Laptop) -> None:
    with at_terminal(server) as terminal:
        secret = secret_on(terminal.wait_for("A code that it shows now"))
        near = {code_of(secret, step_now(server) + off) for off in range(-2, 4)}
        terminal.type(next(f"{number:06}" for number in range(10) if f"{number:06}" not in near), "Enter")
        assert terminal.status() == REFUSED
        assert "nothing was changed for alice" in terminal.screen()
    assert not server.json("user", "show", "alice")["has_totp"]


WIKI = WEB.replace("web", "wiki").replace("8443", "8444").replace('"admin"', '"dev"')


def test_a_device_that_loses_a_role_loses_what_the_role_gave(server: RunningServer, alice: Laptop, lab: Lab) -> None:
    server.config.write_text(server.config.read_text() + WIKI)
    server.command("reload")
    server.command("device", "roles", "alice-laptop", "dev", "--add")
    assert outcome(alice, lab, "wiki") == outcome(alice, lab) == "granted"
    done = server.command("device", "roles", "alice-laptop", "admin", "--remove")
    assert done.stdout.startswith("alice-laptop: dev; ")
    assert [lease for lease in server.leases() if lease["service"] == "web"] == []
    assert outcome(alice, lab) == Refusal.SERVICE_NOT_ALLOWED
    assert outcome(alice, lab, "wiki") == "granted"
    server.command("device", "roles", "alice-laptop", "admin")
    assert server.json("device", "show", "alice-laptop")["roles"] == ["admin"]
    assert len(recorded(server, "device-roles-changed")) == 3


def test_a_device_keeps_at_least_one_role(server: RunningServer, alice: Laptop) -> None:
    done = server.command("device", "roles", "alice-laptop", "admin", "--remove", check=False)
    assert done.returncode == REFUSED
    assert "at least one role" in done.stderr
    assert server.json("device", "show", "alice-laptop")["roles"] == ["admin"]
