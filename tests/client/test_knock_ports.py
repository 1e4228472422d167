"""Several knock ports: a knock finds one that gets through, at no slot's cost, and goes there first from then on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace

import pytest

from spa_client.closing import close_opened
from spa_client.commands import run
from spa_client.enrol import join
from spa_client.errors import NoAnswer
from spa_client.knocking import Opened, Request, knock_perimeter
from spa_client.pace import Pace
from spa_client.perimeter import Perimeter
from spa_client.storage import Store
from spa_protocol.signature import SeedSigner
from tests.client.gatekeeper import Gatekeeper
from tests.client.test_session_key import Touched
from tests.stalls import wait_until

Captured = pytest.CaptureFixture[str]
FEW_SLOTS = 8
"""As many as a delegate has."""


@pytest.fixture
def server() -> Iterator[Gatekeeper]:
    """A server on three ports of both loopback addresses."""
    with Gatekeeper(ports=3) as running:
        yield running


@pytest.fixture
def office(server: Gatekeeper, store: Store) -> Perimeter:
    """The server's perimeter, joined by the usual port."""
    perimeter = join(server.invite().text(), store=store, name="office")
    server.requests.clear()
    return perimeter


@dataclass(frozen=True, slots=True)
class Since:
    """What is sent to a server from now on; copies of earlier datagrams, which may still be on their way, are not."""

    server: Gatekeeper
    earlier: frozenset[bytes]

    @classmethod
    def now(cls, server: Gatekeeper) -> Since:
        return cls(server, frozenset(server.received))

    def datagrams(self) -> set[bytes]:
        """The different ones."""
        return set(self.server.received) - self.earlier

    def ports(self) -> list[int]:
        """Where they were sent to, in their order; also where a network blocked them."""
        return [port for port, datagram in list(self.server.tried) if datagram not in self.earlier]


def let_out_only(server: Gatekeeper, port: int) -> None:
    server.behaviour.blocked = frozenset(server.ports) - {port}


def knock(perimeter: Perimeter, store: Store, request: Request | None = None) -> Opened:
    return knock_perimeter(perimeter, request or Request(), store.memory(perimeter.name, perimeter.slots))


@pytest.mark.parametrize("number", [1, 2])
def test_where_a_further_port_alone_is_let_out_one_knock_by_each_family_is_enough(
    server: Gatekeeper, office: Perimeter, store: Store, number: int
) -> None:
    let_out_only(server, server.ports[number])
    since = Since.now(server)
    assert len(knock(office, store).addresses) == 2
    wait_until(lambda: set(since.ports()) == set(server.ports), "a copy at every port")
    assert len(since.datagrams()) == 2


def test_the_port_that_answered_is_knocked_first_the_next_time(
    server: Gatekeeper, office: Perimeter, store: Store
) -> None:
    through = server.ports[2]
    let_out_only(server, through)
    knock(office, store)
    since = Since.now(server)
    knock(office, store)
    assert since.ports()[:2] == [through, through]


def test_silence_forgets_it(server: Gatekeeper, office: Perimeter, store: Store) -> None:
    let_out_only(server, server.ports[2])
    knock(office, store)
    server.behaviour.silent = True
    with pytest.raises(NoAnswer):
        knock(office, store, Request(timeout_s=0.3))
    server.behaviour.silent, server.behaviour.blocked = False, frozenset()
    since = Since.now(server)
    knock(office, store)
    assert since.ports()[0] == server.port


def test_of_the_usual_port_nothing_is_remembered(server: Gatekeeper, office: Perimeter, store: Store) -> None:
    knock(office, store)
    assert not list(store.folder.rglob("port"))


def test_a_port_that_the_server_gave_up_is_not_knocked(server: Gatekeeper, office: Perimeter, store: Store) -> None:
    store.memory("office").port.write(9, server.port)
    since = Since.now(server)
    knock(office, store)
    assert since.ports()[0] == server.port


def test_a_note_that_is_damaged_is_no_note(store: Store) -> None:
    note = store.memory("office").port
    note.write(443, 62201)
    assert note.first((62201, 53, 443)) == (443, 62201, 53)
    (written,) = store.folder.rglob("port")
    written.write_text("https")
    assert note.first((62201, 53, 443)) == (62201, 53, 443)


def test_answers_that_do_not_come_back_from_the_usual_port_come_from_another(
    server: Gatekeeper, office: Perimeter, store: Store
) -> None:
    """The first questions are admitted there, so that their copies are void; a later one goes elsewhere."""
    server.behaviour.one_way = frozenset({server.port})
    knock(replace(office, hosts=("127.0.0.1",)), store, Request(timeout_s=9))
    assert store.memory("office").port.first(office.knock_ports)[0] == server.ports[1]


