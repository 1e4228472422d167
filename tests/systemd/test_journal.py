"""What the real journal holds of a knock, and that it holds nothing of strangers."""

from __future__ import annotations

import json
import os
from typing import Any

from tests.end_to_end.laptop import KNOCK_PORT, Laptop
from tests.stalls import wait_until
from tests.systemd.service import KEEPER, PORT, SERVER, Service

GRANTED = "24c2ccdd5123473990386170f4d99841"
REFUSED = "15b4d3bb918f406686b265e66f8cde99"


def entries(service: Service, message_id: str) -> list[dict[str, Any]]:
    shown = service.machine.run(
        "journalctl", service.machine.since_boot, "--output=json", f"MESSAGE_ID={message_id}"
    ).stdout
    return [json.loads(line) for line in shown.splitlines()]


def test_a_grant_is_in_the_journal_with_all_its_fields(service: Service, alice: Laptop) -> None:
    known = len(entries(service, GRANTED))
    alice.client("knock", "office", "web", check=True)
    wait_until(lambda: len(entries(service, GRANTED)) > known, "the grant in the journal")
    entry = entries(service, GRANTED)[-1]
    told = {name: entry[name] for name in ("SPA_EVENT", "SPA_DEVICE", "SPA_USER", "SPA_SERVICES", "SPA_SECONDS")}
    assert told == {
        "SPA_EVENT": "granted",
        "SPA_DEVICE": "alice-laptop",
        "SPA_USER": "alice",
        "SPA_SERVICES": "web",
        "SPA_SECONDS": "30",
    }
    assert entry["SPA_SOURCE"] in (str(alice.host.ipv4), str(alice.host.ipv6))
    assert (entry["_SYSTEMD_UNIT"], entry["SYSLOG_IDENTIFIER"], entry["PRIORITY"]) == (SERVER, "spa-server", "6")
    assert entry["MESSAGE"].startswith("granted alice-laptop (alice) from ")


def test_a_refusal_carries_its_reason(service: Service, alice: Laptop) -> None:
    known = len(entries(service, REFUSED))
    assert alice.client("knock", "office", "nowhere").returncode == 3
    wait_until(lambda: len(entries(service, REFUSED)) > known, "the refusal in the journal")
    entry = entries(service, REFUSED)[-1]
    assert (entry["SPA_REASON"], entry["SPA_DEVICE"]) == ("unknown_service", "alice-laptop")


def test_the_keepers_lines_are_there_under_its_own_unit(service: Service) -> None:
    shown = service.machine.run(
        "journalctl", service.machine.since_boot, "--output=json", f"--unit={KEEPER}", "SYSLOG_IDENTIFIER=spa-server"
    )
    assert shown.stdout, "the keeper has logged nothing"


def test_strangers_leave_no_line(service: Service, alice: Laptop) -> None:
    def lines() -> list[str]:
        return service.machine.journal(f"--unit={KEEPER}", f"--unit={SERVER}").splitlines()

    before, stranger = len(lines()), service.lab.clients["stranger"]
    with stranger.bind_udp(0) as sock:
        for number in range(2000):
            to = f"::ffff:{service.host.ipv4}" if number % 2 else str(service.host.ipv6)
            sock.sendto(os.urandom(512), (to, KNOCK_PORT))
    assert stranger.is_kept_out(service.host.ipv4, PORT)
    alice.client("knock", "office", "web", check=True)
    wait_until(lambda: len(lines()) > before, "the laptop's line")
    assert [line for line in lines()[before:] if "granted alice-laptop" not in line] == []
