"""`spa-server doctor` on a real server: what it finds, what it prints, how it exits."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from spa_server.config import load
from spa_server.examine.examination import examine
from spa_server.examine.findings import Severity
from tests.end_to_end.running import RunningServer, open_folder
from tests.lab import Lab

NOT_OF_THIS_TEST = ("clock", "clock-unsynchronised", "clock-loose", "unit-missing")
"""What depends on the machine that the tests run on."""

SERVICES = """
[service.web]
tcp = [8443]
roles = ["admin"]
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    with open_folder() as made:
        yield made


@pytest.fixture
def server(lab: Lab, folder: Path) -> RunningServer:
    """Configured, and not running."""
    return RunningServer(lab, folder, SERVICES)


def examined(server: RunningServer) -> dict[str, dict[str, Any]]:
    """Findings by their kind, but those of the machine."""
    found = json.loads(server.command("doctor", "--json", check=False).stdout)["findings"]
    return {each["id"]: each for each in found if each["id"] not in NOT_OF_THIS_TEST}


def ids(found: dict[str, dict[str, Any]], *severities: str) -> set[str]:
    return {id for id, each in found.items() if each["severity"] in severities}


def test_a_server_that_is_as_it_should_be(server: RunningServer) -> None:
    with server, server.host.listen_tcp(8443):
        found = examined(server)
        assert ids(found, "danger", "warning") == set()
        assert {
            "perimeter-stands",
            "perimeter-owned",
            "keeper",
            "server",
            "knock-port",
            "service-listens",
            "rules",
            "kernel",
        } <= ids(found, "ok")
        done = server.command("doctor", check=False)
        assert done.returncode in (0, 8), done.stdout
        assert done.stderr == ""


def test_a_knock_port_that_was_added_and_not_yet_taken_over(server: RunningServer) -> None:
    with server, server.host.listen_tcp(8443), server.host.listen_tcp(40_000):
        server.config.write_text(
            server.config.read_text().replace("[server]\n", "[server]\nmore_knock_ports = [40000]\n")
        )
        found = examined(server)
        assert ids(found, "warning") == {"knock-port-unbound", "knock-port-tcp"}
        assert found["knock-port-unbound"]["what"].endswith("udp/40000")
        arguments = found["knock-port-unbound"]["remedy"].split()
        assert arguments[0] == "spa-server"
        server.command(*arguments[1:])
        assert ids(examined(server), "danger", "warning") == {"knock-port-tcp"}


def test_without_server_perimeter_and_service_each_is_said_with_its_remedy(server: RunningServer) -> None:
    done = server.command("doctor", check=False)
    assert done.returncode == 9
    found = examined(server)
    assert ids(found, "danger") == {"perimeter-down"}
    assert {"server-down", "keeper-down", "knock-port-unbound", "service-silent"} <= ids(found, "warning")
    assert done.stdout.startswith("DANGER   no perimeter stands")
    assert "mend: spa-server perimeter apply" in done.stdout
    server.command("perimeter", "apply")
    assert "perimeter-stands" in examined(server)
    assert server.command("doctor", check=False).returncode == 8


def test_a_perimeter_changed_by_hand_and_a_lease_without_end(server: RunningServer) -> None:
    server.command("perimeter", "apply")
    server.host.nft("insert rule inet spa services tcp dport 8443 accept\n")
    server.host.nft("add element inet spa leases4 { 198.51.100.11 . 198.51.100.1 . tcp . 8443 }\n")
    found = examined(server)
    assert ids(found, "danger") == {"perimeter-differs", "lease-endless"}
    assert found["perimeter-differs"]["evidence"] == "changed: chain services"
    for id in ("lease-endless", "perimeter-differs"):
        arguments = found[id]["remedy"].split()
        assert arguments[0] == "spa-server"
        server.command(*arguments[1:])
    assert ids(examined(server), "danger") == set()


def test_files_that_others_can_change_or_read(server: RunningServer) -> None:
    server.command("perimeter", "apply")
    server.config.chmod(0o666)
    server.state.chmod(0o755)
    key = server.folder / "server.key"
    key.chmod(0o644)
    found = examined(server)
    assert {"config-writable", "state-open", "key-open"} <= ids(found, "danger")
    for id in ("config-writable", "state-open", "key-open"):
        server.host.run(found[id]["remedy"].split())
    assert ids(examined(server), "danger") == set()


def test_a_service_on_loopback_and_one_that_listens_elsewhere_as_well(server: RunningServer) -> None:
    with server.host.listen_tcp(8443, "127.0.0.1"), server.host.listen_tcp(9000):
        found = examined(server)
        assert "127.0.0.1:8443/tcp" in found["service-loopback"]["evidence"]
        assert f"(pid {os.getpid()})" in found["service-loopback"]["evidence"]
        assert "tcp/9000" in found["service-also-listens"]["what"]


def test_a_bad_configuration_is_told_line_by_line(server: RunningServer) -> None:
    server.config.write_text("[server]\nknock_port = 70000\n")
    done = server.command("doctor", "--json", check=False)
    found = json.loads(done.stdout)
    assert (done.returncode, found["worst"]) == (8, "warning")
    assert {each["id"] for each in found["findings"]} == {"config-bad"}
    assert any("knock_port" in each["what"] for each in found["findings"])


def test_who_is_not_root_is_told_what_could_not_be_seen(server: RunningServer) -> None:
    config = load(server.config)
    examine(config)  # whatever is imported for it, the child may not be able to read
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65533)
            os.write(writing, json.dumps([[each.id, int(each.severity)] for each in examine(config)]).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as said:
        found = dict(json.loads(said.read()))
    os.waitpid(child, 0)
    assert found["rules-unseen"] == found["kernel-untried"] == Severity.NOTE
    assert found["state-permissions"] == Severity.OK
    assert "perimeter-down" not in found


def test_a_trail_that_was_changed_at_its_end_is_found(server: RunningServer) -> None:
    with server:
        server.invite("alice-laptop")
        assert examined(server)["trail"]["severity"] == "ok"
    path = server.state / "audit.jsonl"
    path.write_bytes(path.read_bytes().replace(b"alice-laptop", b"mallo-laptop", 1))
    found = examined(server)["trail-broken"]
    assert (found["severity"], found["remedy"]) == ("warning", "spa-server log verify")
    assert "its hash is not of what it says" in found["evidence"]


def test_a_trail_whose_end_was_cut_is_found(server: RunningServer) -> None:
    with server:
        server.invite("alice-laptop")
    path = server.state / "audit.jsonl"
    kept = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(kept[:-1]))
    assert f"the trail ends at {len(kept) - 1}" in examined(server)["trail-broken"]["evidence"]
