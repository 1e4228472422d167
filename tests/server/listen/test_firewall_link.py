"""What a firewall process that is gone may have opened is taken back by the next, and nothing had since."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import ip_address

import pytest

from spa_server.decide.decision import Grant, GrantedService
from spa_server.enforce.requests import MESSAGE_LARGEST, Answer, Close, Open, Status, unpack_request
from spa_server.listen.firewall_link import FirewallLink
from spa_server.listen.knocks import GrantFailed
from spa_server.service import Address
from tests.server.listen.world import PATH, SERVICES, VAULT, WEB

PORTS = (62_201,)
OTHER = ip_address("198.51.100.2")


class Keeper:
    """One firewall process's end: it answers until it is to die on a request to open. `closed`: by place."""

    def __init__(self, *, dies: bool) -> None:
        self.ours, self._theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.closed: list[int] = []
        self._dies = dies
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        with self._theirs:
            while data := self._theirs.recv(MESSAGE_LARGEST):
                request = unpack_request(data)
                numbers: tuple[int, ...] = ()
                if isinstance(request, Open):
                    if self._dies:
                        return
                    numbers = tuple(each.seconds for each in request.wanted)
                if isinstance(request, Close):
                    self.closed += request.services
                    numbers = (1,) * len(request.services)
                self._theirs.send(Answer(request.sequence, Status.DONE, numbers).pack())


def grant(*services: GrantedService, destination: Address = PATH.destination) -> Grant:
    return Grant(PATH.source, destination, services)


@pytest.fixture
def link() -> Iterator[FirewallLink]:
    """It has asked a keeper that died for the web service and the vault, and has the next one."""
    made = FirewallLink(Keeper(dies=True).ours, PORTS, SERVICES, lambda: None)
    with pytest.raises(GrantFailed):
        made.open_leases(grant(GrantedService(WEB, 60), GrantedService(VAULT, 60)), "alice")
    made.lose()
    yield made
    made.lose()


def joined(link: FirewallLink) -> Keeper:
    keeper = Keeper(dies=False)
    link.join(keeper.ours, PORTS, SERVICES)
    return keeper


def test_all_of_it_is_taken_back_once(link: FirewallLink) -> None:
    keeper = joined(link)
    link.close_unconfirmed()
    link.close_unconfirmed()
    assert keeper.closed == [0, 1]


def test_what_the_device_was_granted_since_stays_and_the_rest_goes(link: FirewallLink) -> None:
    keeper = joined(link)
    link.open_leases(grant(GrantedService(WEB, 60)), "alice")
    link.close_unconfirmed()
    assert keeper.closed == [1]


@pytest.mark.parametrize(("label", "destination"), [("bob", PATH.destination), ("alice", OTHER)])
def test_what_others_or_other_addresses_were_granted_changes_nothing(
    link: FirewallLink, label: str, destination: Address
) -> None:
    keeper = joined(link)
    link.open_leases(grant(GrantedService(WEB, 60), destination=destination), label)
    link.close_unconfirmed()
    assert keeper.closed == [0, 1]


def test_a_service_of_other_hosts_is_the_same_whatever_address_the_knock_went_to() -> None:
    inner = replace(WEB, hosts=(ip_address("10.7.0.9"),))
    link = FirewallLink(Keeper(dies=True).ours, PORTS, (inner, VAULT), lambda: None)
    with pytest.raises(GrantFailed):
        link.open_leases(grant(GrantedService(inner, 60), GrantedService(VAULT, 60)), "alice")
    link.lose()
    keeper = Keeper(dies=False)
    link.join(keeper.ours, PORTS, (inner, VAULT))
    link.open_leases(grant(GrantedService(inner, 60), GrantedService(VAULT, 60), destination=OTHER), "alice")
    link.close_unconfirmed()
    link.lose()
    assert keeper.closed == [1]
