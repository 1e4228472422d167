"""The keeper dies between the kernel's doing and its word of it: what it opened for a refused knock does not stay."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from spa_protocol.refusal import Refusal
from tests.chaos.syscalls import dying
from tests.durability.leases import open_leases
from tests.durability.two_services import TwoServices
from tests.end_to_end.crafting import Keys
from tests.end_to_end.laptop import ask_udp
from tests.end_to_end.running import WEB, enrolled, open_folder
from tests.lab import Lab
from tests.stalls import PATIENCE_S, wait_until

READS_OF_ONE_GRANT = 8
"""More than there are: of the request, of each look into the sets, of the kernel's acknowledgement."""


@pytest.fixture
def services(lab: Lab) -> Iterator[TwoServices]:
    with open_folder() as folder, TwoServices(lab, folder, WEB, slots=64) as running:
        yield running


def asked(services: TwoServices, keys: Keys) -> Refusal | None:
    request = keys.knock("web", lease_s=60)
    reply = ask_udp(services.lab.clients["alice"], request, services.lab.server.ipv4, patience_s=PATIENCE_S)
    assert reply is not None, "no answer"
    answer = keys.answer(reply, request)
    assert answer is not None
    return answer.refusal


def next_keeper(services: TwoServices) -> None:
    services.keeper.start()
    wait_until(lambda: services.made.status()["fault"] == "", "no fault")


def test_what_a_dying_keeper_opened_without_saying_so_is_closed_by_the_next(services: TwoServices) -> None:
    keys = enrolled(services.made, services.lab.clients["alice"], "alice-laptop").keys()
    left_open = 0
    for reads in range(1, READS_OF_ONE_GRANT + 1):
        with dying(services.keeper.pid, "recvfrom", reads):
            refusal = asked(services, keys)
        if refusal is None:
            break
        assert refusal is Refusal.KERNEL_FAILED
        wait_until(services.keeper.has_ended, "its end")
        left_open += open_leases(services.lab.server) > 0
        next_keeper(services)
        wait_until(lambda: open_leases(services.lab.server) == 0, "nothing open")
    else:
        pytest.fail("it never lived through a grant")
    assert left_open, "no case in which the kernel had opened it"


def test_a_lease_that_is_had_again_before_is_kept(services: TwoServices) -> None:
    keys = enrolled(services.made, services.lab.clients["alice"], "alice-laptop").keys()
    services.keeper.signal(signal.SIGSTOP)
    assert asked(services, keys) is Refusal.KERNEL_FAILED
    services.keeper.signal(signal.SIGCONT)
    assert asked(services, keys) is None
    services.keeper.signal(signal.SIGKILL)
    wait_until(lambda: "is away" in services.made.status()["fault"], "word of it in the status")
    next_keeper(services)
    assert open_leases(services.lab.server) > 0
