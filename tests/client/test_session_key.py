"""The key in memory that knocks for a touched one: how often there is a touch, for what, and what is kept of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest

from spa_client.errors import BadUsage, NeverOpened, NoAnswer, Refused
from spa_client.perimeter import KnownService, Perimeter
from spa_client.session_key import Session
from spa_client.storage import Store
from spa_protocol.delegation import Certificate
from spa_protocol.refusal import Refusal
from spa_protocol.signature import SeedSigner, Signature, VerifyingKey

NOW_MS = 1_800_000_000_000
WEB, SSH = KnownService("web", 8443, 0, False), KnownService("ssh", 22, 0, False)


@dataclass(slots=True)
class Touched:
    """A key that counts how often it was asked."""

    inner: SeedSigner
    touches: int = 0
    every_time = False

    @property
    def key(self) -> VerifyingKey:
        return self.inner.key

    def sign(self, message: bytes) -> Signature:
        self.touches += 1
        return self.inner.sign(message)


@dataclass(slots=True)
class Clock:
    now_ms: int = NOW_MS

    def __call__(self) -> int:
        return self.now_ms


@pytest.fixture
def signer() -> Touched:
    return Touched(SeedSigner(bytes(range(32))))


@pytest.fixture
def touched(office: Perimeter, signer: Touched) -> Perimeter:
    return replace(office, signer=signer, services=(WEB, SSH), slots=40)


def certificate_of(perimeter: Perimeter) -> Certificate:
    assert perimeter.certificate is not None
    return perimeter.certificate


def test_one_touch_signs_for_the_services_wanted_and_the_time(
    touched: Perimeter, signer: Touched, store: Store
) -> None:
    session = Session(store, touched, ("web",), 3600, Clock())
    assert signer.touches == 0
    session.fresh(touched)
    certificate = certificate_of(session.perimeter)
    assert certificate.is_signed_by(signer.key, touched.server_identity)
    assert (certificate.name, certificate.services) == ("session", ("web",))
    assert (certificate.issued_s, certificate.expires_s) == (NOW_MS // 1000, NOW_MS // 1000 + 3600)
    assert session.perimeter.signer.key.public == certificate.key != signer.key.public
    assert session.perimeter.gate_secret != touched.gate_secret
    assert signer.touches == 1


def test_where_none_is_named_it_is_for_all_that_are_known(touched: Perimeter, store: Store) -> None:
    assert certificate_of(Session(store, touched, ()).fresh(touched)).services == ("web", "ssh")


@pytest.mark.parametrize("known", [0, 5])
def test_where_those_are_none_or_too_many_some_must_be_named(
    known: int, touched: Perimeter, signer: Touched, store: Store
) -> None:
    services = tuple(KnownService(f"service-{number}", 1, 0, False) for number in range(known))
    with pytest.raises(BadUsage, match="name the services"):
        Session(store, wide := replace(touched, services=services), ()).fresh(wide)
    assert signer.touches == 0


def test_it_is_touched_again_when_its_time_is_nearly_over_and_not_before(
    touched: Perimeter, signer: Touched, store: Store
) -> None:
    clock = Clock()
    session = Session(store, touched, ("web",), 3600, clock)
    first = session.fresh(touched)
    clock.now_ms += 3_539_000
    assert session.fresh(first) is first
    clock.now_ms += 1_000
    second = session.fresh(replace(first, slots=20))
    assert certificate_of(second).expires_s == certificate_of(first).expires_s + 3540
    assert certificate_of(second).key != certificate_of(first).key
    assert (second.slots, session.perimeter) == (20, second)
    assert signer.touches == 2


def refuse_longer_than(limit_s: int, about: str = "{} s") -> Callable[[Store, Perimeter], int]:
    def attempt(store: Store, perimeter: Perimeter) -> int:
        certificate = certificate_of(perimeter)
        length_s = certificate.expires_s - certificate.issued_s
        if length_s > limit_s:
            raise Refused("too long", Refusal.DELEGATION_TOO_LONG, about.format(limit_s))
        return length_s

    return attempt


def test_a_server_that_allows_less_gets_less(touched: Perimeter, signer: Touched, store: Store) -> None:
    session = Session(store, touched, ("web",), 3600)
    assert session.first(refuse_longer_than(600)) == 600
    assert signer.touches == 2


@pytest.mark.parametrize("about", ["", "soon", "0 s", "9999 s", "-5 s", "99999999999999999999 s"])
def test_but_no_more_than_was_asked_for_and_not_for_ever(
    about: str, touched: Perimeter, signer: Touched, store: Store
) -> None:
    session = Session(store, touched, ("web",), 3600)
    with pytest.raises(Refused, match="too long"):
        session.first(refuse_longer_than(5, about))
    assert signer.touches == 1


@pytest.mark.parametrize("silence", [NoAnswer, NeverOpened])
def test_silence_may_mean_that_delegation_is_not_allowed(
    silence: type[NoAnswer], touched: Perimeter, store: Store
) -> None:
    def attempt(store: Store, perimeter: Perimeter) -> None:
        raise silence("nothing came back")

    with pytest.raises(silence, match="nothing came back; or it allows no delegation"):
        Session(store, touched, ("web",)).first(attempt)


def test_nothing_of_it_is_written_and_its_slots_are_its_own(touched: Perimeter, store: Store) -> None:
    before = store.load("office")
    session = Session(store, touched, ("web",))
    session.store.save(replace(session.fresh(touched), slots=9))
    assert store.load("office") == before
    device, own = store.memory("office").slots, session.store.memory("office").slots
    taken = {own.claim(NOW_MS) for _ in range(16)}
    assert {device.claim(NOW_MS) for _ in range(16)} == taken == set(range(16))
    store.remove("office")
    assert not list(store.folder.glob(".state/office"))


def test_one_session_serves_several_leases(touched: Perimeter, signer: Touched, store: Store) -> None:
    session = Session(store, touched, ("web",), 3600)
    certificates = {session.first(lambda store, perimeter: certificate_of(perimeter)) for _ in range(3)}
    assert (len(certificates), signer.touches) == (1, 1)


def test_any_other_key_knocks_itself(office: Perimeter, store: Store) -> None:
    session = Session(store, office, ())
    assert session.first(lambda store, perimeter: (store, perimeter)) == (store, office)
    assert session.fresh(office) is office
