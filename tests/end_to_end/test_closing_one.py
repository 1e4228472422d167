"""Giving back one service under a policy that asks for the device's health, while another is held."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.end_to_end.governed import governed
from tests.end_to_end.running import WEB, RunningServer, enrolled
from tests.lab import Lab

VAULT = '[service.vault]\nudp = [9443]\nroles = ["admin"]\n'
POLICY = """
@id("role-opens") permit (principal, action, resource) when { principal in resource.roles };
@id("told") forbid (principal, action in [Action::"open", Action::"renew"], resource)
unless { context.posture.known };
"""


@pytest.fixture
def server(lab: Lab) -> Iterator[RunningServer]:
    with governed(lab, WEB + VAULT, POLICY) as running:
        yield running


def test_to_close_one_service_says_nothing_against_another(server: RunningServer, lab: Lab) -> None:
    alice = enrolled(server, lab.clients["alice"], "alice-laptop")
    alice.client("knock", "office", "vault", "--for", "300", check=True)
    alice.client("exec", "office", "--service", "web", "--", "true", check=True)
    assert {each["service"] for each in server.leases()} == {"vault"}
