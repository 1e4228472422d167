"""Which knocks tell of the device's health."""

from __future__ import annotations

import threading
from dataclasses import replace
from ipaddress import ip_address

import pytest

from spa_client.approving import Wish, decide
from spa_client.delegating import delegate, take_up
from spa_client.errors import BadConfiguration
from spa_client.exchange import wall_ms
from spa_client.holding import Change, Held, Holding
from spa_client.knocking import Knocker, Request
from spa_client.opening import close_once, knock_once
from spa_client.perimeter import Perimeter
from spa_client.perimeter_file import perimeter_text
from spa_client.posture.cache import Looked
from spa_client.posture.collecting import HELD_INTERVAL_S, INTERVAL_S, Collector
from spa_client.posture.findings import Finding, Findings
from spa_client.posture.telling import Telling
from spa_client.storage import PERIMETER_FILE, Store
from spa_protocol.knock import MAX_SERVICES, Action, Knock
from spa_protocol.posture import MAX_SYSTEM, Fact, Posture, PostureSource
from spa_protocol.tag import TagKind
from tests.client.gatekeeper import WEB, Gatekeeper
from tests.stalls import PATIENCE_S

MOST = 0xFFFFFFFE


def told(server: Gatekeeper) -> list[Knock]:
    return [seen.message for seen in server.requests if isinstance(seen.message, Knock)]


def test_a_knock_that_opens_tells_what_was_found(server: Gatekeeper, store: Store, office: Perimeter) -> None:
    knock_once(store, office, Request(("web",)))
    for knock in told(server):
        assert knock.posture is not None
        assert knock.posture.source is PostureSource.CLIENT
    assert told(server)


def test_a_second_knock_tells_the_same_look(server: Gatekeeper, store: Store, office: Perimeter) -> None:
    knock_once(store, office, Request(("web",)))
    assert (store.state("office") / "posture-own").exists()
    kept = (store.state("office") / "posture-own").read_text()
    knock_once(store, office, Request(("web",)))
    assert (store.state("office") / "posture-own").read_text() == kept


def test_a_knock_that_closes_tells_nothing(server: Gatekeeper, store: Store, office: Perimeter) -> None:
    opened = knock_once(store, office, Request(("web",)))
    server.requests.clear()
    close_once(store, office, opened)
    assert {(knock.action, knock.posture) for knock in told(server)} == {(Action.CLOSE, None)}


def test_a_knock_that_decides_for_another_tells_it_too(server: Gatekeeper, store: Store, office: Perimeter) -> None:
    server.behaviour.requests = [4711]
    memory = store.memory("office")
    decide(office, Wish(4711, Action.APPROVE), memory)
    assert [knock.posture is not None for knock in told(server)] == [True]
    server.requests.clear()
    server.behaviour.requests = [4712]
    decide(replace(office, posture=Telling.OFF), Wish(4712, Action.DENY), memory)
    assert [knock.posture for knock in told(server)] == [None]


def test_while_somebody_types_a_code_the_look_grows_older(
    server: Gatekeeper, store: Store, office: Perimeter, monkeypatch: pytest.MonkeyPatch
) -> None:
    age_s = 7
    monkeypatch.setattr(Collector, "posture", lambda *asked: Posture(age_s))
    server.behaviour.codes = ["123456"]

    def typed() -> str:
        nonlocal age_s
        age_s = 42
        return "123456"

    knock_once(store, office, Request(("web",), code=typed))
    ages = [knock.posture.age_s for knock in told(server) if knock.posture is not None]
    assert ages == [7, 7, 42, 42]


def test_a_perimeter_that_is_to_be_told_nothing_is_told_nothing(
    server: Gatekeeper, store: Store, office: Perimeter
) -> None:
    knock_once(store, replace(office, posture=Telling.OFF), Request(("web",)))
    assert {knock.posture for knock in told(server)} == {None}
    assert not (store.state("office") / "posture-own").exists()


def test_osquery_that_is_chosen_and_not_there_tells_that_nothing_is_known(
    server: Gatekeeper, store: Store, office: Perimeter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    knock_once(store, replace(office, posture=Telling.OSQUERY), Request(("web",)))
    for knock in told(server):
        assert knock.posture is not None
        assert (knock.posture.source, knock.posture.disk_encrypted) == (PostureSource.OSQUERY, Fact.UNKNOWN)
    assert told(server)


def test_a_delegate_tells_nothing(store: Store, office: Perimeter) -> None:
    line = delegate(office, ("web",), to="bob", for_s=600, now_ms=wall_ms())
    perimeter = take_up(line.text(), store=store, name="lent", replace_old=False)
    knocker = Knocker(perimeter, Request(("web",)), store.memory("lent"))
    assert knocker.posture is None
    assert knocker.question(ip_address("127.0.0.1"), TagKind.KNOCK, wall_ms())


def test_the_fullest_knock_has_room_for_it(server: Gatekeeper, store: Store, office: Perimeter) -> None:
    names = tuple(f"service-of-a-long-name-{each}" for each in range(MAX_SERVICES))
    posture = Posture(
        MOST, PostureSource.OSQUERY, Fact.YES, Fact.YES, Fact.YES, Fact.YES, 36_500, MOST, "x" * MAX_SYSTEM
    )
    knock = Knock(MOST, names, MOST, ip_address("2001:db8::1"), posture=posture, code="12345678")
    assert Knock.parse(knock.body()).posture is not None
    server.behaviour.services = tuple(replace(WEB, name=name) for name in names)
    knock_once(store, office, Request(names))
    assert [sent.posture is not None for sent in told(server)] == [True] * len(told(server))


def test_a_renewal_tells_what_has_become_worse(
    server: Gatekeeper, store: Store, office: Perimeter, monkeypatch: pytest.MonkeyPatch
) -> None:
    states = iter([Fact.YES])
    looked: list[int] = []

    def look(self: Collector, telling: Telling, interval_s: int) -> Looked:
        looked.append(interval_s)
        return Looked(Findings(disk_encrypted=Finding(next(states, Fact.NO))), 0)

    monkeypatch.setattr(Collector, "looked", look)
    server.behaviour.services = (replace(WEB, left_s=2),)
    renewed = threading.Event()

    def report(change: Change) -> None:
        if isinstance(change, Held) and change.cause.value == "renewed":
            renewed.set()

    with Holding(store, office, Request(("web",)), report=report):
        assert renewed.wait(PATIENCE_S)
    # The first knock takes what is there; nobody waits for the others.
    assert looked[:2] == [INTERVAL_S, HELD_INTERVAL_S]
    facts = [knock.posture.disk_encrypted for knock in told(server) if knock.posture is not None]
    assert facts[0] is Fact.YES
    assert facts[-1] is Fact.NO


def test_the_setting_is_kept(store: Store, office: Perimeter) -> None:
    for telling in Telling:
        store.save(replace(office, posture=telling))
        assert store.load("office").posture is telling


def test_a_file_of_before_tells_as_by_default(store: Store, office: Perimeter) -> None:
    path = store.path("office") / PERIMETER_FILE
    lines = [line for line in perimeter_text(office).splitlines() if not line.startswith("posture")]
    path.write_text("\n".join(lines))
    assert store.load("office").posture is Telling.ON


@pytest.mark.parametrize("value", ['"maybe"', "true", '""'])
def test_a_setting_that_is_none_is_refused(store: Store, office: Perimeter, value: str) -> None:
    path = store.path("office") / PERIMETER_FILE
    path.write_text(perimeter_text(office).replace('posture = "on"', f"posture = {value}"))
    with pytest.raises(BadConfiguration, match="posture"):
        store.load("office")
