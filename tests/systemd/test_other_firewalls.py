"""Other firewall programs of the same host: whatever they load, flush or reload, no stranger passes, ever.

A stranger sends a SYN every millisecond throughout. The other firewalls are told to let everything here through: what
keeps the stranger out is the perimeter alone. Afterwards a knock opens as before.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.end_to_end.laptop import Laptop
from tests.systemd.probing import Prober
from tests.systemd.service import OPEN_PORT, PORT, Knocker, Service
from tests.systemd.talking import listening

PORTS = (f"{PORT}/tcp", f"{OPEN_PORT}/tcp", "62201/udp")


@pytest.fixture
def probed(service: Service, alice: Laptop) -> Iterator[Prober]:
    stranger = service.lab.clients["stranger"]
    with listening(service.host, PORT, OPEN_PORT):
        with Prober(stranger, service.host, PORT, OPEN_PORT) as prober:
            yield prober
            service.wait_until_it_serves()
            with Knocker(alice, service.host) as knocker:
                knocker.knock_until_granted()
            assert alice.host.reaches_tcp(service.host.ipv4, PORT)
        print(f"\n{prober.seen}")
        assert prober.seen.answered == 0, prober.seen.first_answer
        assert prober.seen.control > 0


def test_flushing_the_whole_ruleset(service: Service, probed: Prober) -> None:
    for _ in range(20):
        service.machine.run("nft", "flush", "ruleset")
    assert service.machine.run("nft", "delete", "table", "inet", "spa", check=False).returncode != 0


def test_restarting_nftables(service: Service, probed: Prober) -> None:
    """Its own configuration begins with a flush of everything."""
    assert "flush ruleset" in service.machine.read("/etc/nftables.conf")
    for _ in range(3):
        service.machine.run("systemctl", "restart", "nftables")
    service.machine.run("systemctl", "stop", "nftables")


def test_enabling_reloading_and_disabling_ufw(service: Service, probed: Prober) -> None:
    for port in PORTS:
        service.machine.run("ufw", "allow", port)
    service.machine.run("ufw", "--force", "enable")
    try:
        assert "Status: active" in service.machine.run("ufw", "status").stdout
        service.machine.run("ufw", "reload")
    finally:
        service.machine.run("ufw", "--force", "disable")


def test_starting_reloading_and_stopping_firewalld(service: Service, probed: Prober) -> None:
    service.machine.run("systemctl", "start", "firewalld")
    try:
        for port in PORTS:
            service.machine.run("firewall-cmd", "--permanent", f"--add-port={port}")
        service.machine.run("firewall-cmd", "--reload")
        assert f"{PORT}/tcp" in service.machine.run("firewall-cmd", "--list-ports").stdout
        service.machine.run("firewall-cmd", "--complete-reload")
    finally:
        service.machine.run("systemctl", "stop", "firewalld")


def test_all_of_it_with_the_service_killed(service: Service, probed: Prober) -> None:
    """The table stays owned: its socket is kept by systemd."""
    for unit in ("spa-server", "spa-perimeter"):
        service.machine.run("systemctl", "kill", "--signal=KILL", unit)
        service.machine.run("nft", "flush", "ruleset")
        service.machine.run("systemctl", "restart", "nftables")
    service.machine.run("systemctl", "stop", "nftables")