def test_a_knock_in_vain_takes_no_more_slots_for_more_ports(
    server: Gatekeeper, office: Perimeter, store: Store
) -> None:
    server.behaviour.silent = True
    since = Since.now(server)
    with pytest.raises(NoAnswer, match=", ".join(f"udp/{port}" for port in server.ports) + " within"):
        knock(office, store, Request(timeout_s=0.6))
    wait_until(lambda: set(since.ports()) == set(server.ports), "copies at every port")
    assert len(list((store.state("office") / "slots").iterdir())) <= FEW_SLOTS


def test_what_reaches_several_ports_is_admitted_once(server: Gatekeeper, office: Perimeter, store: Store) -> None:
    server.behaviour.silent = True
    since = Since.now(server)
    with pytest.raises(NoAnswer):
        knock(replace(office, hosts=("127.0.0.1",)), store, Request(timeout_s=0.9))
    wait_until(lambda: set(since.ports()) == set(server.ports) and server.repeated > 0, "copies at every port")
    wait_until(lambda: len(server.requests) == len(since.datagrams()), "each of the questions once")


def test_one_touch_is_enough_also_where_the_first_copy_at_a_further_port_is_lost(
    server: Gatekeeper, office: Perimeter, store: Store
) -> None:
    let_out_only(server, server.ports[1])
    server.behaviour.drop_first = 1
    assert isinstance(office.signer, SeedSigner)
    key = Touched(office.signer)
    knock(replace(office, hosts=("127.0.0.1",), signer=key), store, Request(timeout_s=9))
    assert key.touches == 1


def test_a_server_that_never_answers_is_sent_a_copy_at_every_port(
    server: Gatekeeper, office: Perimeter, store: Store
) -> None:
    server.behaviour.silent = True
    let_out_only(server, server.ports[2])
    with pytest.raises(NoAnswer):
        knock(replace(office, answers=False), store)
    wait_until(lambda: len(server.knocks()) == 2, "a knock by each family")


def test_what_was_opened_by_a_further_port_is_closed_there(server: Gatekeeper, office: Perimeter, store: Store) -> None:
    let_out_only(server, server.ports[1])
    opened = knock(office, store)
    since = Since.now(server)
    assert close_opened(office, opened, store.memory("office"), timeout_s=20) == ("web",)
    assert since.ports()[0] == server.ports[1]


def test_closing_finds_the_port_where_nothing_is_remembered(
    server: Gatekeeper, office: Perimeter, store: Store
) -> None:
    opened = knock(office, store)
    let_out_only(server, server.ports[1])
    assert close_opened(office, opened, store.memory("office"), timeout_s=20) == ("web",)


def test_an_invite_is_used_by_a_further_port_and_the_first_knock_goes_there(server: Gatekeeper, store: Store) -> None:
    let_out_only(server, server.ports[1])
    perimeter = join(server.invite().text(), store=store, name="office")
    assert len(server.devices) == 1
    since = Since.now(server)
    knock(perimeter, store)
    assert since.ports()[0] == server.ports[1]


def test_an_answer_that_takes_long_is_waited_for_before_another_port_is_tried() -> None:
    assert Pace.within(6.0).elsewhere_after_s == (0.2,)
    assert Pace.within(6.0, 1, 0.8).elsewhere_after_s == (1.0,)


def test_how_long_the_port_was_looked_for_is_not_taken_for_a_slow_path(
    server: Gatekeeper, office: Perimeter, store: Store
) -> None:
    def took_no_time() -> bool:
        store.memory("office").port.write(0, server.port)
        knock(office, store)
        return store.memory("office").round_trip.seconds() == 0

    let_out_only(server, server.ports[1])
    assert any(took_no_time() for _ in range(3)), "a machine that stands still makes any path slow"


def test_an_explanation_names_the_ports(server: Gatekeeper, office: Perimeter, capsys: Captured) -> None:
    let_out_only(server, server.ports[1])
    assert run(["knock", "office", "--explain", "--json"]) == 0
    steps = [(step["step"], step["what"]) for step in json.loads(capsys.readouterr().out)["steps"]]
    assert ("sent", f"to 127.0.0.1 udp/{server.port}") in steps
    assert ("sent-again", f"the same to 127.0.0.1 udp/{server.ports[1]}") in steps
    assert any(name == "answer" and what.startswith(f"from ::1 udp/{server.ports[1]} after ") for name, what in steps)
