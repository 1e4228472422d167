"""Targets in the server: its configuration, what the firewall process is asked, what the control socket is asked."""

from __future__ import annotations

import os
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

from spa_server.config import ConfigError, load
from spa_server.config_template import template
from spa_server.enforce import requests
from spa_server.enforce.requests import Arm, Disarm, Malformed, Open, Status, Wanted
from spa_server.tell.control import parse_request
from tests.fuzz.target import Target


def _config(data: bytes) -> None:
    """Whatever is in server.toml: a configuration, or problems that are one line each."""
    problems, said = _problems(data)
    assert len(said.splitlines()) == problems


def _problems(data: bytes) -> tuple[int, str]:
    file = os.memfd_create("server.toml")
    try:
        os.write(file, data)
        load(Path(f"/proc/self/fd/{file}"))
    except ConfigError as error:
        return max(1, len(error.problems)), str(error)
    finally:
        os.close(file)
    return 0, ""


def _firewall_request(data: bytes) -> None:
    with suppress(Malformed):
        assert requests.unpack_request(data).pack() == data


def _firewall_answer(data: bytes) -> None:
    with suppress(Malformed):
        assert requests.Answer.unpack(data).pack() == data


def _control_request(data: bytes) -> None:
    name = parse_request(data)
    assert name is None or isinstance(name, str)


_SERVICE = b"""
[service.inner]
tcp = ["8000-8010", 22]
udp = [53]
roles = ["staff", "admin"]
lease_s = 60
max_lease_s = 600
source = "signed"
on_expiry = "keep"
hosts = ["192.0.2.1", "2001:db8::1"]
[service.forwarded]
tcp = [443]
roles = ["admin"]
forward_to = ["10.0.0.5:443", "[fd00::5]:443"]
masquerade = true
"""
_V4, _V6 = IPv4Address("192.0.2.7"), IPv6Address("2001:db8::7")

SERVER_TARGETS = {
    "config": Target(_config, (template(["gate.example.org"]).encode()[:3000], _SERVICE), 4000),
    "firewall_request": Target(
        _firewall_request,
        (
            Arm(1, 60_000, (b"tag 0001", b"tag 0002")).pack(),
            Disarm(2, (b"tag 0001",)).pack(),
            Open(3, 1 << 40, bytes(8), _V4, IPv4Address("192.0.2.1"), "alice", (Wanted(0, 30), Wanted(7, 300))).pack(),
            Open(4, 0, bytes(8), _V6, _V6, "a" * 63, ()).pack(),
            requests.Reload(5, b"a digest").pack(),
            requests.Counters(6).pack(),
        ),
        400,
    ),
    "firewall_answer": Target(
        _firewall_answer,
        (requests.Answer(1, Status.DONE, (30, 60)).pack(), requests.Answer(2, Status.FAILED).pack()),
        64,
    ),
    "control_request": Target(_control_request, (b'{"ask": "status"}\n', b'{"ask": 1}', b"[" * 50), 4096),
}
