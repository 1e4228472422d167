"""What the client finds of its own device's health, and what a policy makes of it: at a knock and at a renewal."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.end_to_end.running import Laptop, RunningServer, enrolled, open_folder
from tests.end_to_end.test_trust import ROLES, WEB, go_by
from tests.lab import Lab
from tests.stalls import wait_until

REFUSED = 3
LOCKS = '@id("locks") forbid (principal, action, resource)\nunless { context.posture.screen_lock == "yes" };\n'


@pytest.fixture
def server(lab: Lab) -> Iterator[RunningServer]:
    with open_folder() as folder, RunningServer(lab, folder, WEB, slots=64) as running:
        go_by(running, ROLES + LOCKS)
        yield running


@pytest.fixture
def alice(server: RunningServer, lab: Lab, tmp_path: Path) -> Laptop:
    """A laptop whose desktop is KDE's, and has a home of its own."""
    laptop = enrolled(server, lab.clients["alice"], "alice-laptop")
    laptop.env |= {"HOME": str(tmp_path), "XDG_CURRENT_DESKTOP": "KDE"}
    return laptop


def lock(laptop: Laptop, by_itself: bool) -> None:
    """Set whether its screen locks by itself."""
    settings = Path(laptop.env["HOME"]) / ".config" / "kscreenlockerrc"
    settings.parent.mkdir(exist_ok=True)
    settings.write_text(f"[Daemon]\nAutolock={str(by_itself).lower()}\n")


def test_a_policy_goes_by_what_the_client_finds_and_not_by_what_is_not_told(
    server: RunningServer, alice: Laptop
) -> None:
    lock(alice, False)
    refused = alice.client("knock", "office", "web")
    assert refused.returncode == REFUSED
    assert "the policy forbids it (locks)" in refused.stderr
    lock(alice, True)
    shown = json.loads(alice.client("posture", "office", "--fresh", "--json", check=True).stdout)
    assert shown["facts"]["screen_lock"]["value"] == "yes"
    alice.client("knock", "office", "web", check=True)
    alice.client("posture", "office", "--send", "off", check=True)
    assert alice.client("knock", "office", "web").returncode == REFUSED


def test_a_device_that_gets_worse_while_it_holds_a_lease_is_out_at_a_renewal(
    server: RunningServer, alice: Laptop
) -> None:
    lock(alice, True)
    keeping = alice.start_client("keep", "office", "web", "--for", "4", "--json")
    assert keeping.stdout is not None
    assert json.loads(keeping.stdout.readline())["event"] == "opened"
    wait_until(lambda: server.leases() != [], "a lease")
    lock(alice, False)
    missed = next(said for said in map(json.loads, keeping.stdout) if said["event"] == "missed")
    assert "the policy forbids it (locks)" in missed["error"]
    wait_until(lambda: server.leases() == [], "no lease")
    keeping.terminate()
    keeping.wait(60)
