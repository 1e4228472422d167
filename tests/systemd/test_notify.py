"""People are told of what waits for approval by a unit of its own, which can read the notice board and little else."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.end_to_end.laptop import Laptop
from tests.lab import Lab
from tests.stalls import wait_until
from tests.systemd.machine import Machine
from tests.systemd.service import CONFIG, KEEPER, SERVER, Service

NOTIFY = "spa-notify.service"
HOOK = '#!/bin/sh\nexec logger --tag told-by-hook -- "$(cat)"\n'
NEEDS = '\n[service.web]\ntcp = [8443]\nroles = ["admin"]\nneeds_approval = true\n'


@pytest.fixture
def service(fresh_machine: Machine, lab: Lab, tmp_path: Path) -> Service:
    made = Service(lab, fresh_machine, tmp_path)
    made.install("--no-start")
    fresh_machine.write("/usr/local/bin/tell", HOOK)
    fresh_machine.run("chmod", "0755", "/usr/local/bin/tell")
    text = fresh_machine.read(CONFIG)
    hook = '\n[approval]\nhook = "/usr/local/bin/tell"\n'
    head = text[: text.index("\n[approval]")]
    fresh_machine.write(CONFIG, head + hook + NEEDS)
    # The unit is enabled where there is something to tell by.
    made.install()
    return made


def test_a_wish_and_its_approval_reach_the_hook(service: Service, lab: Lab, tmp_path: Path) -> None:
    machine = service.machine

    def is_active(unit: str) -> bool:
        return machine.run("systemctl", "is-active", unit, check=False).stdout.strip() == "active"

    wait_until(lambda: all(map(is_active, (KEEPER, SERVER, NOTIFY))), "the units")
    alice = Laptop(lab.clients["alice"], tmp_path / "alice")
    alice.join(service.command("invite", "alice-laptop", "--user", "alice", "--role", "admin").stdout.strip())
    refused = alice.client("knock", "office", "web")
    assert refused.returncode == 3
    (wish,) = service.json("request", "list")

    def told() -> str:
        return machine.run("journalctl", machine.since_boot, "--output=cat", "SYSLOG_IDENTIFIER=told-by-hook").stdout

    wait_until(lambda: str(wish["number"]) in told(), "the wish at the hook")
    service.command("request", "approve", str(wish["number"]))
    wait_until(lambda: '"approved"' in told(), "the approval at the hook")
    alice.client("knock", "office", "web", check=True)
